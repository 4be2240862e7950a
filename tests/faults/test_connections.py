"""PostgreSQL that stalls, dies under a statement, or is asked for too much: short clear errors, and it goes on."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from muxi_identity import AsyncFormationClient, FormationConfig, StorageUnavailableError
from muxi_identity.config import ConnectionLimits, DatabaseConfig, Secret
from muxi_identity.identity.coherence import listener
from muxi_identity.storage import connecting
from muxi_identity.storage.postgres import PostgresDatabase
from tests.proxy import Proxy

pytestmark = pytest.mark.parametrize("database_config", ["postgres"], indirect=True)
PATIENCE = 60
NAME = "alice@email.com"
SHORT = ConnectionLimits(pool_size=2, max_waiting=50, wait_timeout=30, statement_timeout=0.4, connect_timeout=1)


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    with Proxy.before(postgres_url) as proxy:
        yield proxy


def limited(config: FormationConfig, url: str, limits: ConnectionLimits) -> AsyncFormationClient:
    database = DatabaseConfig("postgres", url=Secret(url), limits=limits)
    return AsyncFormationClient(dataclasses.replace(config, database=database))


@pytest.fixture
async def admin(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def until(holds: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await turn()


async def turn() -> None:
    """Let others go on."""
    await asyncio.sleep(0)


async def test_look_ups_of_a_stalled_server_end_and_then_go_on(
    database_config: FormationConfig, postgres_url: str, proxy: Proxy
) -> None:
    async with limited(database_config, proxy.url(postgres_url), SHORT) as client:
        made = await client.resolve_user(NAME, True)
        assert await client.find_user("U0") is None
        proxy.stall()
        calls: list[Any] = [client.find_user(f"U{number}") for number in range(40)]
        calls += [client.resolve_user("U99", True), client.list_users()]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(each, StorageUnavailableError) for each in found)
        proxy.flow()
        await client.associate_user_identifiers([NAME, "U98765ABC"])
        assert (await client.resolve_user("U98765ABC"))["muxi_user_id"] == made["muxi_user_id"]
        assert (await client.list_users())["count"] >= 1
    await until(lambda: not proxy.open)


@pytest.mark.parametrize("most", [10_000, 100])
async def test_five_thousand_look_ups_wait_or_are_refused_at_once(
    database_config: FormationConfig, postgres_url: str, proxy: Proxy, most: int
) -> None:
    async with limited(database_config, proxy.url(postgres_url), ConnectionLimits(max_waiting=most)) as client:
        await client.resolve_user(NAME, True)
        assert await client.find_user("U0") is None
        lookup = (await client._lifecycle.formation())._lookup
        before = client.cache_info["misses"]
        proxy.stall()
        tasks = [asyncio.create_task(client.find_user(f"U{number}")) for number in range(5000)]
        await until(lambda: client.cache_info["misses"] == before + 5000)
        refused = [task.exception() for task in tasks if task.done()]
        assert len(refused) == max(0, 5000 - 1 - most)
        assert all(isinstance(each, StorageUnavailableError) and each.retry_after == 1 for each in refused)
        assert lookup._waiting == min(most, 4999)
        for task in tasks[1:1000:2]:
            task.cancel()
        proxy.flow()
        await asyncio.wait(tasks)
        assert all(task.cancelled() or task.exception() or task.result() is None for task in tasks)
        assert not lookup._waiting
        assert not lookup._next
        assert await client.find_user(NAME)


async def test_back_ends_that_die_in_the_middle_of_a_batch(
    database_config: FormationConfig, postgres_url: str, admin: asyncpg.Connection
) -> None:
    """A look-up is asked again over another connection: nobody notices."""
    async with limited(database_config, postgres_url, ConnectionLimits()) as client:
        for number in range(8):
            await client.resolve_user(f"U{number}", True)
        (await client._lifecycle.formation()).cache.clear()
        async with admin.transaction():
            await admin.execute("LOCK TABLE muxi_identifiers IN ACCESS EXCLUSIVE MODE")
            tasks = [asyncio.create_task(client.find_user(f"U{number}")) for number in range(16)]
            waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'muxi_identifiers'::regclass"
            async with asyncio.timeout(PATIENCE):
                while not (pid := await admin.fetchval(waiting)):
                    await turn()
            await admin.execute("SELECT pg_terminate_backend($1)", pid)
        found = await asyncio.gather(*tasks)
        assert [each is not None for each in found] == [number < 8 for number in range(16)]


async def test_a_pool_that_is_exhausted(
    database_config: FormationConfig, postgres_url: str, admin: asyncpg.Connection
) -> None:
    """Some wait, some wait too long, some are refused at once, some are cancelled; afterwards every place is there."""
    database = PostgresDatabase(postgres_url, ConnectionLimits(pool_size=2, max_waiting=4, wait_timeout=0.2))
    await database.open()

    def count() -> asyncio.Task[int]:
        counting = sa.text("SELECT count(*) FROM muxi_users")
        return asyncio.create_task(database.transact(lambda connection: connection.execute(counting).scalar_one()))

    try:
        places = database._engine._places
        async with admin.transaction():
            await admin.execute("LOCK TABLE muxi_users IN ACCESS EXCLUSIVE MODE")
            holding = [count() for _ in range(2)]
            await until(lambda: places.all_taken)
            waiting = [count() for _ in range(4)]
            await until(lambda: places.waiting == 4)
            with pytest.raises(StorageUnavailableError, match="overloaded"):
                await count()
            waiting[1].cancel()
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(each) for each in ended].count(asyncio.CancelledError) == 1
            assert ["busy for 0.2 seconds" in str(each) for each in ended].count(True) == 3
            holding[0].cancel()
            await asyncio.wait(holding[:1])
        assert await holding[1] >= 0
        assert places._free == 2
        assert all(found >= 0 for found in await asyncio.gather(*(count() for _ in range(4))))
    finally:
        await database.close()


async def test_a_connection_that_stalls_in_a_transaction_is_given_up(
    database_config: FormationConfig, postgres_url: str, proxy: Proxy
) -> None:
    async with limited(database_config, proxy.url(postgres_url), SHORT) as client:
        for number in range(4):
            await client.create_user(f"usr_{number}")
        proxy.swallow()
        found = await asyncio.gather(
            *(client.create_user(f"usr_lost{number}") for number in range(6)), return_exceptions=True
        )
        assert all(isinstance(each, StorageUnavailableError) for each in found)
        proxy.flow()
        await client.create_user("usr_next")
        assert (await client.get_user("usr_next"))["muxi_user_id"] == "usr_next"


async def test_closing_while_nobody_answers(
    database_config: FormationConfig, postgres_url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends without an error, soon, and leaves no connection behind."""
    for module in (connecting, listener):
        monkeypatch.setattr(module, "_FAREWELL_SECONDS", 0.1)
    client = limited(database_config, proxy.url(postgres_url), ConnectionLimits())
    await client.resolve_user(NAME, True)
    calls: list[Any] = [client.resolve_user(f"U{number}", True) for number in range(8)]
    await asyncio.gather(*calls, *(client.list_users() for _ in range(4)))
    database: Any = (await client._lifecycle.formation()).database
    groups = (database._reading, database._writing, database._gathering)
    connections = [held.connection for group in groups for held in group._idle] + [*database._engine._opened]
    assert len(connections) > 4
    proxy.swallow()
    await client.close()
    assert all(connection.is_closed() for connection in connections)
    assert asyncio.all_tasks() == {asyncio.current_task()}
