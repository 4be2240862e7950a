"""A primary goes, its replica takes its place: clients follow by themselves, and nothing acknowledged is lost.

``MUXI_LONG=1`` makes the load longer, lists the servers in either order, and prints how long each kind of call was
left without an answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic

import asyncpg
import pytest

from muxi_identity import AsyncFormationClient, FormationConfig, StorageUnavailableError
from muxi_identity.config import ConnectionLimits, DatabaseConfig, Secret
from tests.invariants import check_invariants
from tests.long import LONG
from tests.postgres import PostgresCluster, start_cluster, start_replica

pytestmark = pytest.mark.parametrize("database_config", ["postgres"], indirect=True)
PATIENCE = 60
CALLS = 100 if LONG else 15  # of each kind, before and after
LIMITS = ConnectionLimits(statement_timeout=5, connect_timeout=4, wait_timeout=5)


@pytest.fixture
def pair() -> Iterator[tuple[PostgresCluster, PostgresCluster]]:
    """A primary, and a replica that confirms each commit before it is acknowledged."""
    primary = start_cluster(synchronous_commit="on")
    try:
        replica = start_replica(primary)
        try:
            yield primary, replica
        finally:
            replica.stop()
    finally:
        primary.stop()


async def run(cluster: PostgresCluster, *statements: str) -> None:
    connection = await asyncpg.connect(cluster.url())
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def confirm_commits(primary: PostgresCluster) -> None:
    """Have the primary wait for its replica from now on."""
    await run(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
    connection = await asyncpg.connect(primary.url())
    state = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
    async with asyncio.timeout(PATIENCE):
        while not await connection.fetchval(state):
            pass
    await connection.close()


def both(config: FormationConfig, pair: tuple[PostgresCluster, ...], order: int) -> FormationConfig:
    servers = [f"127.0.0.1:{cluster.port}" for cluster in pair[::order]]
    url = pair[0].url("failover").replace(f"127.0.0.1:{pair[0].port}", ",".join(servers))
    return dataclasses.replace(config, database=DatabaseConfig("postgres", url=Secret(url), limits=LIMITS))


class Load:
    """Callers of one kind: what was acknowledged to them, and how long they found nobody."""

    def __init__(self, name: str, call: Callable[[int], Awaitable[str]]) -> None:
        self.name = name
        self.acknowledged: dict[int, str] = {}
        self.errors = 0
        self.longest_call = self.outage = 0.0
        self._call = call
        self._number = self._goal = 0
        self._reached = asyncio.Event()
        self._answered = monotonic()

    async def run(self, until: Callable[[], bool]) -> None:
        while not until():
            self._number += 1
            number, begun = self._number, monotonic()
            try:
                self.acknowledged[number] = await self._call(number)
            except StorageUnavailableError:
                self.errors += 1
            else:
                if len(self.acknowledged) >= self._goal:
                    self._reached.set()
                self.outage = max(self.outage, monotonic() - self._answered)
                self._answered = monotonic()
            self.longest_call = max(self.longest_call, monotonic() - begun)

    async def reaches(self, more: int) -> None:
        """Wait until so many more were acknowledged."""
        self._goal = len(self.acknowledged) + more
        self._reached.clear()
        await self._reached.wait()


def loads(client: AsyncFormationClient) -> list[Load]:
    async def first_contact(number: int) -> str:
        return (await client.resolve_user(f"first{number}@email.com", True))["muxi_user_id"]

    async def link(number: int) -> str:
        return (await client.associate_user_identifiers([(f"L{number}", "slack"), (f"L{number}", "github")]))[
            "muxi_user_id"
        ]

    async def remember(number: int) -> str:
        return (await client.add_memory("alice@email.com", f"Fact number {number}"))["memory_id"]

    async def look_up(number: int) -> str:
        return str(await client.find_user(f"nobody{number}"))

    names = {"first contact": first_contact, "link": link, "memory": remember, "look-up": look_up}
    return [Load(name, call) for name, call in names.items()]


async def check_acknowledged(config: FormationConfig, done: list[Load]) -> None:
    first, linked, memories, _ = (load.acknowledged for load in done)
    async with AsyncFormationClient(config) as fresh:
        for number, user_id in first.items():
            assert (await fresh.resolve_user(f"first{number}@email.com"))["muxi_user_id"] == user_id
        for number, user_id in linked.items():
            for kind in ("slack", "github"):
                assert (await fresh.resolve_user((f"L{number}", kind)))["muxi_user_id"] == user_id
        for memory_id in memories.values():
            assert await fresh.get_memory(memory_id, "alice@email.com")


@pytest.mark.parametrize("order", [-1, 1] if LONG else [-1])
async def test_the_primary_dies_under_load(
    database_config: FormationConfig,
    pair: tuple[PostgresCluster, PostgresCluster],
    order: int,  # in which the URL lists them
    capsys: pytest.CaptureFixture[str],
) -> None:
    primary, replica = pair
    primary.create_database("failover")
    await confirm_commits(primary)
    config = both(database_config, pair, order)
    async with AsyncFormationClient(config) as client:
        await client.resolve_user("alice@email.com", True)
        running = loads(client)
        over = asyncio.Event()
        tasks = [asyncio.create_task(load.run(over.is_set)) for load in running for _ in range(2)]
        async with asyncio.timeout(PATIENCE * 4):
            await asyncio.gather(*(load.reaches(CALLS) for load in running))
            await asyncio.to_thread(primary.stop)  # as if its plug was pulled
            begun = monotonic()
            await run(replica, "SELECT pg_promote()")
            promoted = monotonic() - begun
            await asyncio.gather(*(load.reaches(CALLS) for load in running))
        over.set()
        await asyncio.gather(*tasks)
    assert all(load.longest_call < PATIENCE for load in running)
    await check_acknowledged(config, running)
    await check_invariants(dataclasses.replace(config, database=_only(replica)))
    if LONG:
        with capsys.disabled():
            print(f"\npromoting took {promoted:.2f} s")
            for load in running:
                print(
                    f"{load.name}: {len(load.acknowledged)} acknowledged, {load.errors} errors, longest call "
                    f"{load.longest_call:.2f} s, longest time without an answer {load.outage:.2f} s"
                )


async def test_a_primary_that_is_made_read_only_is_left(
    database_config: FormationConfig, pair: tuple[PostgresCluster, PostgresCluster]
) -> None:
    """It still answers, look-ups too. Whoever meets its refusal goes to the other server with all connections."""
    primary, replica = pair
    primary.create_database("failover")
    config = both(database_config, pair, 1)
    async with AsyncFormationClient(config) as client:
        made = await client.resolve_user("alice@email.com", True)
        await client.set_preference("alice@email.com", "language", "pt")
        await client.find_user("stranger")
        await run(
            primary,
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "SELECT pg_reload_conf()",
        )
        cache = (await client._lifecycle.formation()).cache
        async with asyncio.timeout(PATIENCE):
            while monotonic() < cache.lease_until:  # noqa: ASYNC110 (time has no event)
                await asyncio.sleep(0.01)  # it would still notify: what another server is told is not heard here
        async with asyncio.timeout(PATIENCE):
            while True:
                # Until each back end has read it, which it does between two statements.
                try:
                    await client.create_user()
                except StorageUnavailableError:
                    break
        lsn = await _flushed(primary)
        await _replayed(replica, lsn)
        await run(replica, "SELECT pg_promote()")
        created = await _first_success(lambda: client.create_user("usr_after"))
        assert created["muxi_user_id"] == "usr_after"
        assert (await client.resolve_user("bob@email.com", True))["created"]
        assert (await client.resolve_user("alice@email.com"))["muxi_user_id"] == made["muxi_user_id"]
        # Look-ups too ask the new one: the old one knows nothing of him.
        (await client._lifecycle.formation()).cache.clear()
        assert await client.find_user("bob@email.com")
        await client.set_preference("alice@email.com", "language", "fr")
    async with AsyncFormationClient(dataclasses.replace(config, database=_only(replica))) as fresh:
        assert (await fresh.get_user("usr_after"))["muxi_user_id"] == "usr_after"
        assert await fresh.find_user("bob@email.com")


def _only(cluster: PostgresCluster) -> DatabaseConfig:
    return DatabaseConfig("postgres", url=Secret(cluster.url("failover")))


async def _first_success(call: Callable[[], Awaitable[dict[str, object]]]) -> dict[str, object]:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await call()
            except StorageUnavailableError:
                continue


async def _flushed(primary: PostgresCluster) -> str:
    connection = await asyncpg.connect(primary.url())
    try:
        lsn: str = await connection.fetchval("SELECT pg_current_wal_flush_lsn()::text")
        return lsn
    finally:
        await connection.close()


async def _replayed(replica: PostgresCluster, lsn: str) -> None:
    connection = await asyncpg.connect(replica.url())
    try:
        async with asyncio.timeout(PATIENCE):
            while not await connection.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", lsn):
                pass
    finally:
        await connection.close()
