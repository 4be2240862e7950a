"""The synchronous remote client: a cached resolve, against the same request and answer over one kept connection.

The floor is the standard library's blocking client, which neither reads the answer into a result nor could be used by
another thread meanwhile; both ask the same process.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable
from time import perf_counter_ns

from benchmarks.blocks import Comparison, compare
from benchmarks.extent import Extent
from benchmarks.http import serving
from benchmarks.results import Row, Target
from benchmarks.served import KEY
from muxi_identity.client.synchronous import FormationClient

_TARGET = Target("median", 1_000)
_KEYS = 100


async def measure(extent: Extent) -> list[Row]:
    """Measure against a server on each database."""
    return [await _measure(database, extent) for database in extent.databases]


async def _measure(database: str, extent: Extent) -> Row:
    async with serving(database, quick=extent.quick) as port:
        found = await asyncio.to_thread(_side_by_side, port, extent.blocks)
    note = "the same request by http.client over one connection"
    return Row.of("cached resolve, remote FormationClient", database, found, _TARGET, note)


def _side_by_side(port: int, blocks: int) -> Comparison:
    """Measure on a thread of its own, as a program without an event loop would call it."""
    people = [f"person{number}@example.com" for number in range(_KEYS)]
    bare = _Bare(port)
    with FormationClient(url=f"http://127.0.0.1:{port}", client_key=KEY) as client:
        for person in people:
            client.resolve_user(person, create_user=True)
        found = asyncio.run(
            compare(lambda: _block(client.resolve_user, people), lambda: _block(bare.resolve, people), blocks)
        )
    bare.close()
    return found


async def _block(call: Callable[[str], object], people: list[str]) -> list[float]:
    times = []
    for person in people:
        begun = perf_counter_ns()
        call(person)
        times.append((perf_counter_ns() - begun) / 1000)
    return times


class _Bare:
    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def resolve(self, person: str) -> None:
        headers = {"X-Muxi-Client-Key": KEY, "Content-Type": "application/json"}
        self._connection.request("POST", "/v1/users/resolve", json.dumps({"identifier": person}), headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(content.decode("utf-8", "replace")[:500])

    def close(self) -> None:
        self._connection.close()
