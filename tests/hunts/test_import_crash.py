"""An import that is killed again and again ends as one that nobody disturbed. MUXI_LONG=1 kills twenty times."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from muxi_identity import AsyncFormationClient
from muxi_identity.config import FormationConfig
from tests.hunts.places import LONG, place
from tests.importing import config_text, people_of, random_rows, write_jsonl
from tests.invariants import check_invariants
from tests.postgres import PostgresCluster

ROWS, KILLS = (20_000, 20) if LONG else (1_500, 2)


def start(config: FormationConfig, file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.importing", config_text(config), str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)


def finish(config: FormationConfig, file: Path) -> None:
    process = start(config, file)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    assert '"report"' in said


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
        async with AsyncFormationClient(config) as client:
            await client.list_users()
        killed = 0
        for _ in range(kills):
            process = start(config, file)
            assert process.stdout is not None
            if dice.random() < 0.5:
                await asyncio.to_thread(process.stdout.readline)  # a batch is done
            await asyncio.sleep(dice.uniform(0, 1.5))
            process.kill()
            process.communicate()
            killed += process.returncode != 0
            await check_invariants(config)
        await asyncio.to_thread(finish, config, file)
        people.append(people_of(await check_invariants(config)))
    print(f"{kind}: {killed} of {KILLS} kills met the import, {len(people[0])} people")
    assert people[0] == people[1]
