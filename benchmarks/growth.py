"""How the figures grow with the number of identifiers: each size beside ten thousand, in the same run."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable

from benchmarks.blocks import Block, compare, timed
from benchmarks.extent import Extent
from benchmarks.loading import SERVER, load
from benchmarks.places import DURABLE, Place, forgetful_cluster, open_place, started
from benchmarks.results import Row, Target
from benchmarks.seeding import given

SMALL = 10_000
LARGE = 10_000_000
UNCACHED = "uncached resolve"
PATHS = (UNCACHED, "first contact", "associate 5, new user", "list of users, 50 from anywhere", "users by prefix")
_BLOCK = 20
_numbers = itertools.count()


async def measure(extent: Extent) -> list[Row]:
    """Measure each size of ``extent.sizes`` beside :data:`SMALL`; without any, nothing."""
    return [
        row
        for database in extent.databases
        for size in extent.sizes
        for row in await _measure_size(database, size, extent)
    ]


def path_at(path: str, size: int) -> str:
    """Return what the row of a path at this size is called."""
    return f"{path}, of {size:,} identifiers"


async def _measure_size(database: str, size: int, extent: Extent) -> list[Row]:
    async with _places(database, size, min(SMALL, extent.people), extent.quick) as (large, small):
        rows = []
        for path, block in zip(PATHS, (_resolve, _first_contact, _associate, _page, _prefix), strict=True):
            # The shortest of them, and the one with a target: an interruption shows most in it.
            rounds = extent.blocks * (4 if path == UNCACHED else 1)
            found = await compare(await block(large), await block(small), rounds)
            target = Target("ratio", 1.5) if path == UNCACHED and size == LARGE else None
            rows.append(Row.of(path_at(path, size), database, found, target, f"the same of {small.people:,}"))
        return rows


@contextlib.asynccontextmanager
async def _places(database: str, size: int, small: int, quick: bool) -> AsyncIterator[tuple[Place, Place]]:
    async with contextlib.AsyncExitStack() as stack:
        cluster = None
        if database == "postgres":
            cluster = forgetful_cluster() if quick else stack.enter_context(started(**DURABLE | SERVER))
        places = [
            await stack.enter_async_context(open_place(database, number, cluster, load)) for number in (size, small)
        ]
        yield places[0], places[1]


async def _resolve(place: Place) -> Block:
    """Identifiers from anywhere in the tables, which the database's memory has or has not, as it comes."""
    chosen = random.Random(place.people)  # noqa: S311 (no secret)

    def names() -> list[object]:
        place.formation.cache.clear()
        return [given(chosen.randrange(place.people)) for _ in range(_BLOCK)]

    return _block(lambda name: place.client.resolve_user(name), names)


async def _first_contact(place: Place) -> Block:
    def names() -> list[object]:
        return [f"new{next(_numbers)}@example.com" for _ in range(_BLOCK)]

    return _block(lambda name: place.client.resolve_user(name, create_user=True), names)


async def _associate(place: Place) -> Block:
    kinds = ("slack", "github", "telegram", "discord", "internal")

    def fives() -> list[object]:
        return [[(f"{kind}-{number}", kind) for kind in kinds] for number in itertools.islice(_numbers, _BLOCK)]

    return _block(lambda five: place.client.associate_user_identifiers(five), fives)


async def _page(place: Place) -> Block:
    """Pages that begin at the oldest, and half way through: a page must not cost what lies before it."""
    page = await place.client.list_users(limit=50)
    middle = await place.client.list_users(limit=50, created_from=page["users"][0]["created_at"])
    cursors = [None, page["next_cursor"], middle["next_cursor"]]
    return _block(lambda cursor: place.client.list_users(limit=50, cursor=cursor), lambda: cursors * (_BLOCK // 3))


async def _prefix(place: Place) -> Block:
    chosen = random.Random(place.people)  # noqa: S311 (no secret)

    def beginnings() -> list[object]:
        return [f"person{chosen.randrange(0, place.people, 2)}@" for _ in range(_BLOCK)]

    return _block(lambda beginning: place.client.list_users(identifier=beginning, limit=50), beginnings)


def _block(call: Callable[..., Awaitable[object]], arguments: Callable[[], list[object]]) -> Block:
    async def block() -> list[float]:
        return [await timed(lambda argument=argument: call(argument)) for argument in arguments()]

    return block
