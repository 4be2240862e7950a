"""Clients of a server that is killed under them: each writes through HTTP, and keeps a diary of what it was told."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx

from tests.hunts.diary import ACKNOWLEDGED, UNKNOWN, Diary
from tests.server.places import ADMIN, user

_SECONDS = 60.0
_TURNS_A_SESSION = 10
Sent = tuple[str, str, dict[str, Any], dict[str, str]]


class Place:
    """Where the server is now; ``up`` while it is said to answer."""

    def __init__(self) -> None:
        self.url = ""
        self.up = asyncio.Event()
        self.over = False


class Client:
    """One client with a person of its own, so that it knows what must be true of it."""

    def __init__(self, number: int, place: Place, diary: Diary, seed: int) -> None:
        self.unknown: list[tuple[Sent, str]] = []
        """Requests of unknown outcome, each with the token that it was to write."""
        self._name = f"c{number}"
        self._place = place
        self._diary = diary
        self._random = random.Random(seed * 1000 + number)
        self._count = 0
        self._known = False  # by its type: named bare before that, it would be somebody else
        self._linked: list[str] = []
        self._merges: list[str] = []

    async def run(self) -> None:
        """Write until it is over."""
        kinds = [self._chat, self._remember, self._prefer, self._link, self._unlink, self._merge, self._unmerge]
        async with httpx.AsyncClient(timeout=_SECONDS) as http:
            while True:
                await self._place.up.wait()
                if self._place.over:
                    return
                if not self._known:
                    await self._chat(http)
                    continue
                (kind,) = self._random.choices(kinds, [5, 4, 2, 2, 1, 1, 1])
                await kind(http)

    async def _send(
        self, http: httpx.AsyncClient, method: str, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[str, Any]:
        """Send a request, and return how it ended with what it brought."""
        self._count += 1
        headers = {**headers, "X-Muxi-Idempotency-Key": f"{self._name}-{self._count}"}
        self._sent: Sent = (method, path, body, headers)
        try:
            response = await http.request(method, self._place.url + path, json=body, headers=headers)
        except httpx.TransportError:
            self._diary.counts["broken connections"] += 1
            await asyncio.sleep(0.05)
            return self._ended(UNKNOWN, None)
        if response.status_code in {200, 201}:
            return self._ended(ACKNOWLEDGED, response.json()["data"])
        code = response.json()["code"]
        self._diary.counts[f"answered {response.status_code} {code}"] += 1
        if response.status_code == 503:
            await asyncio.sleep(0.05)
        return self._ended(UNKNOWN, None)

    def _ended(self, outcome: str, data: Any) -> tuple[str, Any]:
        self._diary.counts[outcome] += 1
        return outcome, data

    def _token(self) -> str:
        return f"Wrote down token-{self._name}-{self._count}"

    async def _chat(self, http: httpx.AsyncClient) -> None:
        token = self._token()
        body = {"message": token, "session_id": f"s{self._count // _TURNS_A_SESSION}"}
        outcome, _ = await self._send(http, "POST", "/v1/chat", body, user(self._name, "internal"))
        self._wrote(token, "messages", outcome)
        self._known |= outcome == ACKNOWLEDGED

    async def _remember(self, http: httpx.AsyncClient) -> None:
        token = self._token()
        outcome, _ = await self._send(http, "POST", "/v1/memories", {"detail": token}, user(self._name, "internal"))
        self._wrote(token, "memories", outcome)

    def _wrote(self, token: str, table: str, outcome: str) -> None:
        self._diary.written[token] = (table, outcome)
        if outcome == UNKNOWN:
            self.unknown.append((self._sent, token))

    async def _prefer(self, http: httpx.AsyncClient) -> None:
        value = f"v{self._count}"
        path = f"/v1/users/{self._name}/preferences/colour"
        outcome, _ = await self._send(http, "PUT", path, {"value": value}, user(self._name, "internal"))
        self._diary.prefer(self._name, value, outcome)

    async def _link(self, http: httpx.AsyncClient) -> None:
        name = f"{self._name}-x{self._count}"
        body = {"identifiers": [[self._name, "internal"], [name, "crm"]]}
        outcome, _ = await self._send(http, "POST", "/v1/users/identifiers", body, ADMIN)
        self._diary.note(self._diary.linked, name, True, outcome)
        if outcome == ACKNOWLEDGED:
            self._linked.append(name)

    async def _unlink(self, http: httpx.AsyncClient) -> None:
        if self._linked:
            name = self._linked.pop()
            body = {"identifier": [name, "crm"]}
            outcome, _ = await self._send(http, "POST", "/v1/users/identifiers/unlink", body, ADMIN)
            self._diary.note(self._diary.linked, name, False, outcome)

    async def _merge(self, http: httpx.AsyncClient) -> None:
        other = f"{self._name}-y{self._count}"
        body: dict[str, Any] = {"identifiers": [[other, "crm"]]}
        outcome, _ = await self._send(http, "POST", "/v1/users/identifiers", body, ADMIN)
        self._diary.note(self._diary.linked, other, True, outcome)
        if outcome == ACKNOWLEDGED:
            body = {"primary": [self._name, "internal"], "secondary": [other, "crm"]}
            outcome, data = await self._send(http, "POST", "/v1/users/merge", body, ADMIN)
            if outcome == ACKNOWLEDGED:
                self._merges.append(data["merge_id"])
                self._diary.note(self._diary.standing, data["merge_id"], True, outcome)

    async def _unmerge(self, http: httpx.AsyncClient) -> None:
        if self._merges:
            merge_id = self._merges.pop()
            outcome, _ = await self._send(http, "POST", f"/v1/users/merges/{merge_id}/undo", {}, ADMIN)
            self._diary.note(self._diary.standing, merge_id, False, outcome)

    async def ask_again(self) -> None:
        """Send every write of unknown outcome again, under its own key: it must not be done twice."""
        async with httpx.AsyncClient(timeout=_SECONDS) as http:
            for (method, path, body, headers), token in self.unknown:
                response = await http.request(method, self._place.url + path, json=body, headers=headers)
                if response.status_code in {200, 201}:
                    self._diary.counts["acknowledged when asked again"] += 1
                    self._diary.written[token] = (self._diary.written[token][0], ACKNOWLEDGED)
                else:
                    code = response.json()["code"]
                    self._diary.counts[f"answered {response.status_code} {code}, asked again"] += 1
