"""Ends of runs, inside a transaction: recorded, given back, or taken from a worker that died.

Whoever ends a run must still hold its claim: a worker that stood still for too long writes nothing over what another
one does.
"""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Row, delete, select, update
from sqlalchemy.sql import ColumnElement

from muxi_identity.context.tasks.rows import ACTIVE, FINISHED, PAUSED, is_task, read_run, schedule_of
from muxi_identity.context.tasks.run import FAILED, LOST, RUNNING, SUCCEEDED, Claimed, Outcome
from muxi_identity.context.tasks.schedules import next_run
from muxi_identity.errors import InvalidScheduleError
from muxi_identity.identity.outbox import announce_task_run
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import TaskRun
from muxi_identity.storage.tables import task_runs, tasks, users

logger = logging.getLogger("muxi_identity.tasks")

RETRY_SECONDS = (30, 120)
"""After how many seconds a run is tried again that failed for now: by the number of attempts."""
MAX_ATTEMPTS = 10
"""After how many attempts a run is given up whose workers die, each of them."""
WORKER_LOST = "WORKER_LOST"
KEPT_RUNS = 1_000  # of a task


def finish(tx: Transaction, claimed: Claimed, outcome: Outcome) -> TaskRun | None:
    """Record what came of a run and when the next one is due. None, and nothing is written, where it lost its claim.

    A run that failed for now is tried again later; else the task goes on with the time after the one that was due.
    """
    row = _hold(tx, claimed)
    if row is None:
        return None
    status = SUCCEEDED if outcome.error is None else FAILED
    announce_task_run(tx, row.user_pk, task_id=row.task_id, run_id=claimed.run_id, status=status)
    _end_run(
        tx,
        claimed.run_id,
        status,
        error=outcome.error,
        reply=outcome.reply,
        session_id=outcome.session_id,
        request_id=outcome.request_id,
    )
    rescheduled = schedule_of(row) != claimed.schedule
    if outcome.retryable and row.status == ACTIVE and not rescheduled and claimed.attempt <= len(RETRY_SECONDS):
        seconds = RETRY_SECONDS[claimed.attempt - 1]
        _end_claim(tx, row, {"next_run_at": tx.now + seconds * 1_000_000})
    elif outcome.retryable and row.status == PAUSED and not rescheduled:
        _end_claim(tx, row, _PAUSED)
    else:
        _end_claim(tx, row, _following(tx, row, tx.now if rescheduled else claimed.due_at))
    _forget_old_runs(tx, row.pk)
    return read_run(tx, claimed.run_id)


def release(tx: Transaction, claimed: Claimed) -> None:
    """Give a run back that cannot be ended: it counts as lost, and is due at once."""
    row = _hold(tx, claimed)
    if row is not None:
        _end_run(tx, claimed.run_id, LOST)
        _end_claim(tx, row, _PAUSED if row.status == PAUSED else {})


def take_back(tx: Transaction, row: Row[Any]) -> bool:
    """Note a run as lost, and tell whether it is to be run again."""
    active: bool = row.status == ACTIVE
    again = active and bool(row.attempts < MAX_ATTEMPTS)
    given_up = active and not again
    _end_run(tx, row.claim, FAILED if given_up else LOST, error=WORKER_LOST if given_up else None)
    if given_up:
        announce_task_run(tx, row.user_pk, task_id=row.task_id, run_id=row.claim, status=FAILED)
    if not again:
        due_at = tx.connection.execute(select(task_runs.c.due_at).where(_is_run(tx, row.claim))).scalar()
        values = _following(tx, row, row.next_run_at if due_at is None else due_at) if given_up else _PAUSED
        _end_claim(tx, row, values)
    return again


def _hold(tx: Transaction, claimed: Claimed) -> Row[Any] | None:
    task = select(tasks).where(is_task(tx, claimed.task_pk), tasks.c.claim == claimed.run_id)
    if tx.database.lock_rows:
        owner = (
            select(users.c.pk)
            .join(tasks, (tasks.c.formation_id == users.c.formation_id) & (tasks.c.user_pk == users.c.pk))
            .where(is_task(tx, claimed.task_pk))
            .with_for_update(read=True, key_share=True, of=users)
        )
        if tx.connection.execute(owner).scalar() is None:
            return None
        task = task.with_for_update(key_share=True)
    return tx.connection.execute(task).one_or_none()


_PAUSED: dict[str, Any] = {"next_run_at": None, "attempts": 0}


def _following(tx: Transaction, row: Row[Any], after: int) -> dict[str, Any]:
    try:
        following = next_run(*schedule_of(row), after)
    except InvalidScheduleError as error:
        logger.error("task %s runs no more: %s", row.task_id, error)
        following = None
    if following is None:
        return {"status": FINISHED, "next_run_at": None, "attempts": 0, "updated_at": tx.now}
    return {"next_run_at": None if row.status == PAUSED else following, "attempts": 0}


def _end_claim(tx: Transaction, row: Row[Any], values: dict[str, Any]) -> None:
    tx.connection.execute(update(tasks).where(is_task(tx, row.pk)).values(claim=None, claimed_until=None, **values))


def _end_run(tx: Transaction, run_id: str, status: str, **values: str | None) -> None:
    ended = update(task_runs).where(_is_run(tx, run_id), task_runs.c.status == RUNNING)
    tx.connection.execute(ended.values(status=status, finished_at=tx.now, **values))


def _forget_old_runs(tx: Transaction, task_pk: int) -> None:
    old = (
        select(task_runs.c.pk)
        .where(runs_of(tx, task_pk))
        .order_by(task_runs.c.started_at.desc(), task_runs.c.pk.desc())
        .offset(KEPT_RUNS)
    )
    tx.connection.execute(delete(task_runs).where(task_runs.c.formation_id == tx.formation_id, task_runs.c.pk.in_(old)))


def _is_run(tx: Transaction, run_id: str) -> ColumnElement[bool]:
    return (task_runs.c.formation_id == tx.formation_id) & (task_runs.c.run_id == run_id)


def runs_of(tx: Transaction, task_pk: int) -> ColumnElement[bool]:
    """Return the condition on runs for those of one task."""
    return (task_runs.c.formation_id == tx.formation_id) & (task_runs.c.task_pk == task_pk)
