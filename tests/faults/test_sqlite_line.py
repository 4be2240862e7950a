"""A SQLite file that another process writes to for long: whoever waits is told soon, and not one after the other."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3

import pytest

from muxi_identity import AsyncFormationClient, FormationConfig, StorageUnavailableError
from muxi_identity.config import ConnectionLimits


@pytest.mark.parametrize("database_config", ["sqlite"], indirect=True)
async def test_the_line_before_the_file_is_bounded(database_config: FormationConfig) -> None:
    limits = ConnectionLimits(max_waiting=3, wait_timeout=0.05)
    config = dataclasses.replace(database_config, database=dataclasses.replace(database_config.database, limits=limits))
    assert config.database.path is not None
    other = sqlite3.connect(config.database.path, isolation_level=None)
    async with AsyncFormationClient(config) as client:
        await client.create_user("usr_0")
        other.execute("BEGIN IMMEDIATE")
        first, *others = [asyncio.create_task(client.create_user(f"usr_{number}")) for number in range(1, 7)]
        refused = await asyncio.gather(*others, return_exceptions=True)
        assert all(isinstance(each, StorageUnavailableError) and each.retry_after == 1 for each in refused)
        assert ["busy for 0.05 seconds" in str(each) for each in refused].count(True) == 3
        assert ["overloaded: 3 calls wait" in str(each) for each in refused].count(True) == 2
        assert not first.done()
        assert (await client.list_users())["count"] == 1  # reading has a place of its own
        other.execute("ROLLBACK")
        other.close()
        await first
        await client.create_user("usr_7")
        assert (await client.list_users())["count"] == 3
