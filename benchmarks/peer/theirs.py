"""Run blocks of calls of the installed `muxi-runtime`; run by the Python that it is installed for, and by no other.

Argument: the URL of an empty PostgreSQL database. Reads one JSON object a line, answers with one: ``{"do": "resolve",
"names": [...]}`` with what each call took in microseconds, "race" with how many users one name made, "serve" with a
port.
The calls are the ones that its own routes make: without its key-value cache, which they leave out.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from time import perf_counter_ns
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import FastAPI
from sqlalchemy import text

from muxi.runtime.formation.server.routes.client.users import router
from muxi.runtime.services.db import DatabaseManager
from muxi.runtime.services.memory.long_term import User, UserIdentifier
from muxi.runtime.utils.user_resolution import associate_user_identifiers, resolve_user_identifier

_FORMATION = "bench"
_KINDS = ("slack", "github", "telegram", "discord", "internal")


class Peer:
    def __init__(self, url: str) -> None:
        self._database = DatabaseManager(url)
        User.metadata.create_all(self._database.engine, tables=[User.__table__, UserIdentifier.__table__])
        self._serving: asyncio.Task[None] | None = None

    async def answer(self, asked: dict[str, Any]) -> Any:
        names = asked.get("names", [])
        match asked["do"]:
            case "resolve" | "create":
                return [await _timed(self._resolve(name)) for name in names]
            case "concurrent":
                return [await _timed(_all([self._resolve(name) for name in names]))]
            case "associate":
                return [await _timed(self._associate(name)) for name in names]
            case "race":
                return await self._race(names[0], asked["callers"])
            case _:
                return await self._serve()

    async def _resolve(self, name: str) -> object:
        return await resolve_user_identifier(name, _FORMATION, self._database, None)

    async def _associate(self, name: str) -> None:
        five = [(f"{kind}-{name}", kind) for kind in _KINDS]
        await associate_user_identifiers(five, None, _FORMATION, self._database, None)

    async def _race(self, name: str, callers: int) -> dict[str, int]:
        before = await self._users()
        found = await asyncio.gather(*(self._resolve(name) for _ in range(callers)), return_exceptions=True)
        refused = sum(isinstance(each, BaseException) for each in found)
        return {"users": await self._users() - before, "refused": refused}

    async def _users(self) -> int:
        async with self._database.get_async_session() as session:
            return int((await session.execute(text("SELECT count(*) FROM users"))).scalar_one())

    async def _serve(self) -> int:
        """Serve its own route, without the gate before it, which would ask for a whole formation."""
        app = FastAPI()
        app.include_router(router, prefix="/v1")
        app.state.formation = SimpleNamespace(
            formation_id=_FORMATION, _overlord=SimpleNamespace(db_manager=self._database)
        )
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None))
        self._serving = asyncio.create_task(server.serve([listener]))
        return int(listener.getsockname()[1])


async def _timed(work: Any) -> float:
    begun = perf_counter_ns()
    await work
    return (perf_counter_ns() - begun) / 1000


async def _all(work: list[Any]) -> None:
    await asyncio.gather(*work)


async def main(url: str) -> None:
    # Whatever the package prints must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    peer = Peer(url)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await peer.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
