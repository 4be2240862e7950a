"""A dry run changes nothing: not the people, and not the database either, which it does not even make."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from muxi_identity import AsyncFormationClient, ConfigurationError
from muxi_identity.config import FormationConfig
from muxi_identity.storage.opening import make_database
from tests.integration.test_checks import config_of
from tests.postgres import PostgresCluster

ROWS = [{"identifiers": ["alice@email.com", "U1"]}, {"identifiers": ["undefined"]}, {"identifiers": ["U1"]}]
_VERSION = "muxi_schema_version"


@pytest.fixture(params=["sqlite", "postgres"])
def nothing(request: pytest.FixtureRequest, tmp_path: Path) -> FormationConfig:
    """A formation that nobody has made, on a database that holds nothing, or is not there."""
    if request.param == "sqlite":
        return config_of("sqlite", str(tmp_path / "folder" / "muxi.db"))
    cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
    return config_of("postgres", cluster.create_database())


async def tell(config: FormationConfig, statement: str, *, write: bool = False) -> Any:
    """Run a statement on the database as it is."""
    database = make_database(config.database)
    await database.open(upgrade=False)

    def work(connection: Connection) -> Any:
        result = connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None

    try:
        return await (database.transact(work) if write else database.read(work))
    finally:
        await database.close()


async def test_what_is_not_there_is_not_made(
    nothing: FormationConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = AsyncFormationClient(nothing)
    report = await client.import_users(ROWS, dry_run=True)
    assert (report["created"], report["known"], report["refused"]) == (1, 1, 1)
    assert os.listdir(tmp_path) == []
    if nothing.database.path is None:
        assert await tell(nothing, f"SELECT to_regclass('{_VERSION}')") is None
    assert [each.getMessage() for each in caplog.records if "schema" in each.getMessage()] == []
    await client.close()


async def test_what_is_older_is_not_upgraded(database_config: FormationConfig) -> None:
    async with AsyncFormationClient(database_config) as client:
        await client.import_users(ROWS)
    newest = await tell(database_config, f"SELECT version_num FROM {_VERSION}")
    other = AsyncFormationClient(database_config)
    try:
        await tell(database_config, f"UPDATE {_VERSION} SET version_num = '0001'", write=True)
        with pytest.raises(ConfigurationError, match="muxi db upgrade"):
            await other.import_users(ROWS, dry_run=True)
        assert await tell(database_config, f"SELECT version_num FROM {_VERSION}") == "0001"
    finally:
        await tell(database_config, f"UPDATE {_VERSION} SET version_num = '{newest}'", write=True)
    await other.close()
