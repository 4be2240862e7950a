"""The schema: one for SQLite and PostgreSQL; its rules stand in :mod:`muxi_identity.storage.tables.base`."""

from muxi_identity.storage.tables.base import key_sequence, metadata, own_key, owned_table, owner_apart
from muxi_identity.storage.tables.context import (
    DIGEST,
    credentials,
    memories,
    memory_digest,
    memory_words,
    messages,
    preferences,
    sessions,
    synopses,
    task_runs,
    tasks,
    working_memory,
)
from muxi_identity.storage.tables.context import OWNED_TABLES as CONTEXT_TABLES
from muxi_identity.storage.tables.identity import (
    formations,
    history,
    idempotency,
    identifiers,
    merges,
    separations,
    users,
)
from muxi_identity.storage.tables.importing import import_notes, imports
from muxi_identity.storage.tables.outbox import outbox, outbox_positions
from muxi_identity.storage.tables.proof import link_attempts, link_codes
from muxi_identity.storage.tables.serving import api_keys, requests

OWNED_TABLES = (*CONTEXT_TABLES, link_codes)
"""The user-owned tables in an order in which their rows can be deleted."""

__all__ = [
    "DIGEST",
    "OWNED_TABLES",
    "api_keys",
    "credentials",
    "formations",
    "history",
    "idempotency",
    "identifiers",
    "import_notes",
    "imports",
    "key_sequence",
    "link_attempts",
    "link_codes",
    "memories",
    "memory_digest",
    "memory_words",
    "merges",
    "messages",
    "metadata",
    "outbox",
    "outbox_positions",
    "own_key",
    "owned_table",
    "owner_apart",
    "preferences",
    "requests",
    "separations",
    "sessions",
    "synopses",
    "task_runs",
    "tasks",
    "users",
    "working_memory",
]
