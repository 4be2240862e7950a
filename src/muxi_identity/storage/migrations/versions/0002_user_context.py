"""What follows the person: memories with ids, working memory, preferences, credentials, tasks, synopses."""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

from muxi_identity.words import searchable

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the new tables, and give each statement of the old one an id; superseded and retracted ones go."""
    op.add_column("muxi_sessions", sa.Column("audience", sa.Text(), server_default="private", nullable=False))
    op.add_column("muxi_sessions", sa.Column("continued", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("muxi_sessions", sa.Column("context", sa.Text(), nullable=True))
    # The identifier comes last in every such key: the rows of one name are found together.
    op.drop_index("uq_sessions_key", table_name="muxi_sessions")
    _own_key("sessions", "session_id")
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
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("shareable", sa.Boolean(create_constraint=True, name="ck_memories_shareable"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("formation_id", "memory_id", name="uq_memories_id"),
    )
    # Apart from the other index of the owner: without statistics PostgreSQL would take that one for as good.
    _own_key("memories", "type", "key", owner="abs(user_pk)")
    op.create_index(
        "ix_memories_newest", "muxi_memories", ["formation_id", "user_pk", "updated_at", "pk"], unique=False
    )
    op.create_index(
        "ix_memories_facts",
        "muxi_memories",
        ["formation_id", "user_pk", "updated_at", "pk"],
        unique=False,
        postgresql_where=sa.text("value IS NOT NULL"),
        sqlite_where=sa.text("value IS NOT NULL"),
    )
    _make_searchable()
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
        _own_key(name, *key)
    return table


def _own_key(name: str, *key: str, owner: str = "user_pk") -> None:
    op.create_index(
        f"uq_{name}_key",
        f"muxi_{name}",
        ["formation_id", sa.text(owner), *key, sa.text("coalesce(identifier_pk, 0)")],
        unique=True,
    )


def _make_searchable() -> None:
    """Index the words of each memory together with its owner, so that one look says which of a member's have a word."""
    for statement in _POSTGRES if op.get_bind().dialect.name == "postgresql" else _SQLITE:
        op.execute(sa.text(statement))


# No word begins with "@": the owner is none of the memory's words. Without a list of what is still to be indexed
# (fastupdate), which every search would have to read through.
_POSTGRES = (
    """
    ALTER TABLE muxi_memories ADD COLUMN lexemes tsvector GENERATED ALWAYS AS (
        to_tsvector('pg_catalog.english'::regconfig, words) || array_to_tsvector(ARRAY['@' || user_pk::text])
    ) STORED
    """,
    "CREATE INDEX ix_memories_lexemes ON muxi_memories USING gin (lexemes) WITH (fastupdate = off)",
)
# FTS5 knows a row by a number, and those of muxi_memories are given anew by VACUUM. So the words that name a memory and
# its owner are searched for like any other; of a formation's name they hold the hexadecimal form, which is one word.
_OWNER = "lower(hex({0}.formation_id)) || 'u' || {0}.user_pk"
_MEMORY = "lower(hex({0}.formation_id)) || 'm' || {0}.pk"
_ADD = f"""
    INSERT INTO muxi_memory_words (owner, memory, words, pk)
    VALUES ({_OWNER}, {_MEMORY}, new.words, new.pk);
""".format("new")  # noqa: S608 (put together from the constants above)
_REMOVE = f"""
    DELETE FROM muxi_memory_words
     WHERE rowid IN (SELECT rowid FROM muxi_memory_words WHERE muxi_memory_words MATCH 'memory : ' || {_MEMORY});
""".format("old")  # noqa: S608 (the same)
_SQLITE = (
    """
    CREATE VIRTUAL TABLE muxi_memory_words USING fts5 (
        owner, memory, words, pk UNINDEXED,
        tokenize = "porter unicode61 remove_diacritics 0 categories 'L* N* Co Mn Mc'"
    )
    """,
    f"CREATE TRIGGER tr_memories_added AFTER INSERT ON muxi_memories BEGIN {_ADD} END",
    f"CREATE TRIGGER tr_memories_removed AFTER DELETE ON muxi_memories BEGIN {_REMOVE} END",
    f"""
    CREATE TRIGGER tr_memories_changed AFTER UPDATE OF formation_id, pk, user_pk, words ON muxi_memories
    WHEN (old.formation_id, old.pk, old.user_pk, old.words) IS NOT (new.formation_id, new.pk, new.user_pk, new.words)
    BEGIN {_REMOVE} {_ADD} END
    """,
)


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
            "words": searchable(row["content"], row["value"], row["key"]),
            "shareable": False,
            "updated_at": row["created_at"],
        }
    return [row for said in standing.values() for row in said.values()]


def downgrade() -> None:
    """Drop what this revision made; memories are lost."""
    for name in ("synopses", "task_runs", "tasks", "credentials", "preferences", "working_memory", "memories"):
        op.drop_table(f"muxi_{name}")
    if op.get_bind().dialect.name == "sqlite":
        op.drop_table("muxi_memory_words")
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
    op.drop_index("uq_sessions_key", table_name="muxi_sessions")
    op.create_index(
        "uq_sessions_key",
        "muxi_sessions",
        ["formation_id", "user_pk", sa.text("coalesce(identifier_pk, 0)"), "session_id"],
        unique=True,
    )
    op.drop_index("ix_sessions_newest", table_name="muxi_sessions")
    for name in ("context", "continued", "audience"):
        op.drop_column("muxi_sessions", name)
