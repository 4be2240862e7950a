"""The index for the session that an identifier is in is for nothing else, and nothing else is for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_INDEX, _TABLE = "ix_sessions_current", "muxi_sessions"
_REST = (sa.text("coalesce(identifier_pk, 0)"), "audience", "continued", "last_activity_at", "pk")


def upgrade() -> None:
    """Make it with the owner written as in no other: PostgreSQL takes one that begins alike for as good."""
    _make_anew("formation_id", sa.text("abs(user_pk)"), *_REST)


def downgrade() -> None:
    """Make it as it was."""
    _make_anew("formation_id", "user_pk", *_REST)


def _make_anew(*columns: str | sa.TextClause) -> None:
    op.drop_index(_INDEX, table_name=_TABLE)
    op.create_index(_INDEX, _TABLE, [*columns])
