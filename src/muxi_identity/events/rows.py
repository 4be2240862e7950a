"""The outbox as its workers see it: what is due, claimed under a lease, delivered, put off or given up."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import and_, delete, exists, or_, select, tuple_, update
from sqlalchemy.sql import ColumnElement

from muxi_identity.errors import EventNotFoundError
from muxi_identity.events.sending import Outcome
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import DeadEvent, DeadEventPage, RetriedEvent, iso
from muxi_identity.paging import check_limit, read_cursor, write_cursor
from muxi_identity.storage.tables import outbox

LEASE_SECONDS = 60
KEEP_SECONDS = 30 * 86_400
PAUSES = (5, 30, 120, 600, 1_800, 7_200, 18_000)
"""Seconds to wait after the first attempt that fails, the second, and so on: with one attempt more than these, over
about eight hours, an event is given up."""
_KEY = "cursors"


class Due(NamedTuple):
    """An event to be delivered to one webhook."""

    position: int
    event_id: str
    endpoint: str
    body: str


def is_any_due(tx: Transaction, endpoints: Collection[str]) -> bool:
    """Tell whether there is anything to be delivered now."""
    found: bool = tx.connection.execute(select(exists().where(_deliverable(tx, endpoints)))).scalar_one()
    return found


def claim(tx: Transaction, endpoints: Collection[str], claimant: str) -> Due | None:
    """Take the first event that is due for ``claimant``: nobody else delivers it until the lease ends."""
    statement = (
        select(outbox.c.position, outbox.c.event_id, outbox.c.endpoint, outbox.c.body)
        .where(_deliverable(tx, endpoints))
        .order_by(outbox.c.position)
        .limit(1)
    )
    if tx.database.lock_rows:
        statement = statement.with_for_update(skip_locked=True, of=outbox)
    row = tx.connection.execute(statement).one_or_none()
    if row is None:
        return None
    tx.connection.execute(
        update(outbox)
        .where(_at(tx, row.position))
        .values(claim=claimant, claimed_until=tx.now + LEASE_SECONDS * 1_000_000)
    )
    return Due(*row)


def settle(tx: Transaction, due: Due, claimant: str, outcome: Outcome) -> str:
    """Record what came of a delivery: ``"delivered"``, ``"retried"`` or ``"given_up"``; ``"lost"`` where the lease
    ended meanwhile and the event is another worker's, who delivers it again."""
    held = _at(tx, due.position) & (outbox.c.claim == claimant)
    if outcome.error is None:
        return "delivered" if tx.connection.execute(delete(outbox).where(held)).rowcount else "lost"
    attempts: int | None = tx.connection.execute(
        update(outbox)
        .where(held)
        .values(claim=None, claimed_until=None, attempts=outbox.c.attempts + 1, error=outcome.error)
        .returning(outbox.c.attempts)
    ).scalar()
    if attempts is None:
        return "lost"
    if attempts > len(PAUSES):
        tx.connection.execute(update(outbox).where(_at(tx, due.position)).values(failed_at=tx.now))
        return "given_up"
    # Spread out: what failed together would else come back together.
    seconds = max(PAUSES[attempts - 1] * random.uniform(0.8, 1.2), outcome.wait_seconds)  # noqa: S311 (no secret)
    tx.connection.execute(update(outbox).where(_at(tx, due.position)).values(due_at=tx.now + int(seconds * 1_000_000)))
    return "retried"


def release(tx: Transaction, due: Due, claimant: str) -> None:
    """Give a claimed event back, for whoever comes next."""
    tx.connection.execute(
        update(outbox).where(_at(tx, due.position), outbox.c.claim == claimant).values(claim=None, claimed_until=None)
    )


def tidy(tx: Transaction, endpoints: Collection[str]) -> None:
    """Delete what nobody will deliver: given up, or for a webhook that is not configured here, 30 days ago."""
    begin = tx.now - KEEP_SECONDS * 1_000_000
    tx.connection.execute(
        delete(outbox).where(
            outbox.c.formation_id == tx.formation_id,
            or_(
                outbox.c.failed_at < begin,
                and_(outbox.c.created_at < begin, outbox.c.endpoint.not_in(endpoints)),
            ),
        )
    )


def list_dead(tx: Transaction, origins: Mapping[str, str], limit: int, cursor: str | None) -> DeadEventPage:
    """Return a page of what was given up, the last first. ``origins`` says what is shown of each webhook.

    Raises:
        InvalidRequestError: The limit is out of range or the cursor is none of ours.
    """
    check_limit(limit)
    page = (
        select(outbox)
        .where(outbox.c.formation_id == tx.formation_id, outbox.c.failed_at.is_not(None))
        .order_by(outbox.c.failed_at.desc(), outbox.c.position.desc())
        .limit(limit + 1)
    )
    key = tx.bucket.fingerprint(_KEY)
    if cursor is not None:
        start = read_cursor(key, "list_dead_events", cursor)
        page = page.where(tuple_(outbox.c.failed_at, outbox.c.position) < tuple_(*start))
    rows = tx.connection.execute(page).all()
    shown = rows[:limit]
    events: list[DeadEvent] = [
        {
            "event_id": row.event_id,
            "type": row.type,
            "muxi_user_id": row.user_id,
            "webhook": origins.get(row.endpoint),
            "attempts": row.attempts,
            "error": row.error,
            "created_at": iso(row.created_at),
            "failed_at": iso(row.failed_at),
        }
        for row in shown
    ]
    follows = len(rows) > limit
    return {
        "events": events,
        "count": len(events),
        "next_cursor": write_cursor(key, "list_dead_events", shown[-1].failed_at, shown[-1].position)
        if follows
        else None,
    }


def retry_dead(tx: Transaction, event_id: str) -> RetriedEvent:
    """Let an event that was given up be delivered anew.

    Raises:
        EventNotFoundError: None of this id was given up.
    """
    retried = tx.connection.execute(
        update(outbox)
        .where(
            outbox.c.formation_id == tx.formation_id,
            outbox.c.event_id == event_id,
            outbox.c.failed_at.is_not(None),
        )
        .values(failed_at=None, attempts=0, due_at=tx.now)
    )
    if not retried.rowcount:
        raise EventNotFoundError("No event of this id was given up; list_dead_events shows those that were.")
    return {"event_id": event_id, "webhooks": retried.rowcount}


def _at(tx: Transaction, position: int) -> ColumnElement[bool]:
    return (outbox.c.formation_id == tx.formation_id) & (outbox.c.position == position)


def _deliverable(tx: Transaction, endpoints: Collection[str]) -> ColumnElement[bool]:
    """Return the condition on events that may be sent now: due, nobody's, and with nothing before them.

    What is to be told of the same users earlier is told first, also while it waits for its next attempt.
    """
    earlier = outbox.alias("earlier")
    before = [
        exists().where(
            earlier.c.formation_id == outbox.c.formation_id,
            earlier.c.endpoint == outbox.c.endpoint,
            earlier.c[theirs] == outbox.c[ours],
            earlier.c.position < outbox.c.position,
            earlier.c.failed_at.is_(None),
        )
        for theirs in ("user_id", "other_user_id")
        for ours in ("user_id", "other_user_id")
    ]
    return and_(
        outbox.c.formation_id == tx.formation_id,
        outbox.c.endpoint.in_(endpoints),
        outbox.c.failed_at.is_(None),
        outbox.c.due_at <= tx.now,
        or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= tx.now),
        *(~each for each in before),
    )
