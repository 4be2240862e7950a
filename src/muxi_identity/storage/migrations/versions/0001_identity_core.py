"""The identity core, sessions and memories."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the schema."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.CreateSequence(sa.Sequence("muxi_keys", data_type=sa.BigInteger, cache=32)))
    op.create_table(
        "muxi_formations",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("key_check", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_key", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("formation_id", name="pk_formations"),
    )
    op.create_table(
        "muxi_history",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("other_user_id", sa.Text(), nullable=True),
        sa.Column("identifier_pk", sa.BigInteger(), nullable=True),
        sa.Column("merge_id", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("formation_id", "pk", name="pk_history"),
    )
    op.create_index("ix_history_user", "muxi_history", ["formation_id", "user_id", "at", "pk"], unique=False)
    op.create_table(
        "muxi_idempotency",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("formation_id", "key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_created_at", "muxi_idempotency", ["formation_id", "created_at"], unique=False)
    op.create_table(
        "muxi_users",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("parent_pk", sa.BigInteger(), nullable=True),
        sa.Column("root_pk", sa.BigInteger(), nullable=False),
        sa.Column("established_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("(parent_pk IS NULL) = (root_pk = pk)", name="ck_users_root_has_no_parent"),
        sa.CheckConstraint("parent_pk <> pk", name="ck_users_not_own_parent"),
        sa.ForeignKeyConstraint(
            ["formation_id", "parent_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_users_parent",
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["formation_id", "root_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_users_root",
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("formation_id", "pk", name="pk_users"),
        sa.UniqueConstraint("formation_id", "public_id", name="uq_users_public_id"),
    )
    op.create_index("ix_users_root", "muxi_users", ["formation_id", "root_pk"], unique=False)
    op.create_table(
        "muxi_identifiers",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_pk", sa.BigInteger(), nullable=True),
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("scope", sa.Text(), nullable=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("spelling", sa.Text(), nullable=False),
        sa.Column("secret", sa.Boolean(create_constraint=True, name="ck_identifiers_secret"), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("linked_at", sa.BigInteger(), nullable=False),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("unlinked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("NOT secret OR value = ''", name="ck_identifiers_secret_not_kept"),
        sa.CheckConstraint("scope IS NULL OR type IS NOT NULL", name="ck_identifiers_scope_has_type"),
        sa.CheckConstraint("user_pk IS NOT NULL OR (secret AND unlinked_at IS NOT NULL)", name="ck_identifiers_owned"),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_identifiers_user",
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("formation_id", "pk", name="pk_identifiers"),
        sa.UniqueConstraint("formation_id", "bucket", "slot", name="uq_identifiers_bucket_slot"),
        sa.UniqueConstraint("formation_id", "user_pk", "pk", name="uq_identifiers_user_pk"),
    )
    op.create_table(
        "muxi_merges",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("merge_id", sa.Text(), nullable=False),
        sa.Column("primary_pk", sa.BigInteger(), nullable=False),
        sa.Column("secondary_pk", sa.BigInteger(), nullable=False),
        sa.Column("merged_at", sa.BigInteger(), nullable=False),
        sa.Column("undone_at", sa.BigInteger(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["formation_id", "primary_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_merges_primary",
        ),
        sa.ForeignKeyConstraint(
            ["formation_id", "secondary_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_merges_secondary",
        ),
        sa.PrimaryKeyConstraint("formation_id", "merge_id", name="pk_merges"),
    )
    op.create_index("ix_merges_primary", "muxi_merges", ["formation_id", "primary_pk"], unique=False)
    op.create_index("ix_merges_secondary", "muxi_merges", ["formation_id", "secondary_pk"], unique=False)
    op.create_table(
        "muxi_memories",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_pk", sa.BigInteger(), nullable=False),
        sa.Column("identifier_pk", sa.BigInteger(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk", "identifier_pk"],
            ["muxi_identifiers.formation_id", "muxi_identifiers.user_pk", "muxi_identifiers.pk"],
            name="fk_memories_provenance",
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_memories_user",
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("formation_id", "pk", name="pk_memories"),
    )
    op.create_index(
        "ix_memories_newest", "muxi_memories", ["formation_id", "user_pk", "created_at", "pk"], unique=False
    )
    op.create_table(
        "muxi_sessions",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_pk", sa.BigInteger(), nullable=False),
        sa.Column("identifier_pk", sa.BigInteger(), nullable=True),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_activity_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk", "identifier_pk"],
            ["muxi_identifiers.formation_id", "muxi_identifiers.user_pk", "muxi_identifiers.pk"],
            name="fk_sessions_provenance",
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_sessions_user",
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("formation_id", "pk", name="pk_sessions"),
    )
    op.create_table(
        "muxi_messages",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_pk", sa.BigInteger(), nullable=False),
        sa.Column("identifier_pk", sa.BigInteger(), nullable=True),
        sa.Column("session_pk", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["formation_id", "session_pk"],
            ["muxi_sessions.formation_id", "muxi_sessions.pk"],
            name="fk_messages_session",
        ),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk", "identifier_pk"],
            ["muxi_identifiers.formation_id", "muxi_identifiers.user_pk", "muxi_identifiers.pk"],
            name="fk_messages_provenance",
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_messages_user",
            initially="IMMEDIATE",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("formation_id", "pk", name="pk_messages"),
    )
    op.create_index(
        "uq_sessions_key",
        "muxi_sessions",
        ["formation_id", "user_pk", sa.text("coalesce(identifier_pk, 0)"), "session_id"],
        unique=True,
    )
    op.create_index(
        "ix_messages_session", "muxi_messages", ["formation_id", "session_pk", "created_at", "pk"], unique=False
    )
    op.create_index("ix_messages_user", "muxi_messages", ["formation_id", "user_pk"], unique=False)


def downgrade() -> None:
    """Drop it, with everything in it."""
    op.drop_index("ix_messages_user", table_name="muxi_messages")
    op.drop_index("ix_messages_session", table_name="muxi_messages")
    op.drop_table("muxi_messages")
    op.drop_index("uq_sessions_key", table_name="muxi_sessions")
    op.drop_table("muxi_sessions")
    op.drop_index("ix_memories_newest", table_name="muxi_memories")
    op.drop_table("muxi_memories")
    op.drop_index("ix_merges_secondary", table_name="muxi_merges")
    op.drop_index("ix_merges_primary", table_name="muxi_merges")
    op.drop_table("muxi_merges")
    op.drop_table("muxi_identifiers")
    op.drop_index("ix_users_root", table_name="muxi_users")
    op.drop_table("muxi_users")
    op.drop_index("ix_idempotency_created_at", table_name="muxi_idempotency")
    op.drop_table("muxi_idempotency")
    op.drop_index("ix_history_user", table_name="muxi_history")
    op.drop_table("muxi_history")
    op.drop_table("muxi_formations")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.DropSequence(sa.Sequence("muxi_keys")))
