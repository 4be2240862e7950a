"""Claims on due tasks, inside a transaction: who runs one, until when nobody else may, and what came of it.

The claim is the id of the run. Whoever claims a task whose claim has ended notes that run as lost. Whoever ends a run
must still hold its claim: a worker that was paused for too long writes nothing over what another one does.

Locks are taken in the order in which a delete takes them, the user before what is the user's, or not waited for.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, bindparam, delete, insert, or_, select, update
from sqlalchemy.sql import ColumnElement

from muxi_identity.context.tasks.rows import ACTIVE, FINISHED, PAUSED, is_task, read_run, schedule_of
from muxi_identity.context.tasks.schedules import CRON, Schedule, last_due, next_run
from muxi_identity.errors import InvalidScheduleError
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import TaskRun
from muxi_identity.storage.tables import identifiers, task_runs, tasks, users

logger = logging.getLogger("muxi_identity.tasks")

RUNNING, SUCCEEDED, FAILED, LOST = "running", "succeeded", "failed", "lost"
RETRY_SECONDS = (30, 120)
"""After how many seconds a run is tried again that failed for now: by the number of attempts."""
MAX_ATTEMPTS = 10
"""After how many attempts a run is given up whose workers die, each of them."""
WORKER_LOST = "WORKER_LOST"
KEPT_RUNS = 1_000  # of a task
MAX_REPLY = 20_000  # characters


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


def is_due(tx: Transaction, until: int) -> bool:
    """Tell whether a claim would find something that was due by ``until``."""
    return tx.connection.execute(_due(tx, until, 1).with_only_columns(tasks.c.pk)).scalar() is not None


def claim(tx: Transaction, limit: int, until: int, lease: int) -> list[Claimed]:
    """Claim at most ``limit`` tasks that were due by ``until``, for ``lease`` microseconds, the longest due first.

    A task that another worker is just claiming, or whose user is just being deleted, is passed over.
    """
    wanted = _due(tx, until, limit)
    if tx.database.lock_rows:
        wanted = wanted.with_for_update(key_share=True, skip_locked=True)
    rows = tx.connection.execute(wanted).all()
    if not rows:
        return []
    owners = _owners(tx, rows)
    through = _identifiers(tx, rows)
    claimed: list[Claimed] = []
    for row in rows:
        if row.user_pk not in owners or (row.identifier_pk is not None and row.identifier_pk not in through):
            continue
        due_at, missed = _occurrence(tx, row)
        if row.claim is not None and not _take_back(tx, row):
            continue
        claimed.append(
            Claimed(
                run_id=f"run_{secrets.token_hex(10)}",
                task_id=row.task_id,
                task_pk=row.pk,
                owner_id=owners[row.user_pk],
                identifier_pk=row.identifier_pk if through.get(row.identifier_pk) else None,
                message=row.message,
                schedule=schedule_of(row),
                due_at=due_at,
                missed=missed,
                attempt=row.attempts + 1,
            )
        )
    by_pk = {row.pk: row for row in rows}
    _write(tx, [(by_pk[one.task_pk], one) for one in claimed], tx.now + lease)
    return claimed


def _due(tx: Transaction, until: int, limit: int) -> Select[Any]:
    return (
        select(tasks)
        .where(
            tasks.c.formation_id == tx.formation_id,
            tasks.c.next_run_at <= until,
            or_(tasks.c.claim.is_(None), tasks.c.claimed_until <= tx.now),
        )
        .order_by(tasks.c.next_run_at, tasks.c.pk)
        .limit(limit)
    )


def _owners(tx: Transaction, rows: Sequence[Row[Any]]) -> dict[int, str]:
    """Return the public ids of the members that the tasks lie under; without those that are just being deleted."""
    wanted = select(users.c.pk, users.c.public_id).where(tx.users_where(users.c.pk.in_({row.user_pk for row in rows})))
    if tx.database.lock_rows:
        wanted = wanted.with_for_update(read=True, key_share=True, skip_locked=True)
    return {row.pk: row.public_id for row in tx.connection.execute(wanted)}


def _identifiers(tx: Transaction, rows: Sequence[Row[Any]]) -> dict[int, bool]:
    """Return whether the identifiers that the tasks were recorded through are live; without those just being moved."""
    pks = {row.identifier_pk for row in rows if row.identifier_pk is not None}
    if not pks:
        return {}
    wanted = select(identifiers.c.pk, identifiers.c.unlinked_at, identifiers.c.expires_at).where(
        identifiers.c.formation_id == tx.formation_id, identifiers.c.pk.in_(pks)
    )
    if tx.database.lock_rows:
        wanted = wanted.with_for_update(read=True, key_share=True, skip_locked=True)
    return {
        row.pk: row.unlinked_at is None and (row.expires_at is None or row.expires_at > tx.now)
        for row in tx.connection.execute(wanted)
    }


def _occurrence(tx: Transaction, row: Row[Any]) -> tuple[int, int]:
    """Return which run is due, and how many earlier ones it stands for: of a run that is tried again, the same."""
    if row.attempts:
        before = tx.connection.execute(
            select(task_runs.c.due_at, task_runs.c.missed)
            .where(_runs_of(tx, row.pk))
            .order_by(task_runs.c.started_at.desc(), task_runs.c.pk.desc())
            .limit(1)
        ).one_or_none()
        if before is not None:
            return before.due_at, before.missed
    if row.kind != CRON:
        return row.next_run_at, 0
    try:
        return last_due(schedule_of(row), row.next_run_at, tx.now)
    except InvalidScheduleError:
        return row.next_run_at, 0


def _take_back(tx: Transaction, row: Row[Any]) -> bool:
    """Note a run as lost, and tell whether it is to be run again."""
    active: bool = row.status == ACTIVE
    again = active and bool(row.attempts < MAX_ATTEMPTS)
    given_up = active and not again
    _end_run(tx, row.claim, FAILED if given_up else LOST, error=WORKER_LOST if given_up else None)
    if not again:
        due_at = tx.connection.execute(select(task_runs.c.due_at).where(_is_run(tx, row.claim))).scalar()
        values = _following(tx, row, row.next_run_at if due_at is None else due_at) if given_up else _PAUSED
        _end_claim(tx, row, values)
    return again


def _write(tx: Transaction, claimed: Sequence[tuple[Row[Any], Claimed]], until: int) -> None:
    if not claimed:
        return
    keys = tx.new_keys(len(claimed))
    tx.connection.execute(
        insert(task_runs),
        [
            {
                "formation_id": tx.formation_id,
                "pk": pk,
                "user_pk": row.user_pk,
                "identifier_pk": row.identifier_pk,
                "run_id": one.run_id,
                "task_pk": one.task_pk,
                "due_at": one.due_at,
                "started_at": tx.now,
                "status": RUNNING,
                "attempt": one.attempt,
                "missed": one.missed,
            }
            for pk, (row, one) in zip(keys, claimed, strict=True)
        ],
    )
    tx.connection.execute(
        update(tasks)
        .where(tasks.c.formation_id == tx.formation_id, tasks.c.pk == bindparam("claimed_pk"))
        .values(claim=bindparam("run"), claimed_until=until, attempts=bindparam("attempt")),
        [{"claimed_pk": one.task_pk, "run": one.run_id, "attempt": one.attempt} for _, one in claimed],
    )


def extend(tx: Transaction, claimed: Collection[Claimed], lease: int) -> set[str]:
    """Let these claims last ``lease`` microseconds from now, and return the ids of the runs that still hold theirs."""
    held = tx.connection.execute(
        update(tasks)
        .where(
            tasks.c.formation_id == tx.formation_id,
            tasks.c.pk.in_([one.task_pk for one in claimed]),
            tasks.c.claim.in_([one.run_id for one in claimed]),
        )
        .values(claimed_until=tx.now + lease)
        .returning(tasks.c.claim)
    )
    return {str(run_id) for run_id in held.scalars()}


def finish(tx: Transaction, claimed: Claimed, outcome: Outcome) -> TaskRun | None:
    """Record what came of a run and when the next one is due. None, and nothing is written, where it lost its claim.

    A run that failed for now is tried again later; else the task goes on with the time after the one that was due.
    """
    row = _hold(tx, claimed)
    if row is None:
        return None
    _end_run(
        tx,
        claimed.run_id,
        SUCCEEDED if outcome.error is None else FAILED,
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
        .where(_runs_of(tx, task_pk))
        .order_by(task_runs.c.started_at.desc(), task_runs.c.pk.desc())
        .offset(KEPT_RUNS)
    )
    tx.connection.execute(delete(task_runs).where(task_runs.c.formation_id == tx.formation_id, task_runs.c.pk.in_(old)))


def _is_run(tx: Transaction, run_id: str) -> ColumnElement[bool]:
    return (task_runs.c.formation_id == tx.formation_id) & (task_runs.c.run_id == run_id)


def _runs_of(tx: Transaction, task_pk: int) -> ColumnElement[bool]:
    return (task_runs.c.formation_id == tx.formation_id) & (task_runs.c.task_pk == task_pk)
