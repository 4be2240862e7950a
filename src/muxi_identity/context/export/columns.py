"""Which columns of the user-owned tables an archive holds, and how they read.

Each column stands in one of the two: ``SHOWN`` or ``WITHHELD``. A test fails for one that stands in none, so that
nothing new is forgotten, and nothing internal slips out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from muxi_identity.models import iso_or_none
from muxi_identity.storage.tables import (
    DIGEST,
    credentials,
    link_codes,
    memories,
    messages,
    preferences,
    sessions,
    synopses,
    task_runs,
    tasks,
    working_memory,
)

Reading = Callable[[Any], Any]


def as_it_is(value: Any) -> Any:
    """Return the value itself."""
    return value


def from_json(value: str | None) -> Any:
    """Return what a JSON text holds."""
    return None if value is None else json.loads(value)


def attribute(key: str) -> str | None:
    """Return what a memory is about, None where its key only tells one text from another."""
    return None if key.startswith(DIGEST) else key


INTERNAL = frozenset({"formation_id", "pk", "user_pk", "identifier_pk"})
"""Of every user-owned table: the archive says ``user`` and ``identifier`` instead."""

SHOWN: Mapping[str, Mapping[str, Reading]] = {
    sessions.name: {
        "session_id": as_it_is,
        "audience": as_it_is,
        "continued": as_it_is,
        "context": from_json,
        "created_at": iso_or_none,
        "last_activity_at": iso_or_none,
    },
    messages.name: {"role": as_it_is, "content": as_it_is, "created_at": iso_or_none},
    memories.name: {
        "memory_id": as_it_is,
        "type": as_it_is,
        "key": attribute,
        "content": as_it_is,
        "value": as_it_is,
        "metadata": from_json,
        "shareable": as_it_is,
        "created_at": iso_or_none,
        "updated_at": iso_or_none,
    },
    working_memory.name: {
        "kind": as_it_is,
        "content": as_it_is,
        "shareable": as_it_is,
        "created_at": iso_or_none,
        "expires_at": iso_or_none,
    },
    preferences.name: {
        "key": as_it_is,
        "value": from_json,
        "shareable": as_it_is,
        "created_at": iso_or_none,
        "updated_at": iso_or_none,
    },
    credentials.name: {
        "credential_id": as_it_is,
        "service": as_it_is,
        "name": as_it_is,
        "preview": as_it_is,
        "created_at": iso_or_none,
        "updated_at": iso_or_none,
    },
    tasks.name: {
        "task_id": as_it_is,
        "kind": as_it_is,
        "schedule": as_it_is,
        "timezone": as_it_is,
        "message": as_it_is,
        "status": as_it_is,
        "next_run_at": iso_or_none,
        "created_at": iso_or_none,
        "updated_at": iso_or_none,
    },
    task_runs.name: {
        "run_id": as_it_is,
        "due_at": iso_or_none,
        "started_at": iso_or_none,
        "finished_at": iso_or_none,
        "status": as_it_is,
        "attempt": as_it_is,
        "missed": as_it_is,
        "session_id": as_it_is,
        "request_id": as_it_is,
        "reply": as_it_is,
        "error": as_it_is,
    },
    synopses.name: {"text": as_it_is, "built_at": iso_or_none},
    link_codes.name: {"created_at": iso_or_none, "expires_at": iso_or_none},
}

WITHHELD: Mapping[str, frozenset[str]] = {
    messages.name: frozenset({"session_pk"}),  # a message lies in its session
    memories.name: frozenset({"words"}),  # the same text, for the search
    credentials.name: frozenset({"ciphertext", "key_id"}),  # the secret itself, and which key keeps it
    tasks.name: frozenset({"attempts", "claim", "claimed_until"}),  # which worker is at it
    task_runs.name: frozenset({"task_pk"}),  # a run lies in its task
    synopses.name: frozenset({"revision", "basis"}),  # whether it is out of date
    link_codes.name: frozenset(
        {"code_hash", "asked_as", "pending_identifier_pk", "pending_message_pk", "pending_until"}
    ),  # what proves the code
}
