"""Who the scenarios are run against: engine, embedded client and remote client, each called in the same way."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from muxi_identity import (
    AsyncFormationClient,
    FormationClient,
    ModelError,
    ModelTimeoutError,
    ModelUnavailableError,
    MuxiError,
    Response,
    Secret,
    Turn,
)
from muxi_identity.config import FormationConfig
from muxi_identity.conversation.offline import OfflineResponder
from muxi_identity.server.app import create_app
from muxi_identity.server.running import FormationServer, Settings, bind
from tests.contract.engine import EngineCalls
from tests.server.places import ADMIN_KEY, CLIENT_KEY, with_keys

PARTIES = ("engine", "embedded", "embedded, sync", "remote", "remote, sync")
"""The synchronous clients work on PostgreSQL, all others on SQLite: so each kind is held against either database."""


class Failing(OfflineResponder):
    """Answers, but for the messages that name an error."""

    def __init__(self) -> None:
        super().__init__()
        self._errors: dict[str, MuxiError] = {
            "fail": ModelError("The model talks nonsense."),
            "busy": ModelUnavailableError("The model is overloaded."),
            "busy a while": ModelUnavailableError("The model is overloaded.", retry_after=30),
            "busy who knows": ModelUnavailableError("The model is overloaded.", retry_after=None),
            "late": ModelTimeoutError("The model did not answer in time."),
        }

    async def respond(self, turn: Turn) -> Response:
        error = self._errors.get(turn.message)
        if error is not None:
            raise type(error)(error.message, **error.details)
        return await super().respond(turn)


class Calls:
    """A client whose calls are all awaited, and noted: the scenarios are written once."""

    def __init__(self, party: str, client: Any, note: Callable[[str, str | None], None]) -> None:
        self.party = party
        self._client = client
        self._note = note

    def channel(self, type: str, *, scope: str | None = None) -> Calls:
        self._note("channel", None)
        try:
            return Calls(self.party, self._client.channel(type, scope=scope), self._note)
        except MuxiError as error:
            self._note("channel", type_name(error))
            raise

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._client, name)
        if not callable(call):
            self._note(name, None)
            return lambda: call

        async def run(*arguments: Any, **named: Any) -> Any:
            self._note(name, None)
            try:
                if name == "export_users":
                    return await self._all(call)
                if name == "chat_stream":
                    return await self._stream(call, *arguments, **named)
                if self.party.endswith("sync"):
                    return await asyncio.to_thread(call, *arguments, **named)
                return await call(*arguments, **named)
            except MuxiError as error:
                self._note(name, type_name(error))
                raise

        return run

    async def _stream(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        stream = call(*arguments, **named)
        if self.party.endswith("sync"):
            text = await asyncio.to_thread(lambda: "".join(stream))
        else:
            text = "".join([piece async for piece in stream])
        return [text, stream.reply]

    async def _all(self, call: Callable[..., Any]) -> Any:
        if self.party.endswith("sync"):
            rows = await asyncio.to_thread(lambda: list(call()))
        else:
            rows = [row async for row in call()]
        return sorted(rows, key=lambda row: str(row["identifiers"]))  # in whatever order the database has them


def type_name(error: BaseException) -> str:
    return type(error).__name__


class Served:
    """Formations behind a real server on the loopback address, on a thread of its own."""

    def __init__(
        self, *configs: FormationConfig, port: int = 0, settings: Settings | None = None, **options: Any
    ) -> None:
        self.app = create_app([with_keys(config) for config in configs], run_tasks=False, **options)
        self._socket = bind("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.server = FormationServer(self.app, settings or Settings())
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self.server.serve(sockets=[self._socket]))

    def __enter__(self) -> Served:
        self._thread.start()
        self._socket.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    def arguments(self) -> dict[str, Any]:
        """Return what a client with both keys is made with."""
        return {"url": self.url, "admin_key": ADMIN_KEY, "client_key": CLIENT_KEY}


@contextlib.contextmanager
def served(*configs: FormationConfig, port: int = 0, **options: Any) -> Iterator[Served]:
    with Served(*configs, port=port, **options) as place:
        yield place


@contextlib.asynccontextmanager
async def parties(
    folder: Path, new_database: Callable[[], str], note: Callable[[str, str, str | None], None]
) -> AsyncIterator[dict[str, Calls]]:
    """Open everybody, each with a formation of its own, all of them called ``contract``.

    ``new_database`` makes an empty database on a PostgreSQL and returns its address.
    """

    def config(name: str, *, postgres: bool = False) -> FormationConfig:
        place = folder / name
        place.mkdir()
        persistent = {"provider": "sqlite", "connection_string": str(place / "muxi.db")}
        if postgres:
            persistent = {"provider": "postgres", "connection_string": new_database()}
        config = FormationConfig.from_mapping(
            {
                "id": "contract",
                "memory": {"persistent": persistent},
                "identity": {
                    "max_identifiers_per_user": 5,
                    "types": {"pat": {"secret": True}, "rare": {"max_per_user": 1}},
                    "refuse": {"add": ["refused"]},
                },
            },
            base=place,
        )
        return dataclasses.replace(config, secret_key=Secret("k" * 40))

    def calls(party: str, client: Any) -> Calls:
        return Calls(party, client, lambda name, error: note(party, name, error))

    engine = AsyncFormationClient(config("engine"), responder=Failing())
    embedded = AsyncFormationClient(config("embedded"), responder=Failing())
    blocking = FormationClient(config("blocking", postgres=True), responder=Failing())
    with (
        served(config("remote"), responder=Failing()) as one,
        served(config("other", postgres=True), responder=Failing()) as other,
    ):
        remote = AsyncFormationClient(**one.arguments(), actor="embedded")
        remote_blocking = FormationClient(**other.arguments(), actor="embedded")
        try:
            formation: Any = await engine._formation()
            yield {
                "engine": calls("engine", EngineCalls(formation)),
                "embedded": calls("embedded", embedded),
                "embedded, sync": calls("embedded, sync", blocking),
                "remote": calls("remote", remote),
                "remote, sync": calls("remote, sync", remote_blocking),
            }
        finally:
            for each in (engine, embedded, remote):
                await each.close()
            await asyncio.to_thread(blocking.close)
            await asyncio.to_thread(remote_blocking.close)


_ID = re.compile(r"\b(usr|mem|evt|ses|tsk|cred|crd|req|run|mrg)_[A-Za-z0-9]{12,}\b")
_TIME = re.compile(r"\b20\d\d-\d\d-\d\d(T\d\d:\d\d:\d\d\.\d{6}Z| \d\d:\d\d:\d\d UTC)")
_CURSOR = re.compile(r'"[A-Za-z0-9_-]{42,44}=*"')


def normal(outcome: object) -> Any:
    """Return an outcome without what differs from one formation to the next: ids, times and cursors."""
    names: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"<{found[1]} {len(names)}>")

    text = json.dumps(outcome, ensure_ascii=False, default=_plain)
    text = _CURSOR.sub('"<cursor>"', _TIME.sub("<time>", _ID.sub(name, text)))
    return json.loads(text, parse_float=lambda number: round(float(number), 3), object_hook=_without_scores)


def _without_scores(told: dict[str, Any]) -> dict[str, Any]:
    """Leave out how well a memory fits: each database has a way of its own to reckon it."""
    return {name: value is not None if name == "score" else value for name, value in told.items()}


def _plain(value: object) -> Any:
    if isinstance(value, MuxiError):
        return {
            "error": type_name(value),
            "code": value.code,
            "retryable": value.retryable,
            "message": value.message,
            "details": json.loads(json.dumps(dict(value.details), default=str)),
        }
    if isinstance(value, tuple | set):
        return list(value)
    raise TypeError(f"{value!r} is no result of a call")
