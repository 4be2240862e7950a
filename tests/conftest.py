"""Fixtures of every test: one private PostgreSQL a session, and formations on both databases."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from muxi_identity.config import FormationConfig, Secret
from muxi_identity.storage.sqlite import SqliteDatabase
from tests.long import LONG
from tests.pooler import NoPooler, Pooler, start_pooler
from tests.postgres import PostgresCluster, start_cluster

if LONG:
    os.environ.setdefault("PYTEST_TIMEOUT", "0")  # they may take as long as they like


def pytest_configure() -> None:
    """Hear SIGINT. A shell has what it starts in the background ignore it, and all that tests start would, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait for databases and for other processes."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """The session's server, started by the first test that needs it."""
    cluster = start_cluster()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def postgres_url(postgres_cluster: PostgresCluster) -> str:
    """An empty database for this test module, for tests of what concerns a whole database."""
    return postgres_cluster.create_database()


@pytest.fixture(scope="session")
def shared_postgres_url(postgres_cluster: PostgresCluster) -> str:
    """The one database that all formations of ``database_config`` live in."""
    return postgres_cluster.create_database()


@pytest.fixture(scope="session")
def pooler(postgres_cluster: PostgresCluster) -> Iterator[Pooler]:
    """A PgBouncer in front of the session's server.

    No package carries one for whoever may not install any, so a machine without it skips what needs it, and says so.
    CI installs it, and names it in the environment: then it must be there.
    """
    try:
        pooler = start_pooler(postgres_cluster, connections=4)
    except NoPooler as missing:
        pytest.skip(str(missing))
    yield pooler
    pooler.stop()


@pytest.fixture(scope="session")
def sqlite_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema and nothing in it: a copy is there sooner than migrations have run."""
    path = tmp_path_factory.mktemp("schema") / "muxi.db"

    async def make() -> None:
        database = SqliteDatabase(path)
        await database.open()
        await database.close()

    asyncio.run(make())
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def database_config(request: pytest.FixtureRequest, tmp_path: Path) -> FormationConfig:
    """A fresh formation on either database.

    On PostgreSQL it shares its database with those of other tests: formations are isolated, and that is fast.
    """
    if request.param == "postgres":
        persistent = {
            "provider": "postgres",
            "connection_string": request.getfixturevalue("shared_postgres_url"),
        }
    else:
        path = tmp_path / "muxi.db"
        shutil.copyfile(request.getfixturevalue("sqlite_schema"), path)
        persistent = {"provider": "sqlite", "connection_string": str(path)}
    config = FormationConfig.from_mapping(
        {"id": f"test-{secrets.token_hex(8)}", "memory": {"persistent": persistent}}, base=tmp_path
    )
    return dataclasses.replace(config, secret_key=Secret(secrets.token_hex(32)))
