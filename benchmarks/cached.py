"""Cached resolve: no thread, no await, no database. The floors are the dictionaries below it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter_ns

from cachebox import LRUCache

from benchmarks.blocks import Comparison, compare
from benchmarks.places import Place
from benchmarks.results import Row, Target
from benchmarks.seeding import given
from muxi_identity.client.operations import Given
from muxi_identity.client.synchronous import FormationClient

_TARGET = Target("median", 1.0)
_KEYS = 100
_ROUNDS = 10
Call = Callable[[Given], object]


async def measure(place: Place, blocks: int) -> list[Row]:
    """Measure both clients. Each time is the mean over a thousand calls in a row, the loop included."""
    known = [given(number) for number in range(_KEYS)]
    stored: LRUCache[object, object] = LRUCache(1_000_000)
    for key in known:
        stored.insert(key, key)
    note = "one cachebox get"

    with FormationClient(place.config) as client:
        found = await asyncio.to_thread(_side_by_side, client.resolve_user, stored.get, known, blocks)
    rows = [Row.of("cached resolve, FormationClient", place.database, found, _TARGET, note)]

    for key in known:
        await place.client.resolve_user(key)

    async def ours() -> list[float]:
        begun = perf_counter_ns()
        for _ in range(_ROUNDS):
            for key in known:
                await place.client.resolve_user(key)
        return [_each(begun)]

    async def floor() -> list[float]:
        return [_times(stored.get, known)]

    found = await compare(ours, floor, blocks)
    return [*rows, Row.of("cached resolve, AsyncFormationClient", place.database, found, _TARGET, note)]


def _side_by_side(call: Call, floor: Call, known: list[Given], blocks: int) -> Comparison:
    """Measure on a thread of its own, as a program without an event loop would call it."""

    async def ours() -> list[float]:
        return [_times(call, known)]

    async def theirs() -> list[float]:
        return [_times(floor, known)]

    return asyncio.run(compare(ours, theirs, blocks))


def _times(call: Call, known: list[Given]) -> float:
    begun = perf_counter_ns()
    for _ in range(_ROUNDS):
        for key in known:
            call(key)
    return _each(begun)


def _each(begun: int) -> float:
    return (perf_counter_ns() - begun) / (1000 * _ROUNDS * _KEYS)
