"""Behind a real PgBouncer that lends connections by the transaction, each time another one of its four."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from muxi_identity import AsyncFormationClient, ConfigurationError, FormationConfig, StorageUnavailableError
from muxi_identity.config import ConnectionLimits, DatabaseConfig, Secret
from muxi_identity.storage.postgres import PostgresDatabase
from tests.invariants import check_invariants
from tests.pooler import Pooler
from tests.postgres import PostgresCluster
from tests.races.test_coherence import is_answered_from_memory

PREPARED = "SELECT name FROM pg_prepared_statements"
SETTING = "memory.persistent.connections.prepared_statements"


@pytest.fixture(scope="module")
def direct(postgres_cluster: PostgresCluster) -> FormationConfig:
    """A formation on a database that nothing lies in yet, reached without the pooler."""
    url = Secret(postgres_cluster.create_database())
    return dataclasses.replace(
        FormationConfig.from_mapping({"id": "pooled"}),
        database=DatabaseConfig("postgres", url=url),
        secret_key=Secret(secrets.token_hex(32)),
    )


def url_of(config: FormationConfig) -> str:
    assert config.database.url is not None
    return config.database.url.reveal()


async def use(client: AsyncFormationClient, number: int) -> None:
    """Do with one person what reaches the database in every way there is."""
    email, slack = f"{number}@x.com", (f"U{number}", "slack")
    await client.resolve_user(email, True)
    await client.associate_user_identifiers([email, slack])
    await client.associate_user_identifiers([(f"V{number}", "slack")], email)
    await client.chat("My budget is $5,000", email)
    assert str(await client.chat("What's my budget?", slack)) == "Your budget is $5,000."
    await client.create_user(f"usr_other{number}")
    merged = await client.merge_users(email, f"usr_other{number}")
    await client.unmerge_users(merged["merge_id"])
    assert (await client.get_user_context(slack, query="budget"))["memories"]
    assert await client.get_user_identifiers(email) == [email, f"U{number}", f"V{number}"]


async def test_everything_works(direct: FormationConfig, pooler: Pooler) -> None:
    """From the empty database on, in two clients at once, which are as two processes to the pooler."""
    url = url_of(direct)
    pooled = dataclasses.replace(
        direct, database=DatabaseConfig("postgres", url=Secret(pooler.url(url)), listen_url=Secret(url))
    )
    async with AsyncFormationClient(pooled) as one, AsyncFormationClient(pooled) as other:
        await asyncio.gather(one.list_users(), other.list_users())
        await asyncio.gather(*(use((one, other)[number % 2], number) for number in range(6)))
        rows = [{"identifiers": [f"import{number}@x.com", f"I{number}"]} for number in range(20)]
        report = await one.import_users(rows)
        assert (report["rows"], report["refusals"]) == (20, [])
        assert await other.find_user("I19") == await one.find_user("I19") is not None
        await is_answered_from_memory(one, "0@x.com")
        await other.delete_user("1@x.com")
        assert await other.find_user("1@x.com") is None
    await check_invariants(direct)
    assert await settings_of_each(pooler.url(url)) == {()}


async def settings_of_each(url: str) -> set[tuple[str, ...]]:
    """Return what somebody has set in the sessions behind ``url``, but for what a pooler sets for each client."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    reading = "SELECT name FROM pg_settings WHERE source = 'session' AND setting <> reset_val AND name <> $1"
    try:
        return {tuple(row["name"] for row in await connection.fetch(reading, "client_encoding")) for _ in range(8)}
    finally:
        await connection.close()


async def outcome(call: Any) -> object:
    try:
        return await call
    except StorageUnavailableError as error:
        return error


async def fill(url: str) -> None:
    """Have the pooler open all of its connections to a database."""
    connections = [await asyncpg.connect(url) for _ in range(4)]
    for order in ("BEGIN", "ROLLBACK"):
        for connection in connections:
            await connection.execute(order)
    for connection in connections:
        await connection.close()


async def test_names_that_it_loses_are_told_of(postgres_cluster: PostgresCluster, pooler: Pooler) -> None:
    """Where somebody insists on them. No statement is ever taken for another one: no two have the same name."""
    url = pooler.url(postgres_cluster.create_database())
    await fill(url)
    insisting = ConnectionLimits(prepared_statements=True)
    with pytest.raises(ConfigurationError, match=SETTING):
        await PostgresDatabase(url, insisting).open()
    database = PostgresDatabase(url, insisting)
    await database.open(upgrade=False)
    try:
        calls = [database._fetch("SELECT 7") for _ in range(3)]
        calls += [database.transact(lambda connection: connection.scalar(sa.text("SELECT 7"))) for _ in range(3)]
        found = [await outcome(call) for call in calls]
    finally:
        await database.close()
    lost = [each for each in found if isinstance(each, StorageUnavailableError)]
    assert len(lost) >= 3
    assert all(SETTING in str(each) for each in lost)
    assert all(each in (7, [(7,)]) for each in found if each not in lost)


@pytest.mark.parametrize(
    ("behind", "set_to", "prepares"),
    [(False, None, True), (False, False, False), (True, None, False), (True, False, False)],
)
async def test_when_statements_are_prepared_by_name(
    direct: FormationConfig, pooler: Pooler, behind: bool, set_to: bool | None, prepares: bool
) -> None:
    """Without a pooler they are, under names of their own, unless that is switched off."""
    url = url_of(direct)
    database = PostgresDatabase(pooler.url(url) if behind else url, ConnectionLimits(prepared_statements=set_to))
    await database.open()
    try:
        for _ in range(4):  # each connection of the pooler
            held = [row["name"] for row in await database._reading.fetch(PREPARED, repeat=True)]
            pooled = await database.read(lambda connection: connection.scalars(sa.text(PREPARED)).all())
            assert bool(held) == bool(pooled) == prepares
            assert all(name.startswith("muxi_") for name in [*held, *pooled])
    finally:
        await database.close()
