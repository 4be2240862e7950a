"""The soak: what is held stays the same. MUXI_LONG=1 lets each of the four go on for minutes."""

from __future__ import annotations

import dataclasses
import gc
import os
import secrets
from pathlib import Path

import pytest

from muxi_identity import AsyncFormationClient
from muxi_identity.config import CacheConfig, FormationConfig, IdentityConfig
from tests.hunts.levels import slope
from tests.hunts.places import place
from tests.hunts.soak import MOST_CACHED, Embedded, Served, Soaked, soak
from tests.long import LONG
from tests.postgres import PostgresCluster
from tests.server.places import running, write_formation

SECONDS = 300.0 if LONG else 0.0
WARM = 20 if LONG else 1
# Kilobytes. In a few rounds memory rises by what allocators have not given back; in hundreds, only by what is lost.
MOST_A_ROUND = 10.0 if LONG else 3_000.0


def judge(soaked: Soaked) -> None:
    print(f"\n{soaked}")
    assert slope(soaked.memory[len(soaked.memory) // 2 :]) < MOST_A_ROUND


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
async def test_an_embedded_client_holds_what_it_held(
    kind: str, tmp_path: Path, postgres_cluster: PostgresCluster
) -> None:
    config = place(kind, tmp_path, postgres_cluster)
    config = dataclasses.replace(config, identity=IdentityConfig(cache=CacheConfig(max_entries=MOST_CACHED)))
    async with AsyncFormationClient(config) as client:
        embedded = Embedded(client, config)
        judge(await soak(embedded.flood, embedded.round, embedded.count, os.getpid(), warm=WARM, seconds=SECONDS))


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
async def test_a_closed_client_leaves_nothing_behind(
    kind: str, tmp_path: Path, postgres_cluster: PostgresCluster
) -> None:
    config = place(kind, tmp_path, postgres_cluster)
    left = []
    for _ in range(2):
        for _ in range(4):
            async with AsyncFormationClient(config) as client:
                await client.find_user("somebody@example.com")
        gc.collect()
        left.append(len(gc.get_objects()))
    assert left[1] - left[0] < 400  # a dialect and its statements are thousands, each time


@pytest.mark.parametrize("kind", ["postgres", "sqlite"] if LONG else ["postgres"])
async def test_a_server_holds_what_it_held(
    kind: str, tmp_path: Path, postgres_cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = secrets.token_hex(32)
    monkeypatch.setenv("MUXI_SECRET_KEY", key)
    sections = {"identity": {"cache": {"max_entries": MOST_CACHED}}}
    if kind == "postgres":
        persistent = {"provider": "postgres", "connection_string": postgres_cluster.create_database()}
        sections["memory"] = {"persistent": persistent}
    file = write_formation(tmp_path, **sections)
    with running(file, env={"MUXI_SECRET_KEY": key}, options=("--log-level", "INFO")) as server:
        (worker,) = server.workers()
        served = Served(server.url, worker, FormationConfig.load(file))
        judge(await soak(served.flood, served.round, served.count, worker, warm=WARM, seconds=SECONDS))
