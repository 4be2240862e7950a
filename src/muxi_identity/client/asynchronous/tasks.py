"""Scheduled tasks of a person, and what came of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from muxi_identity.client.asynchronous.base import AsyncCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import DeletedTask, TaskPage, TaskRecord, TaskRunPage


class AsyncTaskCalls(AsyncCalls):
    """Calls about scheduled tasks: messages that are answered at a time, as chat turns of the person.

    A task is the person's: it is seen from every identifier, and follows merges. With ``user_id`` only the tasks of
    that person are found; without, those of anybody: leave it out only where the caller may see them all.
    """

    async def schedule_task(
        self,
        user_id: Given,
        message: str,
        *,
        cron: str | None = None,
        at: str | datetime | None = None,
        timezone: str = "UTC",
    ) -> TaskRecord:
        """Schedule a message to be answered for a person: again and again (``cron``), or once (``at``).

        ``cron`` has five fields (minute, hour, day of month, month, day of week; names, ranges, steps, ``L`` and ``#``
        are read) or is one of ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``, ``@yearly``. ``at`` is a datetime or
        an ISO 8601 text; without an offset it is a time in ``timezone``, as the times of ``cron`` are. Where the
        clocks skip such a time the task runs when they have skipped it, where they repeat it, at the first. A cron
        whose minute or hour begins with ``*`` goes by the clock as it runs. Tasks are run by :meth:`run_tasks`.

        Raises:
            InvalidScheduleError: Not exactly one of both is given, it or the time zone cannot be read, or no run lies
                ahead.
            SecretRefusedError: The message holds what looks like a key or a password.
            TooLargeError: The message has over 10,000 characters, or 1,000 tasks wait already.
            InvalidRequestError: The message is no text or blank.
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> task = await formation.schedule_task(
        ...     "user_123", "What is on my list today?", cron="0 9 * * MON-FRI", timezone="Europe/Berlin"
        ... )
        >>> task["kind"], task["schedule"], task["status"]
        ('cron', '0 9 * * MON-FRI', 'active')
        """
        formation = await self._formation()
        return await formation.tasks.schedule(
            formation.parse(self._given(user_id)),
            message,
            cron=cron,
            at=at,
            timezone=timezone,
            caller=self._caller("schedule_task"),
        )

    async def list_tasks(
        self, user_id: Given, *, status: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> TaskPage:
        """Return a page of a person's tasks, the newest first, ``limit`` (1 to 500) at a time.

        ``status`` chooses the ``"active"``, ``"paused"`` or ``"finished"`` ones. Pass ``next_cursor`` of one page as
        ``cursor`` for the next.

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: An argument is out of range, or the cursor is none of ours.

        >>> task = await formation.schedule_task("user_123", "Call Bob", at="2999-01-31T09:00")
        >>> [task["message"] for task in (await formation.list_tasks("user_123"))["tasks"]]
        ['Call Bob']
        """
        formation = await self._formation()
        return await formation.tasks.list(
            formation.parse(self._given(user_id)), status=status, limit=limit, cursor=cursor
        )

    async def get_task(self, task_id: str, user_id: Given | None = None) -> TaskRecord:
        """Return a task. ``next_run_at`` is when it is run next, None where it is paused or finished.

        Raises:
            TaskNotFoundError: There is none, or it is another person's than ``user_id``.
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> task = await formation.schedule_task("user_123", "Call Bob", at="2999-01-31T09:00")
        >>> (await formation.get_task(task["task_id"], "user_123"))["next_run_at"]
        '2999-01-31T09:00:00.000000Z'
        """
        formation = await self._formation()
        return await formation.tasks.get(task_id, await self._whose(user_id))

    async def update_task(
        self,
        task_id: str,
        user_id: Given | None = None,
        *,
        message: str | None = None,
        cron: str | None = None,
        at: str | datetime | None = None,
        timezone: str | None = None,
    ) -> TaskRecord:
        """Change a task; what is None stays as it is.

        A new ``cron`` or ``at`` takes the place of either, and makes a finished task active again. A run that is under
        way ends as it was begun.

        Raises:
            TaskNotFoundError: There is none, or it is another person's than ``user_id``.
            InvalidScheduleError: The schedule cannot be read, or no run lies ahead.
            SecretRefusedError: The message holds what looks like a key or a password.
            InvalidRequestError: The message cannot be kept (TooLargeError: too long), or nothing is to be changed.
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> task = await formation.schedule_task("user_123", "Call Bob", at="2999-01-31T09:00")
        >>> (await formation.update_task(task["task_id"], at="2999-02-28T09:00"))["next_run_at"]
        '2999-02-28T09:00:00.000000Z'
        """
        formation = await self._formation()
        return await formation.tasks.update(
            task_id,
            await self._whose(user_id),
            message=message,
            cron=cron,
            at=at,
            timezone=timezone,
            caller=self._caller("update_task"),
        )

    async def pause_task(self, task_id: str, user_id: Given | None = None) -> TaskRecord:
        """Let a task run no more until it is resumed. A run that is under way ends; pausing twice is harmless.

        Raises:
            TaskNotFoundError: There is none, or it is another person's than ``user_id``.
            InvalidScheduleError: It is finished.
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> task = await formation.schedule_task("user_123", "Call Bob", at="2999-01-31T09:00")
        >>> (await formation.pause_task(task["task_id"]))["status"]
        'paused'
        """
        formation = await self._formation()
        return await formation.tasks.pause(task_id, await self._whose(user_id), self._caller("pause_task"))

    async def resume_task(self, task_id: str, user_id: Given | None = None) -> TaskRecord:
        """Let a paused task run again: a cron from its next time on; a single run that is late by now, at once.

        Raises:
            TaskNotFoundError: There is none, or it is another person's than ``user_id``.
            InvalidScheduleError: It is finished.
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> task = await formation.schedule_task("user_123", "Call Bob", at="2999-01-31T09:00")
        >>> paused = await formation.pause_task(task["task_id"])
        >>> (await formation.resume_task(task["task_id"]))["next_run_at"]
        '2999-01-31T09:00:00.000000Z'
        """
        formation = await self._formation()
        return await formation.tasks.resume(task_id, await self._whose(user_id), self._caller("resume_task"))

    async def delete_task(self, task_id: str, user_id: Given | None = None) -> DeletedTask:
        """Delete a task with the history of its runs. What its turns left in memory and sessions stays.

        A run that is under way is given up.

        Raises:
            TaskNotFoundError: There is none, or it is another person's than ``user_id``.
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> task = await formation.schedule_task("user_123", "Call Bob", at="2999-01-31T09:00")
        >>> (await formation.delete_task(task["task_id"]))["deleted"]
        True
        """
        formation = await self._formation()
        await formation.tasks.delete(task_id, await self._whose(user_id), self._caller("delete_task"))
        return {"deleted": True, "task_id": task_id}

    async def list_task_runs(
        self, task_id: str, user_id: Given | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> TaskRunPage:
        """Return a page of a task's runs, the newest first, ``limit`` (1 to 500) at a time.

        The last 1,000 are kept. Pass ``next_cursor`` of one page as ``cursor`` for the next.

        Raises:
            TaskNotFoundError: There is no such task, or it is another person's than ``user_id``.
            InvalidRequestError: The limit is out of range or the cursor is none of ours.
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> task = await formation.schedule_task("user_123", "Call Bob", at="2999-01-31T09:00")
        >>> (await formation.list_task_runs(task["task_id"]))["runs"]
        []
        """
        formation = await self._formation()
        return await formation.tasks.runs(task_id, await self._whose(user_id), limit=limit, cursor=cursor)

    async def _whose(self, user_id: Given | None) -> Any:
        formation = await self._formation()
        return None if user_id is None else formation.parse(self._given(user_id))
