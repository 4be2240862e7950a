"""The coherence hunt, clean and with planted faults. MUXI_LONG=1 makes it minutes long."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from muxi_identity.identity.coherence.polling import POLL_SECONDS
from tests.hunts.hunt import CUT, PAUSE, STALL, SWALLOW, TERMINATE, Hunt, run
from tests.hunts.places import place
from tests.hunts.planting import FENCE, GUARD, NOTIFICATION, POLL
from tests.long import LONG
from tests.postgres import PostgresCluster

# What is promised: the lease, and how often a SQLite file is asked.
LEASES = {"postgres": 2.0, "sqlite": POLL_SECONDS}
FAULTS = {"postgres": (CUT, STALL, SWALLOW, PAUSE, TERMINATE), "sqlite": (PAUSE,)}
SECONDS = {"postgres": 240.0, "sqlite": 180.0} if LONG else {"postgres": 5.0, "sqlite": 2.5}


MOST_FROM_DATABASE = 10
"""At least one of so many look-ups is answered from memory, where nothing is done to connections and processes."""


class Planted(NamedTuple):
    """A fault, where it is planted, what the workers do, and the promise that the checker must report."""

    fault: str
    kind: str
    workers: int
    only: tuple[tuple[str, ...], ...]
    seconds: float
    lease: float
    broken: str


async def hunt(kind: str, folder: Path, cluster: PostgresCluster, **options: Any) -> set[str]:
    seed = random.randrange(10_000)
    report = await run(Hunt(place(kind, folder, cluster), seed=seed, **options))
    print(f"seed {seed}\n{report}")  # shown where the test fails, and by -s
    assert report.counts["look-ups"]
    assert report.counts["transactions"]
    # Answers that all come from the database show nothing of the cache.
    # Faults take the lease away, on a loaded machine most of the time.
    least = 0 if options.get("faults") else report.counts["look-ups"] / MOST_FROM_DATABASE
    assert report.counts["answered from memory"] > least
    return report.broken


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
async def test_no_promise_is_broken(kind: str, tmp_path: Path, postgres_cluster: PostgresCluster) -> None:
    options = {"seconds": SECONDS[kind], "lease": LEASES[kind], "faults": FAULTS[kind]}
    assert not await hunt(kind, tmp_path, postgres_cluster, **options)


_ALL = ((),)
_WRITES = (("remember", "prefer", "meet", "unlink"),)
_ONE_ASKS = (("ask",), ("meet", "unlink"))


@pytest.mark.parametrize(
    "planted",
    [
        Planted(FENCE, "postgres", 1, _ALL, 1.5, 2.0, "own past"),
        Planted(FENCE, "sqlite", 1, _ALL, 1.5, POLL_SECONDS, "own past"),
        Planted(NOTIFICATION, "postgres", 2, _ONE_ASKS, 2.5, 1.0, "stale answer"),
        Planted(POLL, "sqlite", 2, _ONE_ASKS, 1.5, POLL_SECONDS, "stale answer"),
        Planted(GUARD, "postgres", 2, _WRITES, 1.5, 2.0, "wrong person"),
    ],
)
async def test_planted_faults_are_caught(planted: Planted, tmp_path: Path, postgres_cluster: PostgresCluster) -> None:
    found: set[str] = set()
    for attempt in range(10):  # the first one catches it, unless the machine has hardly time for it
        (folder := tmp_path / str(attempt)).mkdir()
        options = planted._asdict()
        options["plant"] = options.pop("fault")
        del options["broken"]
        found |= await hunt(options.pop("kind"), folder, postgres_cluster, **options)
        if planted.broken in found:
            return
    raise AssertionError(f"not caught: {planted.fault}; {found}")
