"""The crash hunt. MUXI_LONG=1 kills a hundred times on each database."""

from __future__ import annotations

import random
import secrets
from pathlib import Path

import pytest

from tests.hunts.crash import BACK_END, IMMEDIATE, POSTGRES, SERVER, Crashes
from tests.hunts.ward import Ward
from tests.long import LONG
from tests.server.places import write_formation


def report(crashes: Crashes, seed: int, found: list[str]) -> None:
    lines = [f"{name}: {number}" for name, number in sorted(crashes.diary.counts.items())]
    print("\n".join(["", f"seed {seed}", *lines, f"violations: {len(found)}", *found[:12]]))


async def hunt(file: Path, env: dict[str, str], victims: list[str], ward: Ward | None) -> None:
    seed = random.randrange(10_000)
    random.Random(seed).shuffle(victims)
    crashes = Crashes(file, env, ward, seed)
    found = await crashes.run(victims, patient=LONG)
    report(crashes, seed, found)
    assert not found
    assert not [name for name in crashes.diary.counts if name.startswith("answered 500")]
    assert crashes.diary.acknowledged > 5 * len(victims)


async def test_nothing_acknowledged_is_lost_on_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = secrets.token_hex(32)
    monkeypatch.setenv("MUXI_SECRET_KEY", key)
    await hunt(write_formation(tmp_path), {"MUXI_SECRET_KEY": key}, [SERVER] * (100 if LONG else 1), None)


async def test_nothing_acknowledged_is_lost_on_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = secrets.token_hex(32)
    monkeypatch.setenv("MUXI_SECRET_KEY", key)
    with Ward() as ward:
        persistent = {"provider": "postgres", "connection_string": ward.cluster.create_database()}
        file = write_formation(tmp_path, memory={"persistent": persistent})
        victims = [SERVER, BACK_END, POSTGRES, IMMEDIATE]
        await hunt(file, {"MUXI_SECRET_KEY": key}, victims * (25 if LONG else 1), ward)
