"""Fixtures of every test: one private PostgreSQL a session, and formations on both databases."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from muxi_identity.config import FormationConfig, Secret
from tests.postgres import PostgresCluster, start_cluster


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
        persistent = {"provider": "sqlite", "connection_string": str(tmp_path / "muxi.db")}
    config = FormationConfig.from_mapping(
        {"id": f"test-{secrets.token_hex(8)}", "memory": {"persistent": persistent}}, base=tmp_path
    )
    return dataclasses.replace(config, secret_key=Secret(secrets.token_hex(32)))
