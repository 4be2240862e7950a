"""Merge and unmerge of users with much and with little, and reads of a person made of many."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

from sqlalchemy import Connection, text

from benchmarks.blocks import Block, compare, timed
from benchmarks.places import Place
from benchmarks.results import Row, Target
from benchmarks.round_trips import count_round_trips
from muxi_identity.client.asynchronous import AsyncFormationClient

SIZES = (10_000, 1_000_000)
QUICK_SIZES = (100,)
FEW = 10
MEMBERS = (1, 2, 8, 32)
QUICK_MEMBERS = (1, 2)
_BLOCK = 5
_MEMORIES = 100  # of each member
_BEGAN = 1_700_000_000_000_000
_numbers = itertools.count()
# Messages: what a person has most of.
_MESSAGES = """
INSERT INTO muxi_messages (formation_id, pk, user_pk, identifier_pk, session_pk, role, content, created_at)
SELECT :formation_id, CAST(:first AS BIGINT) + n, s.user_pk, s.identifier_pk, s.pk,
       'user', 'Message number ' || n, CAST(:began AS BIGINT) + n
  FROM muxi_sessions s, {numbers}
 WHERE s.formation_id = :formation_id AND s.session_id = :session_id"""
_NUMBERS = {
    "postgresql": "generate_series(1, :number) AS n",
    "sqlite": "(WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < :number)"
    " SELECT n FROM counted)",
}


async def measure(place: Place, blocks: int) -> list[Row]:
    """Merge and unmerge two users, beside the same of two users with ten rows each; then reads."""
    found = []
    few = await _pair(place, FEW)
    for size in SIZES if blocks > 2 else QUICK_SIZES:
        many = await _pair(place, size)
        merges: dict[tuple[str, str], str] = {}
        note = f"the same with {FEW} rows each"
        for kind, step in (("merge", _merge), ("unmerge", _unmerge)):
            comparison = await compare(step(place, many, merges), step(place, few, merges), blocks)
            path = f"{kind} of users with {size:,} rows each"
            found.append(Row.of(path, place.database, comparison, Target("ratio", 1.2), note))
    return found + await _measure_reads(place, blocks)


Pair = tuple[str, str]


def _merge(place: Place, pair: Pair, merges: dict[Pair, str]) -> Block:
    async def block() -> list[float]:
        times = []
        for _ in range(_BLOCK):
            if pair in merges:
                await place.client.unmerge_users(merges.pop(pair))
            times.append(await timed(lambda: place.client.merge_users(*pair)))
            merges[pair] = (await place.client.merge_users(*pair))["merge_id"]  # the same two: the same answer
        return times

    return block


def _unmerge(place: Place, pair: Pair, merges: dict[Pair, str]) -> Block:
    async def block() -> list[float]:
        times = []
        for _ in range(_BLOCK):
            if pair not in merges:
                merges[pair] = (await place.client.merge_users(*pair))["merge_id"]
            merge_id = merges.pop(pair)
            times.append(await timed(lambda merge_id=merge_id: place.client.unmerge_users(merge_id)))
        return times

    return block


async def _measure_reads(place: Place, blocks: int) -> list[Row]:
    """``get_user_context`` of a person with 1, 2, 8 and 32 members."""
    sizes, memories = (MEMBERS, _MEMORIES) if blocks > 2 else (QUICK_MEMBERS, 5)
    people = {number: await _person(place, number, memories) for number in sizes}
    alone = _loads(place, people[1])
    rows = []
    for number, who in people.items():
        comparison = await compare(_loads(place, who), alone, blocks)
        trips = await count_round_trips(place, _load(who))
        path = f"context load, {number} member{'s' if number > 1 else ''}"
        rows.append(Row.of(path, place.database, comparison, None, "the same of a person with one member", trips))
    return rows


def _load(who: str) -> Callable[[AsyncFormationClient], Awaitable[object]]:
    return lambda client: client.get_user_context(who)


def _loads(place: Place, who: str) -> Block:
    async def block() -> list[float]:
        return [await timed(lambda: place.client.get_user_context(who)) for _ in range(_BLOCK)]

    return block


async def _pair(place: Place, size: int) -> Pair:
    names = tuple(f"merged{next(_numbers)}@example.com" for _ in range(2))
    for name in names:
        await _fill(place, name, size)
    return names[0], names[1]


async def _fill(place: Place, name: str, size: int) -> None:
    """Give somebody ``size`` messages, all in one session."""
    session_id = f"session of {name}"
    await place.client.record_turn(name, [{"role": "user", "content": "Hello!"}], session_id=session_id)

    def work(connection: Connection) -> None:
        dialect = place.formation.database.dialect
        keys = place.formation.database.new_keys(connection, place.config.id, 1)
        values = {
            "formation_id": place.config.id,
            "first": (keys[0] << 32),  # far from every key that is drawn
            "began": _BEGAN,
            "session_id": session_id,
            "number": size,
        }
        connection.execute(text(_MESSAGES.format(numbers=_NUMBERS[dialect])), values)

    await place.formation.database.transact(work)
    await place.formation.database.transact(lambda connection: connection.execute(text("ANALYZE")))


async def _person(place: Place, members: int, memories: int) -> str:
    """Make a person of ``members`` users, each with so many memories."""
    names = [f"member{next(_numbers)}@example.com" for _ in range(members)]
    for name in names:
        known = [f"Knows number {number} of {name}" for number in range(memories)]
        await place.client.record_turn(name, [], memories=known)
    for name in names[1:]:
        await place.client.merge_users(names[0], name)
    return names[0]
