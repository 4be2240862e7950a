"""An import that is killed again and again ends as one that nobody disturbed. MUXI_LONG=1 kills a hundred times."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from muxi_identity import AsyncFormationClient
from tests.hunts.places import place
from tests.importing import kill_midway, people_of, random_rows, write_jsonl
from tests.invariants import check_invariants
from tests.long import LONG
from tests.postgres import PostgresCluster

KILLS = 100 if LONG else 1
BATCH = 5
ROWS = 60 * (KILLS + 1)  # many more than are done between two kills


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
async def test_a_killed_import_goes_on(kind: str, tmp_path: Path, postgres_cluster: PostgresCluster) -> None:
    seed = random.randrange(10_000)
    print(f"seed {seed}")
    dice = random.Random(seed)
    file = write_jsonl(tmp_path / "people.jsonl", random_rows(dice, ROWS))
    people = []
    for name, kills in (("calm", 0), ("hunted", KILLS)):
        (folder := tmp_path / name).mkdir()
        config = place(kind, folder, postgres_cluster)
        for _ in range(kills):
            await asyncio.to_thread(kill_midway, config, file, BATCH, dice)
            await check_invariants(config)
        async with AsyncFormationClient(config) as client:
            await client.import_users(file, on_conflict="absorb")
        people.append(people_of(await check_invariants(config)))
    print(f"{kind}: {KILLS} kills in the middle of an import of {ROWS} rows, {len(people[0])} people")
    assert people[0] == people[1]
