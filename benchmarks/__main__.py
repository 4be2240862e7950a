"""Run the benchmarks: `make bench`, options after ARGS=."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from benchmarks import board, runs
from benchmarks.comparing import compare_runs
from benchmarks.extent import FULL, QUICK
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
    databases = ["sqlite", "postgres"] if chosen.database == "both" else [chosen.database]
    names = chosen.only or board.NAMES
    if chosen.profile and (len(names) != 1 or len(databases) != 1):
        options.error("--profile takes one path on one database: --only NAME --database sqlite|postgres")
    busy = runs.load_average()
    extent = QUICK if chosen.quick else FULL
    with profiling_to(chosen.profile):
        rows = pool([asyncio.run(board.run(databases, names, extent)) for _ in range(chosen.repeat)])
    print(table(rows))
    if chosen.json:
        runs.write(runs.here(rows, busy), chosen.json)


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("--only", action="append", choices=board.NAMES, metavar="NAME", help=", ".join(board.NAMES))
    options.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the rows with all their rounds to FILE")
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
    options.add_argument("--profile", type=Path, metavar="FILE", help="write a profile of one path to FILE")
    options.add_argument("--quick", action="store_true", help="a few calls each: shows that it runs, measures nothing")
    return options


if __name__ == "__main__":
    main()
