"""The history of a whole formation, for operators."""

from __future__ import annotations

from sqlalchemy import select, tuple_

from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import iso
from muxi_identity.models.buffers import AuditPage
from muxi_identity.paging import check_limit, read_cursor, write_cursor
from muxi_identity.storage.tables import history

_CALL = "the audit log"
_KEY = "cursors"


def list_events(tx: Transaction, limit: int, cursor: str | None) -> AuditPage:
    """Return a page of the history, what was recorded last first.

    By time, and not by key alone: on PostgreSQL each connection holds some keys in store.

    Raises:
        InvalidRequestError: The limit is out of range or the cursor is none of ours.
    """
    check_limit(limit)
    page = (
        select(history)
        .where(history.c.formation_id == tx.formation_id)
        .order_by(history.c.at.desc(), history.c.pk.desc())
    )
    if cursor is not None:
        place = read_cursor(tx.bucket.fingerprint(_KEY), _CALL, cursor)
        page = page.where(tuple_(history.c.at, history.c.pk) < tuple_(*place))
    rows = tx.connection.execute(page.limit(limit + 1)).all()
    more = len(rows) > limit
    return {
        "events": [
            {
                "at": iso(row.at),
                "event": row.event,
                "muxi_user_id": row.user_id,
                "other_user_id": row.other_user_id,
                "merge_id": row.merge_id,
                "actor": row.actor,
                "source": row.source,
                "reason": row.reason,
            }
            for row in rows[:limit]
        ],
        "count": min(len(rows), limit),
        "next_cursor": write_cursor(tx.bucket.fingerprint(_KEY), _CALL, rows[limit - 1].at, rows[limit - 1].pk)
        if more
        else None,
    }
