"""Runs migrations over the connection, and in the transaction, that ``storage.migrate`` opened."""

from __future__ import annotations

from alembic import context

from muxi_identity.storage.migrate import VERSION_TABLE
from muxi_identity.storage.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
context.run_migrations()
