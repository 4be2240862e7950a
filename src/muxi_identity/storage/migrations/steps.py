"""The migrations as Alembic runs them. Loaded where there is something to upgrade: see ``storage.migrate``."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def config_of(connection: Connection) -> Config:
    """Return what Alembic is to know: where the migrations are, and the connection that they go over."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def take_all(connection: Connection) -> None:
    """Upgrade the schema to the newest revision, in the transaction that ``connection`` is in."""
    command.upgrade(config_of(connection), "head")
