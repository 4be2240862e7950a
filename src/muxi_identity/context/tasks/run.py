"""A run of a task: as it is claimed, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from muxi_identity.context.tasks.schedules import Schedule

RUNNING, SUCCEEDED, FAILED, LOST = "running", "succeeded", "failed", "lost"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that a worker has claimed: what is said for whom.

    ``owner_id`` is the public id of the member that the task lies under; ``identifier_pk`` the identifier that it was
    recorded through, None where that is gone or there was none.
    """

    run_id: str
    task_id: str
    task_pk: int
    owner_id: str
    identifier_pk: int | None
    message: str
    schedule: Schedule
    due_at: int
    missed: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. ``error`` is the code of what it failed with; ``retryable``: later it may succeed."""

    reply: str | None = None
    session_id: str | None = None
    request_id: str | None = None
    error: str | None = None
    retryable: bool = False
