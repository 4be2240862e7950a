"""Where it is measured: a fresh formation on SQLite or on a private PostgreSQL, with the floor beside it."""

from __future__ import annotations

import contextlib
import functools
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.postgres import PostgresCluster, start_cluster

from benchmarks.cores import apart
from benchmarks.floors import Floor
from benchmarks.floors_postgres import PostgresFloor
from benchmarks.floors_sqlite import SqliteFloor
from benchmarks.seeding import seed
from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.config import FormationConfig, Secret
from muxi_identity.formation import Formation


@dataclass
class Place:
    """One database with a seeded formation, an open client of it, and the floor."""

    database: str
    config: FormationConfig
    client: AsyncFormationClient
    formation: Formation
    floor: Floor
    people: int
    cluster: PostgresCluster | None = None

    def bucket(self, fold: str) -> bytes:
        return self.formation._bucket(fold)


DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""As in production: what was committed is on the disk."""
Seed = Callable[[Place, int], Awaitable[None]]


@contextlib.contextmanager
def started(**settings: str) -> Iterator[PostgresCluster]:
    """Start a server with these settings, and end it."""
    cluster = start_cluster(**settings)
    try:
        yield cluster
    finally:
        cluster.stop()


@functools.cache
def forgetful_cluster() -> PostgresCluster:
    """Return the one server that waits for no disk, for all that measures nothing. It ends with this process."""
    return start_cluster()


@contextlib.asynccontextmanager
async def open_place(
    database: str,
    people: int,
    cluster: PostgresCluster | None = None,
    seeded_by: Seed | None = None,
    *,
    durable: bool = True,
) -> AsyncIterator[Place]:
    """Set up ``database`` ("sqlite" or "postgres") with ``people`` seeded users; all is gone afterwards.

    On PostgreSQL it is a database of ``cluster``, or of another, which waits for the disk if ``durable``.
    """
    async with contextlib.AsyncExitStack() as stack:
        if database == "postgres":
            if cluster is None:
                cluster = stack.enter_context(started(**DURABLE)) if durable else forgetful_cluster()
            url = cluster.create_database()
            config = configure("postgres", url)
            await stack.enter_async_context(apart(url))
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="muxi-bench-"))
            config = configure("sqlite", str(Path(folder) / "muxi.db"))
        # Statements prepared before the tables were filled would keep plans for empty ones: another client.
        async with _opened(database, config, people, cluster) as place:
            await (seeded_by or _seed)(place, people)
        yield await stack.enter_async_context(_opened(database, config, people, cluster))


@contextlib.asynccontextmanager
async def _opened(
    database: str, config: FormationConfig, people: int, cluster: PostgresCluster | None
) -> AsyncIterator[Place]:
    async with AsyncFormationClient(config) as client, _floor(config) as floor:
        formation = await client._lifecycle.formation()
        yield Place(database, config, client, formation, floor, people, cluster)


async def _seed(place: Place, people: int) -> None:
    await seed(place.formation, people)


def configure(provider: str, connection_string: str) -> FormationConfig:
    """Return the configuration of a fresh formation."""
    persistent = {"provider": provider, "connection_string": connection_string}
    config = FormationConfig.from_mapping({"id": "bench", "memory": {"persistent": persistent}})
    return replace(config, secret_key=Secret(secrets.token_hex(32)))


@contextlib.asynccontextmanager
async def _floor(config: FormationConfig) -> AsyncIterator[Floor]:
    if config.database.provider == "sqlite":
        assert config.database.path is not None
        floor: Floor = SqliteFloor(config.database.path, config.id)
    else:
        assert config.database.url is not None
        floor = await PostgresFloor.open(config.database.url.reveal(), config.id)
    try:
        yield floor
    finally:
        await floor.close()
