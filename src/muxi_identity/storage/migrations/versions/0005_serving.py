"""What a server keeps: answers to requests that may be sent again, and the keys that it made for itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "muxi_requests",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("claim", sa.Text(), nullable=False),
        sa.Column("claimed_until", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("formation_id", "key", name="pk_requests"),
    )
    op.create_index("ix_requests_created_at", "muxi_requests", ["formation_id", "created_at"], unique=False)
    op.create_table(
        "muxi_api_keys",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("formation_id", "role", name="pk_api_keys"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("muxi_api_keys")
    op.drop_index("ix_requests_created_at", table_name="muxi_requests")
    op.drop_table("muxi_requests")
