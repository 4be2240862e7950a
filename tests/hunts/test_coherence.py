"""The coherence hunt, clean and with planted faults. MUXI_LONG=1 makes it minutes long."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.hunts.hunt import CUT, PAUSE, STALL, SWALLOW, TERMINATE, Hunt, run
from tests.hunts.places import LONG, place
from tests.hunts.planting import FENCE, GUARD
from tests.postgres import PostgresCluster

LEASES = {"postgres": 2.0, "sqlite": 0.5}


async def hunt(kind: str, folder: Path, cluster: PostgresCluster, **options: object) -> set[str]:
    seed = random.randrange(10_000)
    hunted = Hunt(place(kind, folder, cluster), LEASES[kind], seed=seed, **options)  # type: ignore[arg-type]
    report = await run(hunted)
    print(f"seed {seed}\n{report}")  # shown where the test fails, and by -s
    assert report.counts["look-ups"] > 20
    assert report.counts["transactions"] > 10
    return report.broken


async def test_one_process_on_postgres(tmp_path: Path, postgres_cluster: PostgresCluster) -> None:
    faults = CUT, STALL, SWALLOW, PAUSE, TERMINATE
    seconds = 60.0 if LONG else 3.0
    assert not await hunt("postgres", tmp_path, postgres_cluster, seconds=seconds, workers=1, tasks=8, faults=faults)


async def test_four_processes_on_sqlite(tmp_path: Path, postgres_cluster: PostgresCluster) -> None:
    seconds = 180.0 if LONG else 2.5
    assert not await hunt("sqlite", tmp_path, postgres_cluster, seconds=seconds, faults=(PAUSE,))


@pytest.mark.parametrize(
    ("fault", "kind", "workers", "broken"),
    [
        (FENCE, "postgres", 1, "own past"),
        (FENCE, "sqlite", 1, "own past"),
        (GUARD, "postgres", 2, "wrong person"),
    ],
)
async def test_planted_faults_are_caught(
    fault: str, kind: str, workers: int, broken: str, tmp_path: Path, postgres_cluster: PostgresCluster
) -> None:
    found: set[str] = set()
    for attempt in range(10):  # the first one catches it, unless the machine has hardly time for it
        (folder := tmp_path / str(attempt)).mkdir()
        options = {"seconds": 1.5, "workers": workers, "plant": fault, "narrow": fault == GUARD}
        found |= await hunt(kind, folder, postgres_cluster, **options)
        if broken in found:
            return
    raise AssertionError(f"not caught: {fault}; {found}")
