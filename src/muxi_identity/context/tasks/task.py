"""A task before it is kept: its message and its schedule, checked. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from muxi_identity.arguments import check_text
from muxi_identity.context.redaction import find_secret
from muxi_identity.context.tasks.schedules import Schedule, next_run, read_schedule
from muxi_identity.errors import InvalidScheduleError, SecretRefusedError

MAX_TASK_MESSAGE = 10_000  # characters


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be kept. ``next_run_at`` is its first run: kept even where it passes before the task is written."""

    message: str
    schedule: Schedule
    next_run_at: int


def new_task(message: object, *, cron: object = None, at: object = None, timezone: object = "UTC", now: int) -> NewTask:
    """Check what is to be said, and when: by a cron expression, or ``at`` one time (ISO 8601 or a datetime).

    Raises:
        InvalidScheduleError: Not exactly one of both is given, it cannot be read, or no run lies after ``now``.
        SecretRefusedError: The message holds what looks like a key or a password.
        TooLargeError: The message is too long.
        InvalidRequestError: The message is no text, blank or cannot be stored.
    """
    text = check_task_message(message)
    schedule = read_schedule(cron, at, timezone, now)
    return NewTask(text, schedule, first_run(schedule, now))


def check_task_message(message: object) -> str:
    """Return what a task is to say, if it can be kept.

    Raises:
        SecretRefusedError: It holds what looks like a key or a password.
        TooLargeError: It is too long.
        InvalidRequestError: It is no text, blank or cannot be stored.
    """
    text = check_text("message", message, MAX_TASK_MESSAGE)
    what = find_secret(text)
    if what is not None:
        raise SecretRefusedError(f"message seems to hold {what}; keep it with set_credential, and leave it out here.")
    return text


def first_run(schedule: Schedule, now: int) -> int:
    """Return the first run of a schedule after ``now``.

    Raises:
        InvalidScheduleError: There is none.
    """
    at = next_run(*schedule, now)
    if at is None:
        raise InvalidScheduleError(f"No run of {schedule.text!r} lies ahead; pass a later time.")
    return at
