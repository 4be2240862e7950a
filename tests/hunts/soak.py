"""The soak: rounds of everything that opens something, over and over, and what is held after each."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from muxi_identity import AsyncFormationClient, FormationClient
from muxi_identity.config import FormationConfig
from tests.hunts.levels import Held, connections, files_and_threads, memory, settled, slope
from tests.server.places import ADMIN, ADMIN_KEY, CLIENT_KEY, user

MOST_CACHED = 32
_NAMES = [(f"p{number}", "internal") for number in range(4)]


@dataclass
class Soaked:
    """What was held after each round, and in memory (kB). The first rounds warm up and do not count."""

    held: list[Held] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{len(self.memory)} rounds, held {set(self.held)}, memory {self.memory[0]} to {self.memory[-1]} kB,"
            f" {slope(self.memory):+.1f} kB a round, in the second half"
            f" {slope(self.memory[len(self.memory) // 2 :]):+.1f}"
        )


async def soak(
    flood: Callable[[], Awaitable[None]],
    round_: Callable[[int], Awaitable[None]],
    count: Callable[[], Awaitable[Held]],
    pid: int,
    *,
    warm: int,
    seconds: float,
) -> Soaked:
    """Open all that may be open at once by ``flood``, do ``warm`` rounds, and then at least three, for ``seconds``.

    What is held may rise once, as where a busy machine never had all of a pool at work before; what leaks rises again.
    """
    await flood()
    for number in range(warm):
        await round_(number)
    wanted = await settled(count, None)
    soaked = Soaked()
    until, number, rises = time.monotonic() + seconds, warm, 0
    while time.monotonic() < until or len(soaked.held) < 3:
        await round_(number)
        number += 1
        soaked.held.append(await settled(count, wanted))
        gc.collect()
        soaked.memory.append(memory(pid))
        if not soaked.held[-1].fits(wanted):
            assert not rises, f"after {number} rounds {soaked.held[-1]} are held, and {wanted} before"
            wanted, rises = soaked.held[-1], 1
    return soaked


class Embedded:
    """Rounds through a client in this process."""

    def __init__(self, client: AsyncFormationClient, config: FormationConfig) -> None:
        self._client = client
        self._config = config

    async def count(self) -> Held:
        connected = await connections(self._config)
        return Held(*files_and_threads(os.getpid()), len(asyncio.all_tasks()), connected)

    async def flood(self) -> None:
        """Do much at once: what is opened as it is needed is open then."""
        names = [(f"f{number}", "internal") for number in range(16)]
        for _ in range(2):
            await asyncio.gather(*(self._client.chat("My budget is $5,000", user_id=name) for name in names))
            await asyncio.gather(*(self._client.get_user_context(name) for name in names))
            await asyncio.gather(*(self._client.delete_user(name) for name in names))

    async def round(self, number: int) -> None:
        await self._use()
        await self._join_and_part(number)
        await self._leave()
        await self._come_and_go()
        assert self._client.cache_info["identifiers"] <= MOST_CACHED
        assert self._client.cache_info["members"] <= MOST_CACHED

    async def _use(self) -> None:
        client = self._client
        for name in _NAMES:
            await client.chat("My budget is $5,000", user_id=name)
            await client.find_user(name)
            await client.get_user_context(name, query="budget")
            kept = await client.add_memory(name, "Allergic to peanuts")
            await client.delete_memory(kept["memory_id"], name)
            await client.set_preference(name, "language", "pt")
            async for _ in client.chat_stream("What's my budget?", user_id=name):
                pass

    async def _join_and_part(self, number: int) -> None:
        client = self._client
        one, other, third, *_ = _NAMES
        for part in range(8):  # more people than the cache holds, before long
            new = (f"x{number}-{part}", "crm")
            await client.associate_user_identifiers([one, new])
            await client.find_user(new)
            await client.unlink_user_identifier(new)
        merged = await client.merge_users(one, other)
        await client.find_user(other)
        await client.unmerge_users(merged["merge_id"])
        new = (f"y{number}", "crm")
        await client.associate_user_identifiers([third, new])
        await client.split_user(third, [new])
        await client.delete_user(new)

    async def _leave(self) -> None:
        """Go away in the middle of things."""
        for turns in range(4):
            stream = self._client.chat_stream("What's my budget?", user_id=_NAMES[0])
            async with stream:
                await anext(stream)
            turn = asyncio.create_task(self._client.chat("Hello!", user_id=_NAMES[turns]))
            for _ in range(turns * 2):
                await asyncio.sleep(0)
            turn.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await turn

    async def _come_and_go(self) -> None:
        async with AsyncFormationClient(self._config) as other:
            await other.find_user(_NAMES[0])

        def synchronous() -> None:
            with FormationClient(self._config) as client:
                client.resolve_user(_NAMES[0])

        await asyncio.to_thread(synchronous)


class Served:
    """Rounds over HTTP: as any client makes them, and through the remote client."""

    def __init__(self, url: str, pid: int, config: FormationConfig) -> None:
        self._url = url
        self._pid = pid
        self._config = config

    async def count(self) -> Held:
        return Held(*files_and_threads(self._pid), 0, await connections(self._config))

    async def flood(self) -> None:
        """Do much at once: what is opened as it is needed is open then."""
        async with self._remote() as client:
            await Embedded(client, self._config).flood()

    async def round(self, number: int) -> None:
        await asyncio.gather(*(self._plainly(number, each) for each in range(4)))
        async with self._remote() as client:
            rounds = Embedded(client, self._config)
            await rounds._use()
            await rounds._join_and_part(number)

        def synchronous() -> None:
            with FormationClient(url=self._url, client_key=CLIENT_KEY, admin_key=ADMIN_KEY) as client:
                client.resolve_user(_NAMES[0])

        await asyncio.to_thread(synchronous)

    def _remote(self) -> AsyncFormationClient:
        return AsyncFormationClient(url=self._url, client_key=CLIENT_KEY, admin_key=ADMIN_KEY)

    async def _plainly(self, number: int, each: int) -> None:
        name = f"p{each}"
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as http:
            hello = {"message": "My budget is $5,000"}
            headers = user(name, "internal")
            for _ in range(5):
                (await http.post("/v1/chat", json=hello, headers=headers)).raise_for_status()
            answer = await http.post("/v1/users/resolve", json={"identifier": name}, headers=headers)
            answer.raise_for_status()
            async with http.stream("GET", "/v1/events", headers=headers) as events:
                lines = events.aiter_lines()
                await anext(lines)
                (await http.post("/v1/chat", json=hello, headers=headers)).raise_for_status()
                await anext(lines)
            async with http.stream("POST", "/v1/chat", json={**hello, "stream": True}, headers=headers) as reply:
                await anext(reply.aiter_lines())  # and goes away
            refused = await http.post("/v1/users/resolve", json={"identifier": f"z{number}"}, headers=ADMIN)
            assert refused.status_code == 404
