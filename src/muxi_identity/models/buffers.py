"""How much sessions hold, and what was done to identities: what operators look at."""

from __future__ import annotations

from typing import TypedDict


class UserBuffer(TypedDict):
    """The messages of one user's sessions. ``buffer_size_kb`` counts characters, in thousands of 1,024."""

    user_id: str
    total_messages: int
    sessions: int
    buffer_size_kb: float


class BufferStats(TypedDict):
    """The messages of all sessions of a formation; ``users`` have at least one."""

    total_messages: int
    sessions: int
    users: int
    buffer_size_kb: float


class AuditEvent(TypedDict):
    """Something that was done to an identity, in ids alone: no identifier's value is kept here."""

    at: str
    event: str
    muxi_user_id: str
    other_user_id: str | None
    merge_id: str | None
    actor: str
    source: str | None
    reason: str | None


class AuditPage(TypedDict):
    """A page of what was done, the last first. Pass ``next_cursor`` for the next one; None ends the list."""

    events: list[AuditEvent]
    count: int
    next_cursor: str | None
