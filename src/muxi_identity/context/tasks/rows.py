"""Tasks inside a transaction. A task is the person's: read from every member, edited where it lies."""

from __future__ import annotations

import re
import secrets
from typing import Any

from sqlalchemy import Row, Select, delete, func, insert, select, tuple_, update
from sqlalchemy.sql import ColumnElement

from muxi_identity.context.paging import end_of, start_of
from muxi_identity.context.person import members_of
from muxi_identity.context.tasks.schedules import Schedule, next_shown
from muxi_identity.context.tasks.task import NewTask
from muxi_identity.errors import InvalidRequestError, TaskNotFoundError, TooLargeError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import TaskPage, TaskRecord, TaskRun, TaskRunPage, iso, iso_or_none
from muxi_identity.storage.tables import task_runs, tasks, users

ACTIVE, PAUSED, FINISHED = "active", "paused", "finished"
MAX_TASKS = 1_000  # of a member that are not finished, and as many that are
_TASK_ID = re.compile(r"tsk_[0-9a-f]{20}")
_owner = users.alias("owner")
_root = users.alias("root")


def add_task(tx: Transaction, hit: Hit, new: NewTask) -> TaskRecord:
    """Keep a task under the caller's member and identifier, active.

    Of the finished tasks of the member the oldest go when there are too many.

    Raises:
        TooLargeError: The member has too many tasks that are not finished.
    """
    _make_room(tx, hit)
    (pk,) = tx.new_keys(1)
    tx.connection.execute(
        insert(tasks).values(
            formation_id=tx.formation_id,
            pk=pk,
            user_pk=hit.member_pk,
            identifier_pk=hit.identifier_pk,
            task_id=f"tsk_{secrets.token_hex(10)}",
            kind=new.schedule.kind,
            schedule=new.schedule.text,
            timezone=new.schedule.timezone,
            message=new.message,
            status=ACTIVE,
            next_run_at=new.next_run_at,
            attempts=0,
            created_at=tx.now,
            updated_at=tx.now,
        )
    )
    return read_task(tx, pk)


def _make_room(tx: Transaction, hit: Hit) -> None:
    theirs = (tasks.c.formation_id == tx.formation_id) & (tasks.c.user_pk == hit.member_pk)
    open_, finished = tx.connection.execute(
        select(
            func.count().filter(tasks.c.status != FINISHED),
            func.count().filter(tasks.c.status == FINISHED),
        ).where(theirs)
    ).one()
    if open_ >= MAX_TASKS:
        raise TooLargeError(
            f"There are {open_} scheduled tasks already; at most {MAX_TASKS} are kept: delete some with delete_task.",
            limit=MAX_TASKS,
        )
    if finished > MAX_TASKS:
        oldest = (
            select(tasks.c.pk)
            .where(theirs, tasks.c.status == FINISHED)
            .order_by(tasks.c.updated_at, tasks.c.pk)
            .limit(finished - MAX_TASKS)
        )
        _delete(tx, list(tx.connection.execute(oldest).scalars()))


def read_task(tx: Transaction, pk: int) -> TaskRecord:
    """Return the record of a task that is there."""
    return _record(tx, tx.connection.execute(_records(tx).where(tasks.c.pk == pk)).one())


def find_task(tx: Transaction, hit: Hit | None, task_id: str) -> TaskRecord:
    """Return a task of the person, or of anybody where ``hit`` is None.

    Raises:
        TaskNotFoundError: There is none.
    """
    row = tx.connection.execute(_records(tx).where(_named(tx, hit, task_id))).one_or_none()
    if row is None:
        raise _unknown(task_id)
    return _record(tx, row)


def list_tasks(tx: Transaction, hit: Hit, status: str | None, limit: int, cursor: str | None) -> TaskPage:
    """Return a page of a person's tasks, the newest first; ``status`` chooses among them.

    Raises:
        InvalidRequestError: The limit is out of range or the cursor is none of ours.
    """
    start = start_of(tx, "list_tasks", limit, cursor)
    page = _records(tx).where(tasks.c.user_pk.in_(members_of(tx, hit)))
    if status is not None:
        page = page.where(tasks.c.status == status)
    if start is not None:
        page = page.where(tuple_(tasks.c.created_at, tasks.c.pk) < tuple_(*start))
    page = page.order_by(tasks.c.created_at.desc(), tasks.c.pk.desc()).limit(limit + 1)
    rows, following = end_of(tx, "list_tasks", limit, tx.connection.execute(page).all(), at="created_at")
    found = [_record(tx, row) for row in rows]
    return {"tasks": found, "count": len(found), "next_cursor": following}


def hold_task(tx: Transaction, hit: Hit | None, task_id: str) -> Row[Any]:
    """Lock a task of the person (of anybody where ``hit`` is None) until the transaction ends, and return its row.

    Raises:
        TaskNotFoundError: There is none.
    """
    wanted = select(tasks).where(_named(tx, hit, task_id))
    if tx.database.lock_rows:
        wanted = wanted.with_for_update(key_share=True, of=tasks)
    row = tx.connection.execute(wanted).one_or_none()
    if row is None:
        raise _unknown(task_id)
    return row


def change_task(tx: Transaction, row: Row[Any], **values: Any) -> TaskRecord:
    """Write ``values`` over a task that is held, and return its record."""
    tx.connection.execute(update(tasks).where(is_task(tx, row.pk)).values(updated_at=tx.now, **values))
    return read_task(tx, row.pk)


def delete_task(tx: Transaction, row: Row[Any]) -> None:
    """Delete a task that is held, with the history of its runs."""
    tx.erased = True
    _delete(tx, [row.pk])


