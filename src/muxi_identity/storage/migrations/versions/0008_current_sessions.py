"""An index for the session that an identifier is in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index(
        "ix_sessions_current",
        "muxi_sessions",
        [
            "formation_id",
            "user_pk",
            sa.text("coalesce(identifier_pk, 0)"),
            "audience",
            "continued",
            "last_activity_at",
            "pk",
        ],
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_sessions_current", table_name="muxi_sessions")
