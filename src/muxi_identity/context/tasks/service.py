"""The scheduled tasks of the people of one formation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from muxi_identity.context.access import Access
from muxi_identity.context.tasks import rows
from muxi_identity.context.tasks.schedules import CRON, next_run, read_schedule
from muxi_identity.context.tasks.task import check_task_message, first_run, new_task
from muxi_identity.errors import InvalidRequestError, InvalidScheduleError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import Caller
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import TaskPage, TaskRecord, TaskRunPage
from muxi_identity.paging import check_limit

T = TypeVar("T")


class Tasks:
    """The scheduled tasks of the people of one formation.

    Where ``reference`` may be None, it stands for whoever has the task: for operators. Else another person's task is
    not found.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def schedule(
        self, reference: Reference, message: str, *, cron: object, at: object, timezone: object, caller: Caller
    ) -> TaskRecord:
        """Keep a new task of the person; an unknown identifier makes first contact.

        Raises:
            InvalidScheduleError: The schedule cannot be read, or no run lies ahead.
            SecretRefusedError: The message holds what looks like a key or a password.
            TooLargeError: The message is too long, or there are too many tasks.
            InvalidRequestError: The message is no text, blank or cannot be stored.
            UserNotFoundError: Nobody has it, and it is a public id or a secret.
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        new = new_task(message, cron=cron, at=at, timezone=timezone, now=self._access.runner.clock.now())
        return await self._access.write(reference, lambda tx, hit: rows.add_task(tx, hit, new), caller)

    async def list(self, reference: Reference, *, status: str | None, limit: int, cursor: str | None) -> TaskPage:
        """Return a page of a person's tasks, the newest first.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: Untyped, and several people have it.
            InvalidRequestError: An argument is out of range.
        """
        check_limit(limit)
        if status not in (None, rows.ACTIVE, rows.PAUSED, rows.FINISHED):
            raise InvalidRequestError('status must be "active", "paused", "finished" or None.')
        return await self._access.read(reference, lambda tx, hit: rows.list_tasks(tx, hit, status, limit, cursor))

    async def get(self, task_id: str, reference: Reference | None) -> TaskRecord:
        """Return a task.

        Raises:
            TaskNotFoundError: There is none, or it is another person's.
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        return await self._read(reference, lambda tx, hit: rows.find_task(tx, hit, task_id))

    async def update(
        self,
        task_id: str,
        reference: Reference | None,
        *,
        message: object,
        cron: object,
        at: object,
        timezone: object,
        caller: Caller,
    ) -> TaskRecord:
        """Change what is not None. A new schedule makes a finished task active again; a paused one stays paused.

        A run that is under way ends as it was begun, and the next one goes by the new schedule.

        Raises:
            TaskNotFoundError: There is none, or it is another person's.
            InvalidScheduleError: The schedule cannot be read, or no run lies ahead.
            SecretRefusedError: The message holds what looks like a key or a password.
            InvalidRequestError: The message cannot be kept, or there is nothing to change.
        """
        if message is cron is at is timezone is None:
            raise InvalidRequestError("Nothing is to be changed: pass message, cron, at or timezone.")
        text = None if message is None else check_task_message(message)

        def work(tx: Transaction, hit: Hit | None) -> TaskRecord:
            row = rows.hold_task(tx, hit, task_id)
            values: dict[str, Any] = {}
            if text is not None:
                values["message"] = text
                tx.erased = True
            if cron is not None or at is not None or timezone is not None:
                values |= _rescheduled(tx, row, cron, at, timezone)
            return rows.change_task(tx, row, **values)

        return await self._write(reference, work, caller)

    async def pause(self, task_id: str, reference: Reference | None, caller: Caller) -> TaskRecord:
        """Let a task run no more until it is resumed. A run that is under way ends; pausing twice is harmless.

        Raises:
            TaskNotFoundError: There is none, or it is another person's.
            InvalidScheduleError: It is finished.
        """

        def work(tx: Transaction, hit: Hit | None) -> TaskRecord:
            row = _unfinished(rows.hold_task(tx, hit, task_id))
            if row.status == rows.PAUSED:
                return rows.read_task(tx, row.pk)
            # A row that is claimed keeps its time: whoever finds that its worker died goes by it.
            idle = {"next_run_at": None, "attempts": 0} if row.claim is None else {}
            return rows.change_task(tx, row, status=rows.PAUSED, **idle)

        return await self._write(reference, work, caller)

    async def resume(self, task_id: str, reference: Reference | None, caller: Caller) -> TaskRecord:
        """Let a paused task run again: a cron at its next time; a single run whose time has passed runs at once.

        Raises:
            TaskNotFoundError: There is none, or it is another person's.
            InvalidScheduleError: It is finished.
        """

        def work(tx: Transaction, hit: Hit | None) -> TaskRecord:
            row = _unfinished(rows.hold_task(tx, hit, task_id))
            if row.status == rows.ACTIVE:
                return rows.read_task(tx, row.pk)
            values: dict[str, Any] = {"status": rows.ACTIVE}
            if row.claim is None:
                following = next_run(*rows.schedule_of(row), tx.now)
                values |= {"next_run_at": tx.now if following is None else following, "attempts": 0}
            return rows.change_task(tx, row, **values)

        return await self._write(reference, work, caller)

    async def delete(self, task_id: str, reference: Reference | None, caller: Caller) -> None:
        """Delete a task with the history of its runs. A run that is under way leaves nothing in either.

        Raises:
            TaskNotFoundError: There is none, or it is another person's.
        """
        await self._write(reference, lambda tx, hit: rows.delete_task(tx, rows.hold_task(tx, hit, task_id)), caller)

    async def runs(self, task_id: str, reference: Reference | None, *, limit: int, cursor: str | None) -> TaskRunPage:
        """Return a page of a task's runs, the newest first.

        Raises:
            TaskNotFoundError: There is no such task, or it is another person's.
            InvalidRequestError: The limit is out of range or the cursor is none of ours.
        """
        check_limit(limit)
        return await self._read(reference, lambda tx, hit: rows.list_runs(tx, hit, task_id, limit, cursor))

    async def _read(self, reference: Reference | None, work: Callable[[Transaction, Hit | None], T]) -> T:
        if reference is None:
            return await self._access.runner.read(lambda tx: work(tx, None))
        return await self._access.read(reference, work)

    async def _write(
        self, reference: Reference | None, work: Callable[[Transaction, Hit | None], T], caller: Caller
    ) -> T:
        if reference is None:
            return await self._access.runner.change(lambda tx: work(tx, None), caller)
        return await self._access.write(reference, work, caller, create=False)


def _rescheduled(tx: Transaction, row: Any, cron: object, at: object, timezone: object) -> dict[str, Any]:
    zone = row.timezone if timezone is None else timezone
    if cron is None and at is None:
        cron, at = (row.schedule, None) if row.kind == CRON else (None, row.schedule)
    schedule = read_schedule(cron, at, zone, tx.now)
    values: dict[str, Any] = {"kind": schedule.kind, "schedule": schedule.text, "timezone": schedule.timezone}
    if row.status == rows.FINISHED:
        values["status"] = rows.ACTIVE
    if row.claim is None:  # else what follows is reckoned when the run that is under way has ended
        values["attempts"] = 0
        values["next_run_at"] = None if row.status == rows.PAUSED else first_run(schedule, tx.now)
    return values


def _unfinished(row: Any) -> Any:
    if row.status == rows.FINISHED:
        raise InvalidScheduleError("The task is finished: no run lies ahead. Give it a new time with update_task.")
    return row
