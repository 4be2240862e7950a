"""Run the benchmarks: `make bench`, options after ARGS=."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cache_size, cached, context, http, merging, uncached, writes
from benchmarks.places import Place, open_place
from benchmarks.results import Row, table, write_json

Measure = Callable[[Place, int], Awaitable[list[Row]]]
PATHS: dict[str, Measure] = {
    "cached": cached.measure,
    "uncached": uncached.measure_one_at_a_time,
    "concurrent": uncached.measure_concurrent,
    "first-contact": writes.measure_first_contact,
    "associate": writes.measure_associate,
    "context": context.measure_load,
    "search": context.measure_search,
    "chat": context.measure_chat,
    "merge": merging.measure,
}
CACHE_SIZE = "cache-size"
HTTP = "http"
NAMES = [*PATHS, CACHE_SIZE, HTTP]


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    people: int
    blocks: int
    entries: int


FULL = Extent(people=10_000, blocks=60, entries=500_000)
QUICK = Extent(people=600, blocks=2, entries=5_000)


async def run(databases: list[str], names: list[str], extent: Extent) -> list[Row]:
    """Measure the paths of these names on these databases."""
    rows = cache_size.measure(extent.entries) if CACHE_SIZE in names else []
    if HTTP in names:
        rows += await http.measure(extent.blocks)
    paths = {name: measure for name, measure in PATHS.items() if name in names}
    for database in databases if paths else []:
        async with open_place(database, extent.people) as place:
            for measure in paths.values():
                rows += await measure(place, extent.blocks)
    return rows


def main() -> None:
    """Read the options, measure, print, write."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE as well")
    options.add_argument(
        "--only",
        action="append",
        choices=[*PATHS, CACHE_SIZE, HTTP],
        metavar="NAME",
        help=", ".join([*PATHS, CACHE_SIZE, HTTP]),
    )
    options.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    options.add_argument("--quick", action="store_true", help="a few calls each: shows that it runs, measures nothing")
    chosen = options.parse_args()
    databases = ["sqlite", "postgres"] if chosen.database == "both" else [chosen.database]
    rows = asyncio.run(run(databases, chosen.only or NAMES, QUICK if chosen.quick else FULL))
    print(table(rows))
    if chosen.json:
        write_json(rows, chosen.json)


if __name__ == "__main__":
    main()
