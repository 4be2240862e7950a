"""Sessions: one conversation in one channel. What is said in one is never read in another."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.sql import ColumnElement

from muxi_identity.context.sessions.message import Message
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import messages, sessions


def new_session_id() -> str:
    """Return a session id that nobody has."""
    return f"ses_{secrets.token_hex(10)}"


def current_session(tx: Transaction, hit: Hit, idle_seconds: float) -> str | None:
    """Return the session that the caller's identifier is in, None where it has been idle for too long or has none."""
    return tx.connection.execute(
        select(sessions.c.session_id)
        .where(_of(tx, hit), sessions.c.last_activity_at > tx.now - int(idle_seconds * 1e6))
        .order_by(sessions.c.last_activity_at.desc(), sessions.c.pk.desc())
        .limit(1)
    ).scalar()


def read_messages(tx: Transaction, hit: Hit, session_id: str) -> list[Message]:
    """Return the messages of one session of the caller's identifier, oldest first."""
    statement = (
        select(messages.c.role, messages.c.content, messages.c.created_at)
        .join(sessions, (sessions.c.formation_id == messages.c.formation_id) & (sessions.c.pk == messages.c.session_pk))
        .where(_of(tx, hit), sessions.c.session_id == session_id)
        .order_by(messages.c.created_at, messages.c.pk)
    )
    return [Message(row.role, row.content, row.created_at) for row in tx.connection.execute(statement)]


def append_messages(tx: Transaction, hit: Hit, session_id: str, new: Sequence[Message], most: int) -> None:
    """Add messages to a session of the caller's identifier, made if need be, and keep only its last ``most``.

    Raises:
        RaceLost: The session was made by another transaction meanwhile.
    """
    session_pk = _touch(tx, hit, session_id)
    keys = tx.new_keys(len(new))
    tx.connection.execute(
        insert(messages),
        [
            {
                "formation_id": tx.formation_id,
                "pk": pk,
                "user_pk": hit.member_pk,
                "identifier_pk": hit.identifier_pk,
                "session_pk": session_pk,
                "role": message.role,
                "content": message.content,
                "created_at": tx.now,
            }
            for pk, message in zip(keys, new, strict=True)
        ],
    )
    kept = (
        select(messages.c.pk)
        .where(messages.c.formation_id == tx.formation_id, messages.c.session_pk == session_pk)
        .order_by(messages.c.created_at.desc(), messages.c.pk.desc())
        .limit(most)
    )
    tx.connection.execute(
        delete(messages).where(
            messages.c.formation_id == tx.formation_id,
            messages.c.session_pk == session_pk,
            messages.c.pk.not_in(kept),
        )
    )


def _touch(tx: Transaction, hit: Hit, session_id: str) -> int:
    touched: int | None = tx.connection.execute(
        update(sessions)
        .where(_of(tx, hit), sessions.c.session_id == session_id)
        .values(last_activity_at=tx.now)
        .returning(sessions.c.pk)
    ).scalar()
    if touched is not None:
        return touched
    (pk,) = tx.new_keys(1)
    tx.connection.execute(
        insert(sessions).values(
            formation_id=tx.formation_id,
            pk=pk,
            user_pk=hit.member_pk,
            identifier_pk=hit.identifier_pk,
            session_id=session_id,
            created_at=tx.now,
            last_activity_at=tx.now,
        )
    )
    return pk


def _of(tx: Transaction, hit: Hit) -> ColumnElement[bool]:
    return (
        (sessions.c.formation_id == tx.formation_id)
        & (sessions.c.user_pk == hit.member_pk)
        & (func.coalesce(sessions.c.identifier_pk, 0) == (hit.identifier_pk or 0))
    )
