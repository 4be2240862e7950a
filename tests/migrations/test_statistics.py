"""PostgreSQL's statistics say nothing of formations, so that the rows of a new one are found by its own keys."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import asyncpg
import pytest
from alembic import command

from muxi_identity import AsyncFormationClient
from muxi_identity.config import FormationConfig, Secret
from muxi_identity.storage import migrate
from tests.postgres import PostgresCluster

PEOPLE = 1_000
GATHERED = "SELECT tablename FROM pg_stats WHERE attname = 'formation_id' AND tablename LIKE 'muxi~_%' ESCAPE '~'"
# What PostgreSQL has read of its indexes' entries, by those whose connections are closed.
READ = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes"
OTHERS = (
    "SELECT count(*) FROM pg_stat_activity, pg_sleep(0.01) WHERE datname = current_database()"
    " AND pid <> pg_backend_pid()"
)


def config_of(url: str, formation_id: str) -> FormationConfig:
    persistent = {"provider": "postgres", "connection_string": url}
    config = FormationConfig.from_mapping({"id": formation_id, "memory": {"persistent": persistent}})
    return dataclasses.replace(config, secret_key=Secret("s" * 40))


@pytest.fixture
def url(postgres_cluster: PostgresCluster) -> str:
    return postgres_cluster.create_database()


@pytest.fixture
async def connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(url)
    yield found
    await found.close()


async def people(url: str, formation_id: str, number: int) -> None:
    async with AsyncFormationClient(config_of(url, formation_id)) as client:
        for start in range(0, number, 250):
            names = [f"n{start + each}" for each in range(min(250, number))]
            await asyncio.gather(*(client.resolve_user(name, create_user=True) for name in names))


async def test_no_formation_has_statistics(url: str, connection: asyncpg.Connection) -> None:
    await people(url, "f", 1)
    rows = await connection.fetch(
        "SELECT c.relname, a.attstattarget FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE c.relkind = 'r' AND c.relname LIKE 'muxi~_%' ESCAPE '~' AND a.attname = 'formation_id'"
    )
    assert len(rows) > 20
    assert [row["relname"] for row in rows if row["attstattarget"] != 0] == []


async def test_those_that_were_there_are_dropped(url: str, connection: asyncpg.Connection) -> None:
    upgrade = command.upgrade
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "newest", lambda: "0009")
        patch.setattr(command, "upgrade", lambda config, _head: upgrade(config, "0009"))
        await people(url, "f", 3)
    await connection.execute("ANALYZE")
    assert "muxi_identifiers" in {row["tablename"] for row in await connection.fetch(GATHERED)}
    async with AsyncFormationClient(config_of(url, "f")) as client:
        assert (await client.list_users())["count"] == 3
    await connection.execute("ANALYZE")
    assert await connection.fetch(GATHERED) == []


async def test_a_formation_that_no_statistics_know_is_read_by_its_keys(
    url: str, connection: asyncpg.Connection
) -> None:
    await people(url, "known", 60)
    await connection.execute("ANALYZE")
    await people(url, "new", PEOPLE)

    async def read() -> int:
        async with asyncio.timeout(60):
            while await connection.fetchval(OTHERS):
                pass
        return int(await connection.fetchval(READ))

    before = await read()
    async with AsyncFormationClient(config_of(url, "new")) as client:
        assert await client.get_user_identifiers("n7") == ["n7"]
        assert (await client.list_tasks("n7"))["count"] == 0
        assert (await client.merge_users("n7", "n8"))["muxi_user_id"]
        await client.set_preference("n7", "language", "pt")
        assert await client.get_preferences("n8") == {"language": "pt"}
    assert await read() - before < PEOPLE
