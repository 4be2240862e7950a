"""Reading the history: what happened to a person, newest first.

The log holds ids alone. The identifiers that it speaks of are read from those who have or had them, and are gone with
them.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Select, and_, select, tuple_, union

from muxi_identity.identity.cache import Hit
from muxi_identity.identity.naming import member_now
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import HistoryEvent, HistoryPage, iso
from muxi_identity.paging import check_limit, read_cursor, write_cursor
from muxi_identity.storage.tables import history, identifiers, users

_CALL: Final = "get_user_history"


def read_history(tx: Transaction, hit: Hit, limit: int, cursor: str | None) -> HistoryPage:
    """Return a page of what happened to the person that ``hit`` means: to its members, and to their identifiers.

    Raises:
        UserNotFoundError: It means nobody any more.
        InvalidRequestError: The limit is out of range or the cursor is none of ours.
    """
    check_limit(limit)
    key = tx.bucket.fingerprint("cursors")
    page = _about(tx, member_now(tx, hit).root_pk)
    if cursor is not None:
        page = page.where(tuple_(history.c.at, history.c.pk) < tuple_(*read_cursor(key, _CALL, cursor)))
    rows = tx.connection.execute(page.order_by(history.c.at.desc(), history.c.pk.desc()).limit(limit + 1)).all()
    events = [_event(row) for row in rows[:limit]]
    last = rows[limit - 1] if len(rows) > limit else None
    next_cursor = None if last is None else write_cursor(key, _CALL, last.at, last.pk)
    return {"events": events, "count": len(events), "next_cursor": next_cursor}


def _about(tx: Transaction, root_pk: int) -> Select[Any]:
    members = select(users.c.pk).where(tx.users_where(users.c.root_pk == root_pk))
    names = select(users.c.public_id).where(tx.users_where(users.c.root_pk == root_pk))
    theirs = select(identifiers.c.pk).where(
        identifiers.c.formation_id == tx.formation_id, identifiers.c.user_pk.in_(members)
    )
    # Each by an index of its own. An identifier's events stand under the name of whoever was root at the time.
    found = [
        select(history.c.pk).where(history.c.formation_id == tx.formation_id, condition)
        for condition in (
            history.c.user_id.in_(names),
            history.c.other_user_id.in_(names),
            history.c.identifier_pk.in_(theirs),
        )
    ]
    return (
        select(history, identifiers.c.spelling, identifiers.c.type)
        .select_from(
            history.outerjoin(
                identifiers,
                and_(identifiers.c.formation_id == history.c.formation_id, identifiers.c.pk == history.c.identifier_pk),
            )
        )
        .where(history.c.formation_id == tx.formation_id, history.c.pk.in_(union(*found)))
    )


def _event(row: Any) -> HistoryEvent:
    return {
        "event": row.event,
        "at": iso(row.at),
        "muxi_user_id": row.user_id,
        "other_user_id": row.other_user_id,
        # What is left of a key whose user was deleted has no hint.
        "identifier": {"identifier": row.spelling, "type": row.type} if row.spelling else None,
        "merge_id": row.merge_id,
        "actor": row.actor,
        "source": row.source,
        "reason": row.reason,
    }
