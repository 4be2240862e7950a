"""New databases that one process opens at the same time: each gets its own schema, and nothing of another's."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from muxi_identity import AsyncFormationClient, FormationClient, FormationConfig
from muxi_identity.config import Secret
from tests.invariants import check_invariants
from tests.postgres import PostgresCluster
from tests.races.processes import PATIENCE

NUMBER = 4


def configs_of(provider: str, places: Sequence[str]) -> list[FormationConfig]:
    made = [
        FormationConfig.from_mapping(
            {"id": "new", "memory": {"persistent": {"provider": provider, "connection_string": place}}}
        )
        for place in places
    ]
    return [dataclasses.replace(config, secret_key=Secret(secrets.token_hex(32))) for config in made]


def open_by_threads(configs: Sequence[FormationConfig]) -> None:
    together = threading.Barrier(len(configs))

    def one(config: FormationConfig) -> int:
        with_all = FormationClient(config)
        together.wait(PATIENCE)
        with with_all as client:
            client.chat("My budget is $5,000", "alice")
            return client.list_users()["count"]

    with ThreadPoolExecutor(len(configs)) as pool:
        assert list(pool.map(one, configs)) == [1] * len(configs)


async def open_by_tasks(configs: Sequence[FormationConfig]) -> None:
    async def one(config: FormationConfig) -> int:
        async with AsyncFormationClient(config) as client:
            await client.chat("My budget is $5,000", "alice")
            return (await client.list_users())["count"]

    assert await asyncio.gather(*map(one, configs)) == [1] * len(configs)


def test_files_opened_by_threads(tmp_path: Path) -> None:
    configs = configs_of("sqlite", [str(tmp_path / f"{number}.db") for number in range(NUMBER)])
    open_by_threads(configs)
    for config in configs:
        asyncio.run(check_invariants(config))


def test_databases_opened_by_threads(postgres_cluster: PostgresCluster) -> None:
    open_by_threads(configs_of("postgres", [postgres_cluster.create_database() for _ in range(2)]))


async def test_files_and_databases_opened_by_tasks(postgres_cluster: PostgresCluster, tmp_path: Path) -> None:
    files = configs_of("sqlite", [str(tmp_path / f"{number}.db") for number in range(2)])
    databases = configs_of("postgres", [postgres_cluster.create_database() for _ in range(2)])
    await open_by_tasks([*files, *databases])
