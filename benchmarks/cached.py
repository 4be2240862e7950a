"""Cached resolve: no thread, no await, no database. The floors are the dictionaries below it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import perf_counter_ns

from cachebox import FIFOCache

from benchmarks.blocks import Comparison, compare
from benchmarks.extent import QUICK
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
    stored: FIFOCache[object, object] = FIFOCache(1_000_000)
    for key in known:
        stored.insert(key, key)
    note = "one cachebox get"

    with FormationClient(place.config) as client:
        found = await asyncio.to_thread(_side_by_side, client.resolve_user, stored.get, known, blocks)
        # Opened just now in place of another client, it does not know what was said in between, and empties the cache
        # that it shares once the lease has run out.
        await asyncio.sleep(place.config.identity.cache.lease if blocks > QUICK.blocks else 0)
        await asyncio.to_thread(_fill, client.resolve_user, stored, place.people)
        anybody = await asyncio.to_thread(_anybody, client.resolve_user, stored.get, place.people, blocks)
    rows = [
        Row.of("cached resolve, FormationClient", place.database, found, _TARGET, note),
        Row.of("cached resolve, FormationClient, anybody", place.database, anybody, _TARGET, note),
    ]

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


def _fill(call: Call, stored: FIFOCache[object, object], people: int) -> None:
    """Have everybody remembered, off the event loop: another client of the formation listens on it."""
    for number in range(people):
        call(given(number))
        stored.insert(given(number), number)


def _anybody(call: Call, floor: Call, people: int, blocks: int) -> Comparison:
    """Measure people in no order, named in new texts as requests bring them: no core has seen them lately."""

    def some() -> list[Given]:
        return [given(number) for number in random.choices(range(people), k=_KEYS)]  # noqa: S311 (no secret)

    async def ours() -> list[float]:
        return [_once(call, some()) for _ in range(_ROUNDS)]

    async def theirs() -> list[float]:
        return [_once(floor, some()) for _ in range(_ROUNDS)]

    return asyncio.run(compare(ours, theirs, blocks))


def _once(call: Call, names: list[Given]) -> float:
    begun = perf_counter_ns()
    for name in names:
        call(name)
    return (perf_counter_ns() - begun) / (1000 * len(names))


def _times(call: Call, known: list[Given]) -> float:
    begun = perf_counter_ns()
    for _ in range(_ROUNDS):
        for key in known:
            call(key)
    return _each(begun)


def _each(begun: int) -> float:
    return (perf_counter_ns() - begun) / (1000 * _ROUNDS * _KEYS)
