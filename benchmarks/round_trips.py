"""How often a call goes to the server and back, by what the server itself logs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import asyncpg

from benchmarks.places import Place
from muxi_identity.client.asynchronous import AsyncFormationClient

_CALLS = 5
_MARK = "SELECT 'bench mark {}'"
_STATEMENT = re.compile(r"LOG:  (?:execute|statement)")


async def count_round_trips(place: Place, call: Callable[[AsyncFormationClient], Awaitable[object]]) -> float | None:
    """Return the statements that the server executes for one call, BEGIN and COMMIT included; None on SQLite.

    A client of its own, whose sessions are logged; what was measured is not.
    """
    if place.cluster is None:
        return None
    assert place.config.database.url is not None
    admin = await asyncpg.connect(place.config.database.url.reveal())
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE \"{name}\" SET log_statement = 'all'")
    await admin.close()
    marker = await asyncpg.connect(place.config.database.url.reveal())
    try:
        async with AsyncFormationClient(place.config) as client:
            for _ in range(3):  # connections are opened and statements prepared
                await call(client)
            await marker.execute(_MARK.format("begin"))
            for _ in range(_CALLS):
                await call(client)
            await marker.execute(_MARK.format("end"))
        await marker.execute(f'ALTER DATABASE "{name}" RESET log_statement')
    finally:
        await marker.close()
    return (await _logged(place)) / _CALLS


async def _logged(place: Place) -> int:
    assert place.cluster is not None
    for _ in range(100):
        log = place.cluster.log_text()
        begin, end = (log.rfind(_MARK.format(name)) for name in ("begin", "end"))
        if begin < end:
            between = log[begin:end]
            return len(_STATEMENT.findall(between)) - 1  # the end mark's own line begins before its text
        await asyncio.sleep(0.05)
    raise RuntimeError("the server logged no statements")
