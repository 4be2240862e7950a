"""The scoreboard: every path that is measured, by the name that `--only` takes. A new one is registered here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks import (
    cache_size,
    cached,
    context,
    growth,
    http,
    importing,
    merging,
    peer,
    remote,
    uncached,
    workers,
    writes,
)
from benchmarks.extent import Extent
from benchmarks.places import Place, open_place
from benchmarks.results import Row

ON_EACH_DATABASE: dict[str, Callable[[Place, int], Awaitable[list[Row]]]] = {
    "cached": cached.measure,
    "uncached": uncached.measure_one_at_a_time,
    "concurrent": uncached.measure_concurrent,
    "first-contact": writes.measure_first_contact,
    "associate": writes.measure_associate,
    "context": context.measure_load,
    "search": context.measure_search,
    "chat": context.measure_chat,
    "merge": merging.measure,
    "import": importing.measure,
}
"""Measured in a seeded formation, once on each database, in so many rounds."""

BY_ITSELF: dict[str, Callable[[Extent], Awaitable[list[Row]]]] = {
    "cache-size": cache_size.measure,
    "http": http.measure,
    "remote": remote.measure,
    "workers": workers.measure,
    "growth": growth.measure,
}
"""Sets up what it needs itself (a server, processes)."""

WHEN_ASKED: dict[str, Callable[[Extent], Awaitable[list[Row]]]] = {"peer": peer.measure}
"""Measured only where it is named."""

NAMES = [*BY_ITSELF, *ON_EACH_DATABASE]


async def run(names: list[str], extent: Extent) -> list[Row]:
    """Measure the paths of these names."""
    rows: list[Row] = []
    for name, measure_it in (BY_ITSELF | WHEN_ASKED).items():
        if name in names:
            rows += await measure_it(extent)
    paths = [measure for name, measure in ON_EACH_DATABASE.items() if name in names]
    for database in extent.databases if paths else []:
        async with open_place(database, extent.people, durable=not extent.quick) as place:
            for measure in paths:
                rows += await measure(place, extent.blocks)
    return rows
