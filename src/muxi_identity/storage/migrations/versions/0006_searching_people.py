"""Indexes for lists of people: oldest first, and by the beginning of an identifier."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes."""
    root, linked = sa.text("parent_pk IS NULL"), sa.text("unlinked_at IS NULL")
    op.create_index(
        "ix_users_created_at",
        "muxi_users",
        ["formation_id", "created_at", "pk"],
        postgresql_where=root,
        sqlite_where=root,
    )
    op.create_index(
        "ix_identifiers_value",
        "muxi_identifiers",
        ["formation_id", "value"],
        postgresql_ops={"value": "text_pattern_ops"},
        postgresql_where=linked,
        sqlite_where=linked,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_identifiers_value", table_name="muxi_identifiers")
    op.drop_index("ix_users_created_at", table_name="muxi_users")
