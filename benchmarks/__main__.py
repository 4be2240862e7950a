"""Run the benchmarks: `make bench`, options after ARGS=."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace
from pathlib import Path

from benchmarks import board, runs
from benchmarks.comparing import compare_runs
from benchmarks.document import write_document
from benchmarks.extent import DATABASES, FULL, QUICK
from benchmarks.profiling import profiling_to
from benchmarks.results import pool
from benchmarks.tables import table


def main() -> None:
    """Read the options, measure, print, write."""
    options = _options()
    chosen = options.parse_args()
    if chosen.compare:
        print(compare_runs(*map(runs.read, chosen.compare)))
        return
    if chosen.document:
        write_document([runs.read(file) for file in chosen.document])
        return
    names = chosen.only or board.NAMES
    if chosen.peer:
        names = [*names, *board.WHEN_ASKED]
    extent = QUICK if chosen.quick else FULL
    if chosen.database != "both":
        extent = replace(extent, databases=(chosen.database,))
    if chosen.sizes:
        extent = replace(extent, sizes=chosen.sizes)
    if chosen.profile and (len(names) != 1 or len(extent.databases) != 1):
        options.error("--profile takes one path on one database: --only NAME --database sqlite|postgres")
    busy = runs.load_average()
    with profiling_to(chosen.profile):
        rows = pool([asyncio.run(board.run(names, extent)) for _ in range(chosen.repeat)])
    print(table(rows))
    if chosen.json:
        runs.write(runs.here(rows, busy), chosen.json)
    if chosen.document is not None:
        write_document([runs.here(rows, busy)])


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [*board.NAMES, *board.WHEN_ASKED]
    options.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    options.add_argument("--database", choices=[*DATABASES, "both"], default="both")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the rows with all their rounds to FILE")
    options.add_argument(
        "--sizes",
        type=_sizes,
        metavar="N,...",
        help="measure the growth at so many identifiers (1M,10M), beside 10 thousand; 10M take half an hour and 10 GB",
    )
    options.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="measure N times, in new databases, and pool the rounds"
    )
    options.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("BEFORE", "AFTER"),
        help="compare two files of --json; measure nothing",
    )
    options.add_argument("--peer", action="store_true", help="measure the published muxi-runtime as well")
    options.add_argument(
        "--document",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="write the tables and the plot of docs/performance.md, of files of --json, or of this run",
    )
    options.add_argument("--profile", type=Path, metavar="FILE", help="write a profile of one path to FILE")
    options.add_argument("--quick", action="store_true", help="a few calls each: shows that it runs, measures nothing")
    return options


def _sizes(given: str) -> tuple[int, ...]:
    factors = {"k": 1_000, "M": 1_000_000}
    try:
        return tuple(int(size.rstrip("kM")) * factors.get(size[-1:], 1) for size in given.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{given!r} is no list of numbers such as 10k,1M,10M") from None


if __name__ == "__main__":
    main()
