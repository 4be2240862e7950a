"""Sessions as they are shown: one, a page of them, a page of one's messages. Inside a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, exists, func, select, tuple_

from muxi_identity.context.paging import end_of, start_of
from muxi_identity.context.sessions.rows import find_session, idle_since, newest_messages, read_context, readable
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import SessionMessages, SessionPage, SessionRecord, iso
from muxi_identity.storage.tables import identifiers, messages, owner_apart, sessions


def list_sessions(tx: Transaction, hit: Hit, idle_seconds: float, limit: int, cursor: str | None) -> SessionPage:
    """Return a page of the sessions that the caller reads, the last active first.

    Raises:
        InvalidRequestError: The limit is out of range or the cursor is none of ours.
    """
    start = start_of(tx, "list_sessions", limit, cursor)
    page = _records(tx, idle_seconds).where(readable(tx, hit))
    if start is not None:
        page = page.where(tuple_(sessions.c.last_activity_at, sessions.c.pk) < tuple_(*start))
    page = page.order_by(sessions.c.last_activity_at.desc(), sessions.c.pk.desc()).limit(limit + 1)
    rows, after = end_of(tx, "list_sessions", limit, tx.connection.execute(page).all(), at="last_activity_at")
    return {"sessions": _shown(rows), "count": len(rows), "next_cursor": after}


def get_session(tx: Transaction, hit: Hit, idle_seconds: float, session_id: str) -> SessionRecord:
    """Return one session that the caller reads.

    Raises:
        SessionNotFoundError: There is none.
        InvalidRequestError: The caller is named by public id, and several identifiers of the person have one.
    """
    pk = find_session(tx, hit, session_id)
    statement = _records(tx, idle_seconds).where(sessions.c.formation_id == tx.formation_id, sessions.c.pk == pk)
    return _shown(tx.connection.execute(statement).all())[0]


def get_messages(tx: Transaction, hit: Hit, session_id: str, limit: int, cursor: str | None) -> SessionMessages:
    """Return a page of the messages of one session that the caller reads: the newest page first, each oldest first.

    Raises:
        SessionNotFoundError: There is none.
        InvalidRequestError: The limit is out of range, the cursor is none of ours, or several are meant.
    """
    start = start_of(tx, "get_session_messages", limit, cursor)
    page = newest_messages(tx, find_session(tx, hit, session_id)).limit(limit + 1)
    if start is not None:
        page = page.where(tuple_(messages.c.created_at, messages.c.pk) < tuple_(*start))
    rows, after = end_of(tx, "get_session_messages", limit, tx.connection.execute(page).all(), at="created_at")
    return {
        "session_id": session_id,
        "messages": [
            {"role": row.role, "content": row.content, "created_at": iso(row.created_at)} for row in reversed(rows)
        ],
        "count": len(rows),
        "has_more": after is not None,
        "next_cursor": after,
    }


def _records(tx: Transaction, idle_seconds: float) -> Select[Any]:
    held = (
        select(func.count())
        .where(messages.c.formation_id == tx.formation_id, messages.c.session_pk == sessions.c.pk)
        .scalar_subquery()
    )
    through = and_(identifiers.c.formation_id == sessions.c.formation_id, identifiers.c.pk == sessions.c.identifier_pk)
    return select(
        sessions.c.pk,
        sessions.c.session_id,
        sessions.c.audience,
        sessions.c.context,
        sessions.c.created_at,
        sessions.c.last_activity_at,
        identifiers.c.type.label("channel"),
        held.label("message_count"),
        _is_active(tx, idle_seconds).label("active"),
    ).select_from(sessions.outerjoin(identifiers, through))


def _is_active(tx: Transaction, idle_seconds: float) -> ColumnElement[bool]:
    """Return the condition on sessions that is true of the one with which a call without a session id would go on."""
    newer = sessions.alias("newer")
    superseded = exists().where(
        newer.c.formation_id == sessions.c.formation_id,
        owner_apart(newer) == owner_apart(sessions),
        func.coalesce(newer.c.identifier_pk, 0) == func.coalesce(sessions.c.identifier_pk, 0),
        newer.c.audience == sessions.c.audience,
        newer.c.continued,
        tuple_(newer.c.last_activity_at, newer.c.pk) > tuple_(sessions.c.last_activity_at, sessions.c.pk),
    )
    lately = sessions.c.last_activity_at > idle_since(tx.now, idle_seconds)
    return and_(sessions.c.continued, lately, ~superseded.correlate(sessions))


def _shown(rows: Sequence[Row[Any]]) -> list[SessionRecord]:
    return [
        {
            "session_id": row.session_id,
            "channel": row.channel,
            "audience": row.audience,
            "active": bool(row.active),
            "message_count": row.message_count,
            "context": read_context(row.context),
            "created_at": iso(row.created_at),
            "last_activity": iso(row.last_activity_at),
        }
        for row in rows
    ]
