"""Another process with one client, asked one thing at a time; it can be paused and killed."""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from muxi_identity import AsyncFormationClient
from muxi_identity.config import FormationConfig, Secret
from muxi_identity.errors import MuxiError
from tests.races.processes import PATIENCE, mapping_of


class Peer:
    """Another process. ``plant`` is run in it before anything else: a fault that a test wants there."""

    def __init__(self, plant: Callable[[], None] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, plant), daemon=True)
        self._process.start()
        theirs.close()
        self._paused = False

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    async def open(self, config: FormationConfig) -> None:
        """Give it a client of this formation in place of the one that it has."""
        assert config.secret_key is not None
        identity = {
            "cache": dataclasses.asdict(config.identity.cache),
            "max_identifiers_per_user": config.identity.rules.max_per_user,
        }
        self._pipe.send(("open", (mapping_of(config, identity), config.secret_key.reveal()), {}))
        await self.answer()

    async def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Return what a method (or attribute) of its client returns, or raise what it raises."""
        self.ask(method, *arguments, **options)
        return await self.answer()

    def ask(self, method: str, *arguments: Any, **options: Any) -> None:
        """Ask for a call without waiting for its answer."""
        self._pipe.send((method, arguments, options))

    async def answer(self) -> Any:
        """Return the answer to what was asked."""
        assert await asyncio.to_thread(self._pipe.poll, PATIENCE), "the other process does not answer"
        value, error, trace = self._pipe.recv()
        if trace is not None:
            raise AssertionError(trace)
        if error is not None:
            raise error
        return value

    async def who(self, given: Any) -> str | None:
        """Return whom its client takes this for."""
        found = await self.call("find_user", given)
        return None if found is None else found["muxi_user_id"]

    async def is_answered_from_memory(self, given: Any) -> None:
        """Return once it is: a lease may be on its way."""
        async with asyncio.timeout(PATIENCE):
            hits = (await self.call("cache_info"))["hits"]
            while (await self.call("cache_info"))["hits"] == hits:
                await self.who(given)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)
        self._paused = True

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def stop(self) -> None:
        if self._paused:
            self.resume()
        self._pipe.send(None)
        self._process.join(PATIENCE)
        assert self._process.exitcode == 0

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._process.kill()
        self._process.join(PATIENCE)


def _serve(pipe: Connection, plant: Callable[[], None] | None) -> None:
    if plant is not None:
        plant()
    asyncio.run(_answer(pipe))


async def _answer(pipe: Connection) -> None:
    client: AsyncFormationClient | None = None
    while (asked := await asyncio.to_thread(pipe.recv)) is not None:
        method, arguments, options = asked
        try:
            if method == "open":
                if client is not None:
                    await client.close()
                mapping, key = arguments
                config = FormationConfig.from_mapping(mapping)
                client = AsyncFormationClient(dataclasses.replace(config, secret_key=Secret(key)))
                await client.find_user("somebody")  # opens it
                pipe.send((None, None, None))
            else:
                found = getattr(client, method)
                pipe.send((await found(*arguments, **options) if callable(found) else found, None, None))
        except MuxiError as error:
            pipe.send((None, error, None))
        except Exception:  # noqa: BLE001 (the test shows it)
            pipe.send((None, None, traceback.format_exc()))
    if client is not None:
        await client.close()
