"""First contact and linking five identifiers, beside a bare insert of the same rows with its commit."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator

from benchmarks.blocks import Block, compare, timed
from benchmarks.floors import rows
from benchmarks.places import Place
from benchmarks.results import Row, Target
from benchmarks.round_trips import count_round_trips
from benchmarks.seeding import public_id
from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.client.operations import Given

_BLOCK = 20
_FIVE = 5
_numbers = itertools.count()
Call = Callable[[AsyncFormationClient], Awaitable[object]]


async def measure_first_contact(place: Place, blocks: int) -> list[Row]:
    """``resolve_user(..., create_user=True)`` of somebody unknown."""

    def ours(client: AsyncFormationClient) -> Awaitable[object]:
        return client.resolve_user(f"new{next(_numbers)}@example.com", create_user=True)

    note = "insert of the same 4 rows, commit"
    return [await _beside(place, blocks, "first contact", ours, _inserts(place, 1), 1.3, note)]


async def measure_associate(place: Place, blocks: int) -> list[Row]:
    """Five unknown identifiers to a new user, five to a given one, and five that are linked already."""
    strangers = _seeded_ids(place)
    owner = rows(1)
    await place.floor.insert(owner)

    def to_new(client: AsyncFormationClient) -> Awaitable[object]:
        return client.associate_user_identifiers(_five(), source="bench")

    def to_given(client: AsyncFormationClient) -> Awaitable[object]:
        return client.associate_user_identifiers(_five(), next(strangers), source="bench")

    known = _five()
    await place.client.associate_user_identifiers(known)

    def again(client: AsyncFormationClient) -> Awaitable[object]:
        return client.associate_user_identifiers(known)

    async def read_five() -> None:
        for bucket in buckets:
            await place.floor.look_up(bucket)

    async def five_reads() -> list[float]:
        return [await timed(read_five) for _ in range(_BLOCK)]

    buckets = [place.bucket(str(each[0])) for each in known]
    return [
        await _beside(
            place,
            blocks,
            "associate 5, new user",
            to_new,
            _inserts(place, _FIVE),
            1.5,
            "insert of the same 12 rows, commit",
        ),
        await _beside(
            place,
            blocks,
            "associate 5, given user",
            to_given,
            _inserts(place, _FIVE, owner.user_pk),
            1.5,
            "insert of the same 10 rows, commit",
        ),
        await _beside(place, blocks, "associate 5, all known", again, five_reads, None, "five look-ups"),
    ]


async def _beside(
    place: Place,
    blocks: int,
    path: str,
    ours: Call,
    floor: Block,
    bound: float | None,
    note: str,
) -> Row:
    async def our_block() -> list[float]:
        return [await timed(lambda: ours(place.client)) for _ in range(_BLOCK)]

    found = await compare(our_block, floor, blocks)
    target = None if bound is None else Target("ratio", bound)
    return Row.of(path, place.database, found, target, note, await count_round_trips(place, ours))


def _inserts(place: Place, identifiers: int, user_pk: int | None = None) -> Block:
    async def block() -> list[float]:
        made = [rows(identifiers, user_pk) for _ in range(_BLOCK)]
        return [await timed(lambda each=each: place.floor.insert(each)) for each in made]

    return block


def _five() -> list[tuple[str, str]]:
    number = next(_numbers)
    kinds = ("slack", "github", "telegram", "discord", "internal")
    return [(f"{kind}-{number}", kind) for kind in kinds]


def _seeded_ids(place: Place) -> Iterator[Given]:
    """Public ids in turn: nobody is near the limit of identifiers a person."""
    return (public_id(number) for number in itertools.cycle(range(place.people)))
