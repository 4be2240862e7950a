"""No statistics of which formations there are: PostgreSQL would take the rows of a new one for hardly any."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMN = "formation_id"
_TABLES = (
    "muxi_api_keys",
    "muxi_credentials",
    "muxi_formations",
    "muxi_history",
    "muxi_idempotency",
    "muxi_identifiers",
    "muxi_import_notes",
    "muxi_imports",
    "muxi_link_attempts",
    "muxi_link_codes",
    "muxi_memories",
    "muxi_merges",
    "muxi_messages",
    "muxi_outbox",
    "muxi_preferences",
    "muxi_requests",
    "muxi_separations",
    "muxi_sessions",
    "muxi_synopses",
    "muxi_task_runs",
    "muxi_tasks",
    "muxi_users",
    "muxi_working_memory",
)
# Dropping them locks a table while some of its indexes are built again: of this many rows a moment.
_SMALL = 100_000
_GATHERED = sa.text(
    "SELECT s.tablename FROM pg_stats s JOIN pg_class c ON c.oid = to_regclass(s.tablename)"
    " WHERE s.schemaname = current_schema() AND s.attname = :column AND c.reltuples <= :rows"
).bindparams(column=_COLUMN, rows=_SMALL)


def upgrade() -> None:
    """Gather none from now on, and drop those of small tables; `muxi db check` tells of the others."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    gathered = set(connection.scalars(_GATHERED))
    for table in _TABLES:
        if table in gathered:
            # A type set anew, be it the same, is what drops them. The rows stay as they are, and the indexes but for
            # those with an expression or a condition.
            op.alter_column(table, _COLUMN, type_=sa.Text(), existing_nullable=False)
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {_COLUMN} SET STATISTICS 0")


def downgrade() -> None:
    """Gather them as PostgreSQL does by itself."""
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {_COLUMN} SET STATISTICS -1")