def _delete(tx: Transaction, pks: list[int]) -> None:
    for table, key in ((task_runs, task_runs.c.task_pk), (tasks, tasks.c.pk)):
        tx.connection.execute(delete(table).where(table.c.formation_id == tx.formation_id, key.in_(pks)))


def list_runs(tx: Transaction, hit: Hit | None, task_id: str, limit: int, cursor: str | None) -> TaskRunPage:
    """Return a page of a task's runs, the newest first.

    Raises:
        TaskNotFoundError: There is no such task.
        InvalidRequestError: The limit is out of range or the cursor is none of ours.
    """
    start = start_of(tx, "list_task_runs", limit, cursor)
    task_pk = tx.connection.execute(select(tasks.c.pk).where(_named(tx, hit, task_id))).scalar()
    if task_pk is None:
        raise _unknown(task_id)
    page = _run_records(tx).where(task_runs.c.task_pk == task_pk)
    if start is not None:
        page = page.where(tuple_(task_runs.c.started_at, task_runs.c.pk) < tuple_(*start))
    page = page.order_by(task_runs.c.started_at.desc(), task_runs.c.pk.desc()).limit(limit + 1)
    rows, following = end_of(tx, "list_task_runs", limit, tx.connection.execute(page).all(), at="started_at")
    found = [_run_record(row) for row in rows]
    return {"runs": found, "count": len(found), "next_cursor": following}


def read_run(tx: Transaction, run_id: str) -> TaskRun:
    """Return a run that is there."""
    return _run_record(tx.connection.execute(_run_records(tx).where(task_runs.c.run_id == run_id)).one())


def list_finished_runs(tx: Transaction, hit: Hit, since: int, limit: int) -> list[tuple[int, TaskRun]]:
    """Return the runs of a person that ended from ``since`` on (microseconds), each with when, the first first."""
    page = (
        _run_records(tx)
        .where(task_runs.c.user_pk.in_(members_of(tx, hit)), task_runs.c.finished_at >= since)
        .order_by(task_runs.c.finished_at, task_runs.c.pk)
        .limit(limit)
    )
    return [(row.finished_at, _run_record(row)) for row in tx.connection.execute(page)]


def is_task(tx: Transaction, pk: int) -> ColumnElement[bool]:
    """Return the condition on tasks for the one of this key."""
    return (tasks.c.formation_id == tx.formation_id) & (tasks.c.pk == pk)


def schedule_of(row: Row[Any]) -> Schedule:
    """Return the schedule that a task's row holds."""
    return Schedule(row.kind, row.schedule, row.timezone)


def _named(tx: Transaction, hit: Hit | None, task_id: object) -> ColumnElement[bool]:
    if not isinstance(task_id, str):
        raise InvalidRequestError("task_id must be the text that schedule_task gave.")
    if not _TASK_ID.fullmatch(task_id):
        raise _unknown(task_id)
    named = (tasks.c.formation_id == tx.formation_id) & (tasks.c.task_id == task_id)
    return named if hit is None else named & tasks.c.user_pk.in_(members_of(tx, hit))


def _unknown(task_id: str) -> TaskNotFoundError:
    return TaskNotFoundError("There is no such task, or it is another person's.", task_id=task_id[:64])


def _records(tx: Transaction) -> Select[Any]:
    return (
        select(tasks, _root.c.public_id)
        .join(_owner, (_owner.c.formation_id == tasks.c.formation_id) & (_owner.c.pk == tasks.c.user_pk))
        .join(_root, (_root.c.formation_id == _owner.c.formation_id) & (_root.c.pk == _owner.c.root_pk))
        .where(tasks.c.formation_id == tx.formation_id)
    )


def _record(tx: Transaction, row: Row[Any]) -> TaskRecord:
    return {
        "task_id": row.task_id,
        "muxi_user_id": row.public_id,
        "kind": row.kind,
        "schedule": row.schedule,
        "timezone": row.timezone,
        "message": row.message,
        "status": row.status,
        "next_run_at": iso_or_none(_next_shown(tx, row)),
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
    }


def _next_shown(tx: Transaction, row: Row[Any]) -> int | None:
    if row.status != ACTIVE:
        return None
    next_run_at: int | None = row.next_run_at
    if row.claim is None:
        return next_run_at
    # The row holds the run that is under way: what comes after it is shown.
    return next_shown(row.kind, row.schedule, row.timezone, tx.now)


def _run_records(tx: Transaction) -> Select[Any]:
    return (
        select(task_runs, tasks.c.task_id, _root.c.public_id)
        .join(tasks, (tasks.c.formation_id == task_runs.c.formation_id) & (tasks.c.pk == task_runs.c.task_pk))
        .join(_owner, (_owner.c.formation_id == task_runs.c.formation_id) & (_owner.c.pk == task_runs.c.user_pk))
        .join(_root, (_root.c.formation_id == _owner.c.formation_id) & (_root.c.pk == _owner.c.root_pk))
        .where(task_runs.c.formation_id == tx.formation_id)
    )


def _run_record(row: Row[Any]) -> TaskRun:
    return {
        "run_id": row.run_id,
        "task_id": row.task_id,
        "muxi_user_id": row.public_id,
        "due_at": iso(row.due_at),
        "started_at": iso(row.started_at),
        "finished_at": iso_or_none(row.finished_at),
        "status": row.status,
        "attempt": row.attempt,
        "missed": row.missed,
        "session_id": row.session_id,
        "request_id": row.request_id,
        "reply": row.reply,
        "error": row.error,
    }
