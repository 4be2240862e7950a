"""An index for the audit log: what was recorded last, by time."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_history_at", "muxi_history", ["formation_id", "at", "pk"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_history_at", table_name="muxi_history")
