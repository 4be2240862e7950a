"""How PostgreSQL plans: for anybody, so that what its statistics do not know of yet is found by its own keys."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import asyncpg
import pytest

from muxi_identity import AsyncFormationClient
from muxi_identity.config import FormationConfig, Secret
from tests.postgres import PostgresCluster

PEOPLE = 1_000
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


# Of answers that are kept, so many that nobody may go through them.
ANSWERS = """
    INSERT INTO muxi_idempotency (formation_id, key, fingerprint, answer, created_at)
    SELECT 'f', 'k' || n, '', '{}', (extract(epoch FROM now()) * 1000000)::bigint - n FROM generate_series(1, 20000) n
"""
GONE_THROUGH = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'muxi_idempotency'"


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


async def told(connection: asyncpg.Connection, what: str) -> int:
    """Return what the server counted, once everybody else has gone and told it."""
    async with asyncio.timeout(60):
        while await connection.fetchval(OTHERS):
            pass
    return int(await connection.fetchval(what))


@pytest.mark.parametrize("known", [False, True])
async def test_a_formation_is_read_by_its_keys_whether_statistics_know_of_it(
    known: bool, url: str, connection: asyncpg.Connection
) -> None:
    await people(url, "other", 60)
    await connection.execute("ANALYZE")
    await people(url, "new", PEOPLE)
    if known:
        await connection.execute("VACUUM (ANALYZE)")

    before = await told(connection, READ)
    async with AsyncFormationClient(config_of(url, "new")) as client:
        assert await client.get_user_identifiers("n7") == ["n7"]
        assert (await client.list_tasks("n7"))["count"] == 0
        assert (await client.merge_users("n7", "n8"))["muxi_user_id"]
        await client.set_preference("n7", "language", "pt")
        assert await client.get_preferences("n8") == {"language": "pt"}
        await client.associate_user_identifiers([(f"U{number}", "slack") for number in range(5)])
        assert (await client.list_users(limit=20))["count"] == 20
    assert await told(connection, READ) - before < PEOPLE


async def test_answers_are_tidied_by_their_age(url: str, connection: asyncpg.Connection) -> None:
    await people(url, "f", 1)
    await connection.execute(ANSWERS)
    await connection.execute("VACUUM (ANALYZE)")
    before = await told(connection, GONE_THROUGH)
    async with AsyncFormationClient(config_of(url, "f")) as client:
        await client.associate_user_identifiers(["n0", "n1"], idempotency_key="once")
    assert await told(connection, GONE_THROUGH) - before < 200
