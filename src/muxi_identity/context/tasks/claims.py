"""Claims on due tasks, inside a transaction: who runs one, and until when nobody else may.

The claim is the id of the run. Whoever claims a task whose claim has ended notes that run as lost.

Locks are taken in the order in which a delete takes them, the user before what is the user's, or not waited for.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Row, Select, bindparam, insert, or_, select, update

from muxi_identity.context.tasks.endings import runs_of, take_back
from muxi_identity.context.tasks.rows import schedule_of
from muxi_identity.context.tasks.run import RUNNING, Claimed
from muxi_identity.context.tasks.schedules import CRON, last_due
from muxi_identity.errors import InvalidScheduleError
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import identifiers, task_runs, tasks, users


def is_due(tx: Transaction, until: int) -> bool:
    """Tell whether a claim would find something that was due by ``until``."""
    return tx.connection.execute(_due(tx, until, 1).with_only_columns(tasks.c.pk)).scalar() is not None


def claim(tx: Transaction, limit: int, until: int, lease: int, own: Collection[str] = ()) -> list[Claimed]:
    """Claim at most ``limit`` tasks that were due by ``until``, for ``lease`` microseconds, the longest due first.

    A task that another worker is just claiming, or whose user is just being deleted, is passed over. So are those whose
    claims are ``own``: whoever runs them knows that they are not lost, however late their heartbeats are.
    """
    wanted = _due(tx, until, limit)
    if own:
        wanted = wanted.where(or_(tasks.c.claim.is_(None), tasks.c.claim.not_in(own)))
    if tx.database.lock_rows:
        wanted = wanted.with_for_update(key_share=True, skip_locked=True)
    while rows := tx.connection.execute(wanted).all():
        claimed, ended = _claim(tx, rows)
        if claimed or not ended:  # else what was ended stood before others that are due
            by_pk = {row.pk: row for row in rows}
            _write(tx, [(by_pk[one.task_pk], one) for one in claimed], tx.now + lease)
            return claimed
    return []


def _claim(tx: Transaction, rows: Sequence[Row[Any]]) -> tuple[list[Claimed], int]:
    """Return what can be claimed of these tasks, and how many were ended: their workers died, and none is to follow."""
    owners = _owners(tx, rows)
    through = _identifiers(tx, rows)
    claimed: list[Claimed] = []
    ended = 0
    for row in rows:
        if row.user_pk not in owners or (row.identifier_pk is not None and row.identifier_pk not in through):
            continue
        due_at, missed = _occurrence(tx, row)
        if row.claim is not None and not take_back(tx, row):
            ended += 1
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
    return claimed, ended


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
            .where(runs_of(tx, row.pk))
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
