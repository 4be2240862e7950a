"""Uncached resolve: identifiers that the database has and the cache has not, one at a time and 256 at once."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns

from benchmarks.blocks import compare, timed
from benchmarks.places import Place
from benchmarks.results import Row, Target
from benchmarks.seeding import given
from muxi_identity.client.operations import Given
from muxi_identity.identifiers import parse_identifier

_BLOCK = 50
AT_ONCE = 256


class Strangers:
    """Seeded identifiers in turn. When all had theirs, the cache is emptied, outside of what is timed."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._next = 0

    def take(self, number: int) -> list[Given]:
        if self._next + number > self._place.people:
            self._place.formation.cache.clear()
            self._next = 0
        self._next += number
        return [given(each) for each in range(self._next - number, self._next)]

    def buckets(self, number: int) -> list[bytes]:
        return [self._place.bucket(parse_identifier(each).fold) for each in self.take(number)]


async def measure_one_at_a_time(place: Place, blocks: int) -> list[Row]:
    """``resolve_user`` awaited one after the other: parsing, the bucket's HMAC and filling the cache included."""
    ours_next, floors_next = Strangers(place), Strangers(place)
    place.formation.cache.clear()

    async def ours() -> list[float]:
        return [await timed(lambda name=name: place.client.resolve_user(name)) for name in ours_next.take(_BLOCK)]

    async def floor() -> list[float]:
        return [
            await timed(lambda bucket=bucket: place.floor.look_up(bucket)) for bucket in floors_next.buckets(_BLOCK)
        ]

    before = place.formation.cache.misses
    found = await compare(ours, floor, blocks)
    assert place.formation.cache.misses - before >= blocks * _BLOCK  # the cache answered none of them
    target = Target("ratio", 1.25) if place.database == "postgres" else None
    note = "one prepared look-up of the same row" if target else "the same by sqlite3, in place"
    return [Row.of("uncached resolve, one at a time", place.database, found, target, note)]


async def measure_concurrent(place: Place, blocks: int) -> list[Row]:
    """256 at once. The times are of all 256; the ratio is that of the rates."""
    ours_next, floors_next = Strangers(place), Strangers(place)
    place.formation.cache.clear()

    async def ours() -> list[float]:
        names = ours_next.take(AT_ONCE)
        begun = perf_counter_ns()
        await asyncio.gather(*map(place.client.resolve_user, names))
        return [(perf_counter_ns() - begun) / 1000]

    async def floor() -> list[float]:
        buckets = floors_next.buckets(AT_ONCE)
        return [await timed(lambda: place.floor.look_up_all(buckets))]

    found = await compare(ours, floor, blocks)
    target = Target("ratio", 3, at_least=True) if place.database == "postgres" else None
    note = "a pool of 10 connections, a statement each" if target else "the same by sqlite3, one by one"
    path = "256 concurrent uncached resolves (ratio of the rates)"
    return [Row.of(path, place.database, found, target, note, rates=True)]
