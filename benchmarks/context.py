"""What follows the person: loading a context, searching memory, and a whole chat turn of the offline responder."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable, Iterator

from sqlalchemy import Connection, func, insert, select, text

from benchmarks.blocks import compare, timed
from benchmarks.floors import rows
from benchmarks.places import Place
from benchmarks.results import Row, Target
from benchmarks.round_trips import count_round_trips
from benchmarks.seeding import given, public_id
from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.client.operations import Given
from muxi_identity.storage.tables import identifiers, memories, users

SIZES = (10, 1_000, 10_000)
QUICK_SIZES = (10, 100)
_BLOCK = 10
_NEWEST = 20
_BATCH = 2_000
_BEGAN = 1_700_000_000_000_000
# Some hundred words, so that a search has something to tell apart: a word stands in about every fiftieth memory.
_WORDS = [
    f"{first}{second}"
    for first in ("bud", "trav", "gard", "mus", "coff", "proj", "fam", "sail", "cod", "paint")
    for second in ("get", "el", "en", "ic", "ee", "ect", "ily", "ing", "er", "o", "um", "ate", "ist", "ism", "al")
]
Call = Callable[[AsyncFormationClient], Awaitable[object]]


async def measure_load(place: Place, blocks: int) -> list[Row]:
    """``get_user_context`` of a person with 10, 1,000 and 10,000 memories."""
    found = []
    for number, size in enumerate(_sizes(blocks)):
        who, member = await _remembering(place, number, size)

        def load(client: AsyncFormationClient, who: Given = who) -> Awaitable[object]:
            return client.get_user_context(who)

        target = Target("median", 2_000) if size == SIZES[-1] else None
        path = f"context load, {size:,} memories"
        found.append(await _beside_newest(place, blocks, path, load, member, target))
    return found


async def measure_search(place: Place, blocks: int) -> list[Row]:
    """``search_memories`` for two words of a person with 10, 1,000 and 10,000 memories."""
    found = []
    words = itertools.cycle(itertools.pairwise(_WORDS))
    for number, size in enumerate(_sizes(blocks)):
        who, member = await _remembering(place, number, size)

        def search(client: AsyncFormationClient, who: Given = who) -> Awaitable[object]:
            return client.search_memories(who, " ".join(next(words)))

        found.append(await _beside_newest(place, blocks, f"memory search, {size:,} memories", search, member, None))
    return found


async def measure_chat(place: Place, blocks: int) -> list[Row]:
    """A whole turn: context, reply, both messages and a fact recorded, committed."""
    numbers = itertools.count()
    speaker = given(len(SIZES) + 1)

    def chat(client: AsyncFormationClient) -> Awaitable[object]:
        return client.chat(f"My budget is ${next(numbers)}", speaker)

    floor = rows(1)
    await place.floor.insert(floor)
    talk = await place.floor.begin_session(floor)

    async def ours() -> list[float]:
        return [await timed(lambda: chat(place.client)) for _ in range(_BLOCK)]

    async def bare() -> list[float]:
        return [await timed(lambda: place.floor.say(talk)) for _ in range(_BLOCK)]

    comparison = await compare(ours, bare, blocks)
    trips = await count_round_trips(place, chat)
    return [Row.of("chat turn, offline", place.database, comparison, None, "insert of the two messages, commit", trips)]


def _sizes(blocks: int) -> tuple[int, ...]:
    return SIZES if blocks > 2 else QUICK_SIZES


async def _beside_newest(place: Place, blocks: int, path: str, ours: Call, member: int, target: Target | None) -> Row:
    async def our_block() -> list[float]:
        return [await timed(lambda: ours(place.client)) for _ in range(_BLOCK)]

    async def floor() -> list[float]:
        return [await timed(lambda: place.floor.newest_memories(member, _NEWEST)) for _ in range(_BLOCK)]

    found = await compare(our_block, floor, blocks)
    trips = await count_round_trips(place, ours)
    return Row.of(path, place.database, found, target, "the newest 20 memories of one member", trips)


async def _remembering(place: Place, number: int, size: int) -> tuple[Given, int]:
    """Give a seeded person ``size`` memories, unless it has them already; return how to name it, and its member."""
    who = given(number)

    def work(connection: Connection) -> int:
        formation_id = place.config.id
        owner = connection.execute(
            select(users.c.pk).where(users.c.formation_id == formation_id, users.c.public_id == public_id(number))
        ).scalar_one()
        theirs = (memories.c.formation_id == formation_id) & (memories.c.user_pk == owner)
        if connection.execute(select(memories.c.pk).where(theirs).limit(1)).first() is not None:
            return int(owner)
        through = connection.execute(
            select(func.min(identifiers.c.pk)).where(
                identifiers.c.formation_id == formation_id, identifiers.c.user_pk == owner
            )
        ).scalar_one()
        made = _memories(place, connection, size, int(owner), int(through))
        while batch := list(itertools.islice(made, _BATCH)):
            connection.execute(insert(memories), batch)
        return int(owner)

    member = await place.formation.database.transact(work)
    await place.formation.database.transact(lambda connection: connection.execute(text("ANALYZE")))
    return who, member


def _memories(place: Place, connection: Connection, size: int, owner: int, through: int) -> Iterator[dict[str, object]]:
    drawn = random.Random(size)  # noqa: S311 (no secret)
    for place_in_line, pk in enumerate(place.formation.database.new_keys(connection, place.config.id, size)):
        yield {
            "formation_id": place.config.id,
            "pk": pk,
            "user_pk": owner,
            "identifier_pk": through,
            "memory_id": f"mem_seeded{pk}",
            "type": "note",
            "key": f"#{pk}",
            "content": f"Spoke of {' and '.join(drawn.sample(_WORDS, 3))} on day {place_in_line}",
            "shareable": False,
            "created_at": _BEGAN + place_in_line,
            "updated_at": _BEGAN + place_in_line,
        }
