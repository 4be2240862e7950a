"""From a configuration to the database that it names."""

from __future__ import annotations

from muxi_identity.config import DatabaseConfig
from muxi_identity.errors import ConfigurationError
from muxi_identity.storage.database import Database
from muxi_identity.storage.sqlite import SqliteDatabase


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
