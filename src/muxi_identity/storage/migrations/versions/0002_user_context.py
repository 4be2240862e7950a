"""What follows the person: memories with ids, working memory, preferences, credentials, tasks, synopses."""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the new tables, and give each statement of the old one an id; superseded and retracted ones go."""
    op.add_column("muxi_sessions", sa.Column("audience", sa.Text(), server_default="private", nullable=False))
    op.add_column("muxi_sessions", sa.Column("continued", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("muxi_sessions", sa.Column("context", sa.Text(), nullable=True))
    op.create_index(
        "ix_sessions_newest", "muxi_sessions", ["formation_id", "user_pk", "last_activity_at", "pk"], unique=False
    )
    statements = _standing_statements()
    op.drop_index("ix_memories_newest", table_name="muxi_memories")
    op.drop_table("muxi_memories")
    memories = _owned(
        "memories",
        sa.Column("memory_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("shareable", sa.Boolean(create_constraint=True, name="ck_memories_shareable"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("formation_id", "memory_id", name="uq_memories_id"),
        key=("type", "key"),
    )
    op.create_index(
        "ix_memories_newest", "muxi_memories", ["formation_id", "user_pk", "updated_at", "pk"], unique=False
    )
    if statements:
        op.bulk_insert(memories, statements)
    _owned(
        "working_memory",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("shareable", sa.Boolean(create_constraint=True, name="ck_working_memory_shareable"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        key=("kind", "content"),
    )
    op.create_index(
        "ix_working_memory_newest",
        "muxi_working_memory",
        ["formation_id", "user_pk", "created_at", "pk"],
        unique=False,
    )
    _owned(
        "preferences",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("shareable", sa.Boolean(create_constraint=True, name="ck_preferences_shareable"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        key=("key",),
    )
    _owned(
        "credentials",
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("preview", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("formation_id", "credential_id", name="uq_credentials_id"),
        key=("service", "name"),
    )
    _owned(
        "tasks",
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("next_run_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claim", sa.Text(), nullable=True),
        sa.Column("claimed_until", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("formation_id", "task_id", name="uq_tasks_id"),
    )
    op.create_index("ix_tasks_due", "muxi_tasks", ["formation_id", "next_run_at"], unique=False)
    op.create_index("ix_tasks_user", "muxi_tasks", ["formation_id", "user_pk"], unique=False)
    _owned(
        "task_runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("task_pk", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("reply", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["formation_id", "task_pk"],
            ["muxi_tasks.formation_id", "muxi_tasks.pk"],
            name="fk_task_runs_task",
        ),
        sa.UniqueConstraint("formation_id", "run_id", name="uq_task_runs_id"),
    )
    op.create_index(
        "ix_task_runs_task", "muxi_task_runs", ["formation_id", "task_pk", "started_at", "pk"], unique=False
    )
    op.create_index("ix_task_runs_user", "muxi_task_runs", ["formation_id", "user_pk"], unique=False)
    _owned(
        "synopses",
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("basis", sa.Text(), nullable=True),
        sa.Column("built_at", sa.BigInteger(), nullable=True),
        sa.UniqueConstraint("formation_id", "user_pk", name="uq_synopses_user"),
    )


def _owned(name: str, *columns: Any, key: tuple[str, ...] = ()) -> sa.Table:
    table = op.create_table(
        f"muxi_{name}",
        sa.Column("formation_id", sa.Text(), nullable=False),
        sa.Column("pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_pk", sa.BigInteger(), nullable=False),
        sa.Column("identifier_pk", sa.BigInteger(), nullable=True),
        *columns,
        sa.PrimaryKeyConstraint("formation_id", "pk", name=f"pk_{name}"),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name=f"fk_{name}_user",
            deferrable=True,
            initially="IMMEDIATE",
        ),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk", "identifier_pk"],
            ["muxi_identifiers.formation_id", "muxi_identifiers.user_pk", "muxi_identifiers.pk"],
            name=f"fk_{name}_provenance",
            deferrable=True,
            initially="IMMEDIATE",
        ),
    )
    if key:
        op.create_index(
            f"uq_{name}_key",
            f"muxi_{name}",
            ["formation_id", "user_pk", sa.text("coalesce(identifier_pk, 0)"), *key],
            unique=True,
        )
    return table


def _standing_statements() -> list[dict[str, Any]]:
    """Return the last statement of each member and identifier on each key, unless the person retracted it later."""
    rows = op.get_bind().execute(
        sa.text(
            "SELECT m.formation_id, m.pk, m.user_pk, m.identifier_pk, m.type, m.key, m.content, m.value,"
            " m.created_at, u.root_pk FROM muxi_memories m"
            " JOIN muxi_users u ON u.formation_id = m.formation_id AND u.pk = m.user_pk"
            " ORDER BY m.created_at, m.pk"
        )
    )
    standing: dict[tuple[Any, ...], dict[tuple[Any, ...], dict[str, Any]]] = {}
    for row in rows.mappings():
        said = standing.setdefault((row["formation_id"], row["root_pk"], row["type"], row["key"]), {})
        if row["value"] is None:
            said.clear()
            continue
        kept = {name: value for name, value in row.items() if name != "root_pk"}
        said[(row["user_pk"], row["identifier_pk"])] = {
            **kept,
            "memory_id": f"mem_{secrets.token_hex(10)}",
            "metadata": None,
            "shareable": False,
            "updated_at": row["created_at"],
        }
    return [row for said in standing.values() for row in said.values()]


def downgrade() -> None:
    """Drop what this revision made; memories are lost."""
    for name in ("synopses", "task_runs", "tasks", "credentials", "preferences", "working_memory", "memories"):
        op.drop_table(f"muxi_{name}")
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
        sa.PrimaryKeyConstraint("formation_id", "pk", name="pk_memories"),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk"],
            ["muxi_users.formation_id", "muxi_users.pk"],
            name="fk_memories_user",
            deferrable=True,
            initially="IMMEDIATE",
        ),
        sa.ForeignKeyConstraint(
            ["formation_id", "user_pk", "identifier_pk"],
            ["muxi_identifiers.formation_id", "muxi_identifiers.user_pk", "muxi_identifiers.pk"],
            name="fk_memories_provenance",
            deferrable=True,
            initially="IMMEDIATE",
        ),
    )
    op.create_index(
        "ix_memories_newest", "muxi_memories", ["formation_id", "user_pk", "created_at", "pk"], unique=False
    )
    op.drop_index("ix_sessions_newest", table_name="muxi_sessions")
    for name in ("context", "continued", "audience"):
        op.drop_column("muxi_sessions", name)
