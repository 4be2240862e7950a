"""What webhooks and callbacks are told, and what became of it."""

from __future__ import annotations

from typing import Any, Final, TypedDict

TASK_RUN_FINISH: Final = "task_run.finish"
IMPORT_FINISH: Final = "import.finish"
EVENT_TYPES: Final = (
    "user.create",
    "user.delete",
    "user.merge",
    "user.unmerge",
    "user.split",
    "identifier.link",
    "identifier.update",
    "identifier.unlink",
    "identifier.move",
    "identifier.replace",
    TASK_RUN_FINISH,
    IMPORT_FINISH,
)
"""Every type of event: those of the history under their names there, with a full stop, finished runs of tasks, and
finished imports."""


class EventPayload(TypedDict):
    """One event, as webhooks and callbacks get it.

    ``id`` is the same however often it is delivered. ``data`` always holds ``formation_id`` and, but for a finished
    import, ``muxi_user_id``; what else depends on the type: ``other_user_id`` and ``merge_id`` of a merge, ``task_id``,
    ``run_id`` and ``status`` of a run, ``import_id`` and the counts of an import. Ids and numbers alone, never an
    identifier, a name or a text that somebody wrote.
    """

    id: str
    type: str
    timestamp: str
    data: dict[str, Any]


class DeliveryReport(TypedDict):
    """What a call delivered: events taken by their webhooks, put off for another attempt, and given up."""

    delivered: int
    retried: int
    given_up: int


class DeadEvent(TypedDict):
    """An event that a webhook did not take in all its attempts.

    ``muxi_user_id`` is, of a finished import, the import's id. ``webhook`` is the webhook's scheme and host, None where
    it is not configured any more. ``error`` says why the last attempt failed.
    """

    event_id: str
    type: str
    muxi_user_id: str
    webhook: str | None
    attempts: int
    error: str | None
    created_at: str
    failed_at: str


class DeadEventPage(TypedDict):
    """A page of events that were given up, the last one first. Pass ``next_cursor`` for the next page."""

    events: list[DeadEvent]
    count: int
    next_cursor: str | None


class RetriedEvent(TypedDict):
    """An event that is delivered anew, and to how many webhooks."""

    event_id: str
    webhooks: int
