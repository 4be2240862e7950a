"""Reading the history: what happened to a person, newest first.

The log holds ids alone. The identifiers that it speaks of are read from those who have or had them, and are gone with
them.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from sqlalchemy import Select, and_, select, union

from muxi_identity.errors import InvalidRequestError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.naming import member_now
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import HistoryEvent, HistoryPage, iso
from muxi_identity.storage.tables import history, identifiers, users

MAX_PAGE: Final = 500
_MAX_CURSOR: Final = 256  # characters; ours are shorter


def read_history(tx: Transaction, hit: Hit, limit: int, cursor: str | None) -> HistoryPage:
    """Return a page of what happened to the person that ``hit`` means: to its members, and to their identifiers.

    Raises:
        UserNotFoundError: It means nobody any more.
        InvalidRequestError: The limit is out of range or the cursor is none of ours.
    """
    if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
        raise InvalidRequestError(f"limit must be a whole number from 1 to {MAX_PAGE}.")
    before, shown = (None, 0) if cursor is None else _read_cursor(cursor)
    page = _about(tx, member_now(tx, hit).root_pk)
    if before is not None:
        page = page.where(history.c.at <= before)
    rows = tx.connection.execute(
        page.order_by(history.c.at.desc(), history.c.pk.desc()).offset(shown).limit(limit + 1)
    ).all()
    events = [_event(row) for row in rows[:limit]]
    next_cursor = None
    if len(rows) > limit:
        last = rows[limit - 1].at
        same = sum(row.at == last for row in rows[:limit])
        # A key would tell places within a moment apart, but keys stay inside: what was shown of it is counted instead.
        next_cursor = _write_cursor(last, same + (shown if last == before else 0))
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


def _write_cursor(at: int, shown: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([at, shown]).encode()).decode()


def _read_cursor(cursor: str) -> tuple[int, int]:
    try:
        at, shown = json.loads(base64.urlsafe_b64decode(cursor[:_MAX_CURSOR].encode()))
    except (AttributeError, TypeError, ValueError, RecursionError):
        at = shown = None
    if type(at) is not int or type(shown) is not int or at.bit_length() > 63 or not 0 <= shown < 2**31:
        raise InvalidRequestError("cursor is not one that get_user_history gave; pass next_cursor of the page before.")
    return at, shown
