"""The schema: one for SQLite and PostgreSQL; its rules stand in :mod:`muxi_identity.storage.tables.base`."""

from muxi_identity.storage.tables.base import key_sequence, metadata, own_key, owned_table, owner_apart
from muxi_identity.storage.tables.context import (
    DIGEST,
    OWNED_TABLES,
    credentials,
    memories,
    memory_words,
    messages,
    preferences,
    sessions,
    synopses,
    task_runs,
    tasks,
    working_memory,
)
from muxi_identity.storage.tables.identity import (
    formations,
    history,
    idempotency,
    identifiers,
    merges,
    separations,
    users,
)

__all__ = [
    "DIGEST",
    "OWNED_TABLES",
    "credentials",
    "formations",
    "history",
    "idempotency",
    "identifiers",
    "key_sequence",
    "memories",
    "memory_words",
    "merges",
    "messages",
    "metadata",
    "own_key",
    "owned_table",
    "owner_apart",
    "preferences",
    "separations",
    "sessions",
    "synopses",
    "task_runs",
    "tasks",
    "users",
    "working_memory",
]
