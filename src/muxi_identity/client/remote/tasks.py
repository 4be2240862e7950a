"""Scheduled tasks, and why they are not run from here."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict, TypeVar
from zoneinfo import ZoneInfo

from muxi_identity.client.remote.asking import Ask, CallerLike, checked_cursor, segment
from muxi_identity.client.remote.naming import Named
from muxi_identity.client.remote.transport import Transport
from muxi_identity.errors import EmbeddedOnlyError, InvalidRequestError, TaskNotFoundError
from muxi_identity.models import TaskPage, TaskRecord, TaskRun, TaskRunPage
from muxi_identity.paging import check_limit

T = TypeVar("T")
_JOBS = "/scheduler/jobs"
_STATUSES = (None, "active", "paused", "finished")


class _Jobs(TypedDict):
    jobs: list[TaskRecord]
    count: int
    next_cursor: str | None


class _Deleted(TypedDict):
    deleted: bool


class RemoteTasks:
    """The scheduled tasks of the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def schedule(
        self, reference: Named, message: str, *, cron: object, at: object, timezone: object, caller: CallerLike
    ) -> TaskRecord:
        """Keep a new task of the person."""
        body = {"message": message, **_times(cron, at, timezone)}
        ask = Ask("POST", _JOBS, user=reference, body=body, admin=True, keyed=True)
        return await self._transport.call(ask, TaskRecord)

    async def list(self, reference: Named, *, status: str | None, limit: int, cursor: str | None) -> TaskPage:
        """Return a page of a person's tasks, the newest first."""
        check_limit(limit)
        if status not in _STATUSES:
            raise InvalidRequestError('status must be "active", "paused", "finished" or None.')
        query = {"status": status, "limit": limit, "cursor": checked_cursor(cursor, "list_tasks")}
        page = await self._transport.call(Ask("GET", _JOBS, user=reference, query=query, admin=True), _Jobs)
        return {"tasks": page["jobs"], "count": page["count"], "next_cursor": page["next_cursor"]}

    async def get(self, task_id: str, reference: Named | None) -> TaskRecord:
        """Return a task."""
        return await self._of(task_id, Ask("GET", _path(task_id), user=reference, admin=True), TaskRecord)

    async def update(
        self,
        task_id: str,
        reference: Named | None,
        *,
        message: object,
        cron: object,
        at: object,
        timezone: object,
        caller: CallerLike,
    ) -> TaskRecord:
        """Change what is not None."""
        body = {"message": message, **_times(cron, at, timezone)}
        ask = Ask("PUT", _path(task_id), user=reference, body=body, admin=True)
        return await self._of(task_id, ask, TaskRecord)

    async def pause(self, task_id: str, reference: Named | None, caller: CallerLike) -> TaskRecord:
        """Let a task run no more until it is resumed."""
        return await self._do(task_id, reference, "pause")

    async def resume(self, task_id: str, reference: Named | None, caller: CallerLike) -> TaskRecord:
        """Let a paused task run again."""
        return await self._do(task_id, reference, "resume")

    async def delete(self, task_id: str, reference: Named | None, caller: CallerLike) -> None:
        """Delete a task with the history of its runs."""
        ask = Ask("DELETE", _path(task_id), user=reference, admin=True, keyed=True)
        await self._of(task_id, ask, _Deleted)

    async def runs(self, task_id: str, reference: Named | None, *, limit: int, cursor: str | None) -> TaskRunPage:
        """Return a page of a task's runs, the newest first."""
        check_limit(limit)
        query = {"limit": limit, "cursor": checked_cursor(cursor, "list_task_runs")}
        ask = Ask("GET", f"{_path(task_id)}/runs", user=reference, query=query, admin=True)
        return await self._of(task_id, ask, TaskRunPage)

    async def _do(self, task_id: str, reference: Named | None, what: str) -> TaskRecord:
        ask = Ask("POST", f"{_path(task_id)}/{what}", user=reference, admin=True, keyed=True)
        return await self._of(task_id, ask, TaskRecord)

    async def _of(self, task_id: object, ask: Ask, kind: type[T]) -> T:
        try:
            return await self._transport.call(ask, kind)
        except TaskNotFoundError as error:
            # What can be no id is not sent as it is; the error names what was asked for.
            error.details = {**error.details, "task_id": str(task_id)[:64]}
            raise


class RemoteWorker:
    """What would run the tasks of a served formation."""

    async def run_due(self, limit: int, caller: CallerLike) -> list[TaskRun]:
        """Refuse to run tasks.

        Raises:
            EmbeddedOnlyError: Always.
        """
        raise _runs_there("run_due_tasks")

    async def run(
        self, on_run: object, concurrency: int, poll_seconds: float, lease_seconds: float, caller: CallerLike
    ) -> None:
        """Refuse to run tasks.

        Raises:
            EmbeddedOnlyError: Always.
        """
        raise _runs_there("run_tasks")


def _runs_there(call: str) -> EmbeddedOnlyError:
    return EmbeddedOnlyError(
        f"{call} runs tasks in the process that has the formation open; a server runs its own. What came of them is in "
        "list_task_runs."
    )


def _path(task_id: object) -> str:
    return f"{_JOBS}/{segment(task_id)}"


def _times(cron: object, at: object, timezone: object) -> dict[str, Any]:
    if isinstance(at, datetime):
        if at.tzinfo is None and at.fold and isinstance(timezone, str):
            at = _first_or_second(at, timezone)  # a text has no fold: it gets the offset
        at = at.isoformat()
    return {"cron": _plain(cron), "at": _plain(at), "timezone": _plain(timezone)}


def _first_or_second(at: datetime, timezone: str) -> datetime:
    try:
        return at.replace(tzinfo=ZoneInfo(timezone))
    except (ValueError, OSError):  # the server says that there is no such zone
        return at


def _plain(given: object) -> Any:
    # For the server to judge: anything that is no text can be no time, whichever it is.
    return given if given is None or isinstance(given, str) else 0
