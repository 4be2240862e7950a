"""The schema: one for SQLite and PostgreSQL; its rules stand in :mod:`muxi_identity.storage.tables.base`."""

from muxi_identity.storage.tables.base import key_sequence, metadata, own_key, owned_table
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
from muxi_identity.storage.tables.identity import formations, history, idempotency, identifiers, merges, users
from muxi_identity.storage.tables.serving import api_keys, requests

__all__ = [
    "DIGEST",
    "OWNED_TABLES",
    "api_keys",
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
    "preferences",
    "requests",
    "sessions",
    "synopses",
    "task_runs",
    "tasks",
    "users",
    "working_memory",
]
