"""The crash hunt: a server, or the database below it, is killed again and again while clients write."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from muxi_identity.config import FormationConfig
from tests.hunts.clients import Client, Place
from tests.hunts.diary import Diary
from tests.hunts.ward import Ward
from tests.invariants import check_invariants
from tests.server.places import ServerProcess, running

SERVER, BACK_END, POSTGRES, IMMEDIATE = "server", "back end", "postgres", "immediate stop"
_CLIENTS = 6
_PATIENCE = 120.0


class Crashes:
    """One run over one formation file. ``ward`` is the PostgreSQL below it, if it is one."""

    def __init__(self, file: Path, env: Mapping[str, str], ward: Ward | None, seed: int) -> None:
        self.diary = Diary()
        self._file = file
        self._env = env
        self._config = FormationConfig.load(file)
        self._ward = ward
        self._random = random.Random(seed)
        self._place = Place()
        self._clients = [Client(number, self._place, self.diary, seed) for number in range(_CLIENTS)]
        self._stack = ExitStack()
        self._server: ServerProcess

    async def run(self, victims: Sequence[str], *, patient: bool) -> list[str]:
        """Kill ``victims`` one after the other; return what is not as it was acknowledged.

        ``patient``: send what is of unknown outcome again at the end, when no claim on it is left.
        """
        await self._start()
        working = [asyncio.create_task(client.run()) for client in self._clients]
        try:
            for victim in victims:
                await self._some_more(working)
                await asyncio.sleep(self._random.uniform(0, 0.05))  # at whatever is under way then
                await self._kill(victim)
                self.diary.counts[f"kills: {victim}"] += 1
            await self._some_more(working)
            self._place.over = True
            await asyncio.wait_for(asyncio.gather(*working), _PATIENCE)
            if patient:
                await asyncio.sleep(31)  # for as long as a dead worker's claim holds
                await asyncio.gather(*(client.ask_again() for client in self._clients))
            self._server.kill()
        finally:
            for task in working:
                task.cancel()
            await asyncio.to_thread(self._stack.close)
        return await self._look()

    async def _start(self) -> None:
        def start() -> ServerProcess:
            return self._stack.enter_context(running(self._file, env=self._env))

        self._server = await asyncio.to_thread(start)
        self._place.url = self._server.url
        self._place.up.set()

    async def _kill(self, victim: str) -> None:
        if victim == SERVER:
            self._place.up.clear()
            self._server.kill()
            await asyncio.to_thread(self._stack.close)
            await check_invariants(self._config)
            await self._start()
            return
        assert self._ward is not None
        if victim == BACK_END:
            await self._ward.kill_back_end()
        else:
            await asyncio.to_thread(self._ward.kill if victim == POSTGRES else self._ward.stop_at_once)

    async def _some_more(self, working: Sequence[asyncio.Task[None]]) -> None:
        """Wait until some more was acknowledged."""
        enough = self.diary.acknowledged + self._random.randint(5, 40)
        async with asyncio.timeout(_PATIENCE):
            while self.diary.acknowledged < enough:
                for task in working:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)

    async def _look(self) -> list[str]:
        tables = await check_invariants(self._config)
        command = [sys.executable, "-m", "muxi_identity.cli", "db", "check", "--json", "--config", str(self._file)]
        checked = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, env={**os.environ, **self._env}
        )
        found = self.diary.violations(tables)
        if checked.returncode != 0:
            found.append(f"muxi db check: {checked.stdout}{checked.stderr}")
        else:
            assert json.loads(checked.stdout)["ok"]
        return found
