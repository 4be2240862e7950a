"""Databases that stay open while many formations come and go on them."""

from __future__ import annotations

from muxi_identity.config import DatabaseConfig
from muxi_identity.storage.database import Database
from muxi_identity.storage.postgres import PostgresDatabase
from muxi_identity.storage.sqlite import SqliteDatabase


class _SharedSqlite(SqliteDatabase):
    """Opened once for all examples."""

    async def open(self) -> None:
        if self._engine is None:
            await super().open()

    async def close(self) -> None:
        """Stay open for the next example."""


class _SharedPostgres(PostgresDatabase):
    """Opened once for all examples."""

    async def open(self) -> None:
        if self._engine is None:
            await super().open()

    async def close(self) -> None:
        """Stay open for the next example."""


def shared_database(where: DatabaseConfig) -> Database:
    """Make a database that a formation's closing does not close."""
    if where.path is not None:
        return _SharedSqlite(where.path, durable=False)
    assert where.url is not None
    return _SharedPostgres(where.url.reveal())


async def close_for_good(database: Database) -> None:
    """Close one that :func:`shared_database` made."""
    kind = SqliteDatabase if isinstance(database, SqliteDatabase) else PostgresDatabase
    await kind.close(database)
