"""Codes that prove two channels to be one person's, the outbox of events, and receipts in the history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.add_column("muxi_history", sa.Column("details", sa.Text(), nullable=True))
    op.create_table(
        "muxi_link_codes",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_pk", sa.BigInteger(), nullable=False),
        sa.Column("identifier_pk", sa.BigInteger(), nullable=True),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("asked_as", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("pending_identifier_pk", sa.BigInteger(), nullable=True),
        sa.Column("pending_message_pk", sa.BigInteger(), nullable=True),
        sa.Column("pending_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("formation_id", "pk", name="pk_link_codes"),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_link_codes_user",
            deferrable=True,
            initially="IMMEDIATE",
        ),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk", "identifier_pk"],
            ["muxi_identifiers.formation_id", "muxi_identifiers.user_pk", "muxi_identifiers.pk"],
            name="fk_link_codes_provenance",
            deferrable=True,
            initially="IMMEDIATE",
        ),
        sa.UniqueConstraint("formation_id", "code_hash", name="uq_link_codes_hash"),
        sa.UniqueConstraint("formation_id", "user_pk", "identifier_pk", name="uq_link_codes_identifier"),
    )
    op.create_table(
        "muxi_link_attempts",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("identifier_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("formation_id", "identifier_pk", name="pk_link_attempts"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.CreateSequence(sa.Sequence("muxi_outbox_positions", data_type=sa.BigInteger)))
    op.create_table(
        "muxi_outbox",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("other_user_id", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("claim", sa.Text(), nullable=True),
        sa.Column("claimed_until", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("failed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("formation_id", "position", name="pk_outbox"),
        sa.UniqueConstraint("formation_id", "event_id", "endpoint", name="uq_outbox_event"),
    )
    op.create_index("ix_outbox_due", "muxi_outbox", ["formation_id", "due_at"], unique=False)
    op.create_index("ix_outbox_failed", "muxi_outbox", ["formation_id", "failed_at", "position"], unique=False)
    op.create_index("ix_outbox_user", "muxi_outbox", ["formation_id", "endpoint", "user_id", "position"], unique=False)
    op.create_index(
        "ix_outbox_other_user",
        "muxi_outbox",
        ["formation_id", "endpoint", "other_user_id", "position"],
        unique=False,
    )


def downgrade() -> None:
    """Drop what this revision made."""
    op.drop_table("muxi_outbox")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.DropSequence(sa.Sequence("muxi_outbox_positions")))
    op.drop_table("muxi_link_attempts")
    op.drop_table("muxi_link_codes")
    op.drop_column("muxi_history", "details")
