"""From a configuration to the database that it names."""

from __future__ import annotations

from sqlalchemy import Connection, select

from muxi_identity.config import DatabaseConfig
from muxi_identity.errors import ConfigurationError
from muxi_identity.storage import migrate
from muxi_identity.storage.database import Database
from muxi_identity.storage.sqlite import SqliteDatabase
from muxi_identity.storage.tables import formations


def make_database(config: DatabaseConfig, *, durable: bool = True) -> Database:
    """Return the database of a formation, not yet open.

    Raises:
        ConfigurationError: PostgreSQL is wanted and its driver is not installed.
    """
    if config.provider == "sqlite":
        assert config.path is not None
        return SqliteDatabase(config.path, config.limits, ignore_in_git=config.ignore_in_git, durable=durable)
    try:
        from muxi_identity.storage.postgres import PostgresDatabase  # noqa: PLC0415 (an optional extra)
    except ImportError as error:
        raise ConfigurationError(
            "memory.persistent.provider is postgres, whose driver is not installed: "
            "pip install 'muxi-identity[postgres]'."
        ) from error
    assert config.url is not None
    listen_url = None if config.listen_url is None else config.listen_url.reveal()
    return PostgresDatabase(config.url.reveal(), config.limits, listen_url=listen_url)


async def has_formation(config: DatabaseConfig, formation_id: str) -> bool:
    """Tell whether a formation is there and can be opened without anything being changed. Changes and makes nothing.

    Raises:
        ConfigurationError: The schema is older than this code, and opening would upgrade it; or the database cannot be
            used as configured.
        StorageUnavailableError: It cannot be reached.
    """
    if config.path is not None and not config.path.is_file():
        return False
    database = make_database(config)
    await database.open(upgrade=False)

    def look(connection: Connection) -> bool:
        revision = migrate.current(connection)
        if revision is None:
            return False
        if migrate.is_behind(revision):
            raise ConfigurationError(
                f"The schema is at revision {revision}, and this program's at {migrate.newest()}. A dry run "
                "changes nothing: run `muxi db upgrade` first."
            )
        known = select(formations.c.formation_id).where(formations.c.formation_id == formation_id)
        return connection.execute(known).scalar() is not None

    try:
        return await database.read(look)
    finally:
        await database.close()
