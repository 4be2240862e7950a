"""What belongs to a person: the user-owned tables.

Rows lie under the member and the identifier that they were recorded through, and reads go over all members of the
person. Where two rows say the same thing (a preference of one key, a memory of one key), the newest wins when they are
read; none is overwritten by another channel's.
"""

from __future__ import annotations

import hashlib
import unicodedata

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    func,
    literal_column,
    text,
    true,
)
from sqlalchemy.engine.default import DefaultExecutionContext

from muxi_identity.storage.tables.base import own_key, owned_table, owner_apart
from muxi_identity.words import searchable

DIGEST = "#"
"""What the key of a memory begins with where it is about no attribute."""


def memory_words(content: str, value: str | None, key: str) -> str:
    """Return what a search finds a memory by."""
    return searchable(content, value, None if key.startswith(DIGEST) else key)


def memory_digest(content: str) -> str:
    """Return the key of a memory that is about no attribute: the same for contents that say the same."""
    folded = " ".join(unicodedata.normalize("NFKC", content).casefold().split())
    return f"{DIGEST}{hashlib.sha256(folded.encode()).hexdigest()[:32]}"


def _words_inserted(context: DefaultExecutionContext) -> str:
    given = context.get_current_parameters()  # type: ignore[no-untyped-call]
    return memory_words(given["content"], given.get("value"), given["key"])


sessions = owned_table(
    "sessions",
    Column("session_id", Text, nullable=False),
    # "private" or "shared", fixed when the session begins: what was said in private must not be read in public.
    Column("audience", Text, nullable=False, server_default="private"),
    # Whether a call without a session id may go on with it. Those of scheduled tasks are not gone on with.
    Column("continued", Boolean, nullable=False, server_default=true()),
    # The conversation's own keys and values, a JSON object.
    Column("context", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("last_activity_at", BigInteger, nullable=False),
    Index("ix_sessions_newest", "formation_id", "user_pk", "last_activity_at", "pk"),
)
own_key(sessions, "session_id")
# The session that an identifier is in, for who names none: the newest of those that may be gone on with. Apart, as
# uq_memories_key is: else the index above is taken, and all sessions of late gone through.
Index(
    "ix_sessions_current",
    sessions.c.formation_id,
    owner_apart(sessions),
    func.coalesce(sessions.c.identifier_pk, literal_column("0")),
    sessions.c.audience,
    sessions.c.continued,
    sessions.c.last_activity_at,
    sessions.c.pk,
)

messages = owned_table(
    "messages",
    Column("session_pk", BigInteger, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["formation_id", "session_pk"],
        ["muxi_sessions.formation_id", "muxi_sessions.pk"],
        name="fk_messages_session",
    ),
    Index("ix_messages_session", "formation_id", "session_pk", "created_at", "pk"),
    Index("ix_messages_user", "formation_id", "user_pk"),
)

memories = owned_table(
    "memories",
    Column("memory_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    # What makes two memories of a type the same: the attribute that a statement is about ("budget"), else a digest of
    # the content, which begins with DIGEST.
    Column("key", Text, nullable=False),
    Column("content", Text, nullable=False),
    # What a statement says of its attribute ("$5,000"); NULL for what has no attribute.
    Column("value", Text),
    Column("metadata", Text),
    # What full-text search finds it by. Whoever changes what a memory says changes this too.
    Column("words", Text, nullable=False, default=_words_inserted),
    # Whether it may be brought into a conversation that others read.
    Column("shareable", Boolean(create_constraint=True, name="ck_memories_shareable"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("formation_id", "memory_id", name="uq_memories_id"),
    Index("ix_memories_newest", "formation_id", "user_pk", "updated_at", "pk"),
    # Of those with a value alone: a chat turn reads them, and a person may have few among many notes.
    Index(
        "ix_memories_facts",
        "formation_id",
        "user_pk",
        "updated_at",
        "pk",
        postgresql_where=text("value IS NOT NULL"),
        sqlite_where=text("value IS NOT NULL"),
    ),
)
own_key(memories, "type", "key", apart=True)

working_memory = owned_table(
    "working_memory",
    # "fact", "topic" or "summary"; never a message.
    Column("kind", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("shareable", Boolean(create_constraint=True, name="ck_working_memory_shareable"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_working_memory_newest", "formation_id", "user_pk", "created_at", "pk"),
)
own_key(working_memory, "kind", "content")

preferences = owned_table(
    "preferences",
    Column("key", Text, nullable=False),
    # JSON.
    Column("value", Text, nullable=False),
    Column("shareable", Boolean(create_constraint=True, name="ck_preferences_shareable"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
own_key(preferences, "key")

credentials = owned_table(
    "credentials",
    Column("credential_id", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("name", Text, nullable=False),
    # Encrypted and authenticated together with the formation and credential_id: copied to another row it opens nothing.
    Column("ciphertext", LargeBinary, nullable=False),
    # Which of the keys encrypted it.
    Column("key_id", Text, nullable=False),
    Column("preview", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("formation_id", "credential_id", name="uq_credentials_id"),
)
own_key(credentials, "service", "name")

tasks = owned_table(
    "tasks",
    Column("task_id", Text, nullable=False),
    # "cron" (schedule is a cron expression) or "once" (an ISO 8601 time), read in the time zone.
    Column("kind", Text, nullable=False),
    Column("schedule", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("message", Text, nullable=False),
    # "active", "paused", or "finished" where no run is left.
    Column("status", Text, nullable=False),
    # NULL where no run is due.
    Column("next_run_at", BigInteger),
    # How often the run that is due has been tried.
    Column("attempts", Integer, nullable=False),
    # Who runs it now, and until when nobody else may.
    Column("claim", Text),
    Column("claimed_until", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("formation_id", "task_id", name="uq_tasks_id"),
    Index("ix_tasks_due", "formation_id", "next_run_at"),
    Index("ix_tasks_user", "formation_id", "user_pk"),
)

task_runs = owned_table(
    "task_runs",
    Column("run_id", Text, nullable=False),
    Column("task_pk", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    # "running", "succeeded", "failed", or "lost" where its worker died.
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    # How many earlier runs this one stands for, which came due while nobody worked.
    Column("missed", Integer, nullable=False),
    Column("session_id", Text),
    Column("request_id", Text),
    Column("reply", Text),
    # The code of the error that it failed with.
    Column("error", Text),
    ForeignKeyConstraint(
        ["formation_id", "task_pk"],
        ["muxi_tasks.formation_id", "muxi_tasks.pk"],
        name="fk_task_runs_task",
    ),
    UniqueConstraint("formation_id", "run_id", name="uq_task_runs_id"),
    Index("ix_task_runs_task", "formation_id", "task_pk", "started_at", "pk"),
    Index("ix_task_runs_user", "formation_id", "user_pk"),
)

# One row a member. ``revision`` rises with each change of what a synopsis rests on; the text lies under the root, with
# the revisions of all members that it was made from (``basis``). Where these are not the present ones, it counts for
# nothing: a merge, an unmerge and a change are noticed alike.
synopses = owned_table(
    "synopses",
    Column("revision", BigInteger, nullable=False),
    Column("text", Text),
    Column("basis", Text),
    Column("built_at", BigInteger),
    UniqueConstraint("formation_id", "user_pk", name="uq_synopses_user"),
)

OWNED_TABLES = (messages, sessions, memories, working_memory, preferences, credentials, task_runs, tasks, synopses)
"""The user-owned tables in an order in which their rows can be deleted."""
