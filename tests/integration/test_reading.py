"""Reads that meet the locks of an upgrade, which takes those of several tables: they are made again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.util import await_only

from muxi_identity import AsyncFormationClient, IdentityChangedError
from muxi_identity.config import FormationConfig
from muxi_identity.identity import running
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.errors import RaceLost
from tests.hunts.places import place
from tests.postgres import PostgresCluster

WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'muxi_users'::regclass"


async def test_a_read_that_a_deadlock_ends(postgres_cluster: PostgresCluster, tmp_path: Path) -> None:
    config = place("postgres", tmp_path, postgres_cluster)
    assert config.database.url is not None
    url = config.database.url.reveal()
    has_read, may_go_on, tries = asyncio.Event(), asyncio.Event(), 0

    def read(tx: Transaction) -> int:
        nonlocal tries
        tries += 1
        tx.connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))  # it is this one that ends
        tx.connection.execute(text("SELECT count(*) FROM muxi_users"))
        has_read.set()
        await_only(may_go_on.wait())
        return int(tx.connection.execute(text("SELECT count(*) FROM muxi_memories")).scalar_one())

    async with AsyncFormationClient(config) as client:
        await client.create_user()
        runner = (await client._lifecycle.formation())._runner
        reading = asyncio.create_task(runner.read(read))
        await has_read.wait()
        upgrading, looking = await asyncpg.connect(url), await asyncpg.connect(url)
        async with upgrading.transaction():
            await upgrading.execute("SET LOCAL deadlock_timeout = '60s'; LOCK TABLE muxi_memories")
            locking = asyncio.create_task(upgrading.execute("LOCK TABLE muxi_users"))
            while not await looking.fetchval(WAITING):
                pass
            may_go_on.set()
            await locking
        assert await reading == 0
        assert tries > 1
        await upgrading.close()
        await looking.close()


async def test_a_load_that_meets_others(database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncFormationClient(database_config) as client:
        await client.set_preference("alice@email.com", "language", "pt")
        database = (await client._lifecycle.formation()).database
        gather, left = database.gather, 2

        async def met(gathering: Any, parameters: Mapping[str, Any]) -> Any:
            nonlocal left
            left -= 1
            if left >= 0:
                raise RaceLost
            return await gather(gathering, parameters)

        monkeypatch.setattr(database, "gather", met)
        assert (await client.get_user_context("alice@email.com"))["preferences"] == {"language": "pt"}
        assert left == -1
        monkeypatch.setattr(running, "ATTEMPTS", 3)
        left = 3
        with pytest.raises(IdentityChangedError):
            await client.get_user_context("alice@email.com")
