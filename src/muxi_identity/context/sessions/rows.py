"""Sessions inside a transaction: one conversation in one channel. What is said in one is never read in another.

A session belongs to a member, an identifier and a session id. Under a public id (``hit.identifier_pk`` is None) it is
the public id's own; what only reads, and what clears, then goes over the whole person.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Row, Select, case, delete, func, insert, literal, literal_column, select, update
from sqlalchemy.sql import ColumnElement

from muxi_identity.context.person import members_of
from muxi_identity.context.sessions.message import Message
from muxi_identity.errors import AudienceMismatchError, InvalidRequestError, SessionNotFoundError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import messages, owner_apart, sessions

PRIVATE = "private"
_CLEARED_AT_ONCE = 1_000  # sessions: a statement takes only so many parameters


class Begun(NamedTuple):
    """A session that a transaction holds until it ends. ``at``: the time of what is said in it now."""

    pk: int
    session_id: str
    at: int


def new_session_id() -> str:
    """Return a session id that nobody has."""
    return f"ses_{secrets.token_hex(10)}"


def session_id_of(tx: Transaction, pk: int) -> str | None:
    """Return the id of the session with this key, None where it was deleted."""
    statement = select(sessions.c.session_id).where(sessions.c.formation_id == tx.formation_id, sessions.c.pk == pk)
    return tx.connection.execute(statement).scalar_one_or_none()


def begin_or_join(
    tx: Transaction,
    hit: Hit,
    session_id: str,
    *,
    invented: bool,
    audience: str | None,
    idle_seconds: float,
    continued: bool = True,
) -> Begun:
    """Return the session that a turn of the caller's identifier belongs to, made if need be.

    ``invented``: nobody asked for ``session_id``, it was made because the identifier had no session to go on with. If
    it has one by now, since another turn began at the same time, the turn joins that one. The transaction must then
    hold the identifier alone (``hold_theirs(tx, hit, alone=True)``): else both would begin one. ``audience=None``
    takes the one that the session has, and begins a private one.

    Raises:
        AudienceMismatchError: The session was begun for another audience.
        RaceLost: It was made by another transaction meanwhile.
    """
    if invented:
        session_id = current_session(tx, hit, idle_seconds, audience or PRIVATE) or session_id
    held = _hold(tx, hit, session_id)
    if held is None:
        return _begin(tx, hit, session_id, audience or PRIVATE, continued)
    if audience is not None:
        check_same_audience(session_id, held.audience, audience)
    return Begun(held.pk, session_id, held.last_activity_at)


def check_same_audience(session_id: str, begun_for: str, asked: str) -> None:
    """Check that a session is spoken in before those for whom it was begun.

    Raises:
        AudienceMismatchError: It is not.
    """
    if begun_for != asked:
        raise AudienceMismatchError(
            f"This session was begun with audience={begun_for!r} and cannot go on with {asked!r}; "
            "pass another session_id.",
            session_id=session_id,
            audience=begun_for,
        )


def append_messages(tx: Transaction, hit: Hit, session: Begun, new: Sequence[Message], most: int) -> None:
    """Add messages to a session of the caller's identifier and keep only its last ``most``."""
    if not new:
        return
    _insert(tx, hit, session, new[-most:])
    kept = (
        select(messages.c.pk)
        .where(_in(tx, session.pk))
        .order_by(messages.c.created_at.desc(), messages.c.pk.desc())
        .limit(most)
    )
    tx.connection.execute(delete(messages).where(_in(tx, session.pk), messages.c.pk.not_in(kept)))


def replace_messages(tx: Transaction, hit: Hit, session: Begun, new: Sequence[Message]) -> None:
    """Put ``new``, whose times are in order and none later than ``session.at``, in place of a session's messages."""
    if tx.connection.execute(delete(messages).where(_in(tx, session.pk))).rowcount:
        tx.erased = True
    if new:
        _insert(tx, hit, session, new)


def merge_context(tx: Transaction, session: Begun, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the context of a session with ``values`` over it; a value of None deletes its key. Nothing is written."""
    kept = tx.connection.execute(select(sessions.c.context).where(session_is(tx, session.pk))).scalar()
    held = read_context(kept)
    tx.erased |= any(value is None and key in held for key, value in values.items())
    return {key: value for key, value in {**held, **values}.items() if value is not None}


def write_context(tx: Transaction, session: Begun, written: str) -> None:
    """Keep ``written``, a JSON object, as the context of a session."""
    tx.connection.execute(update(sessions).where(session_is(tx, session.pk)).values(context=written))


def read_context(kept: str | None) -> dict[str, Any]:
    """Return the context that a session's row holds."""
    context: dict[str, Any] = {} if kept is None else json.loads(kept)
    return context


def current_session(tx: Transaction, hit: Hit, idle_seconds: float, audience: str = PRIVATE) -> str | None:
    """Return the session that the caller's identifier is in, None where it has been idle for too long or has none."""
    return tx.connection.execute(
        select(sessions.c.session_id)
        .where(
            sessions.c.formation_id == tx.formation_id,
            owner_apart(sessions) == hit.member_pk,
            spoken_through(literal(hit.identifier_pk, BigInteger)),
            sessions.c.audience == audience,
            sessions.c.continued,
            sessions.c.last_activity_at > idle_since(tx.now, idle_seconds),
        )
        .order_by(sessions.c.last_activity_at.desc(), sessions.c.pk.desc())
        .limit(1)
    ).scalar()


def idle_since(now: int, idle_seconds: float) -> int:
    """Return the time after which a session must have been spoken in to be gone on with."""
    return max(0, now - int(min(idle_seconds, 1e9) * 1e6))


def find_session(tx: Transaction, hit: Hit, session_id: str) -> int:
    """Return the key of the session that the caller reads by this id.

    Raises:
        SessionNotFoundError: There is none.
        InvalidRequestError: The caller is named by public id, and several identifiers of the person have one.
    """
    columns = (sessions.c.pk, sessions.c.user_pk, sessions.c.identifier_pk)
    found = tx.connection.execute(select(*columns).where(readable(tx, hit), sessions.c.session_id == session_id)).all()
    own = [row for row in found if (row.user_pk, row.identifier_pk) == (hit.member_pk, hit.identifier_pk)]
    if not found:
        raise SessionNotFoundError("That identifier has no session of this id.", session_id=session_id)
    if not own and len(found) > 1:
        raise InvalidRequestError(
            "Several identifiers of this person have a session of this id; name the identifier whose session is meant."
        )
    pk: int = (own or found)[0].pk
    return pk


def readable(tx: Transaction, hit: Hit) -> ColumnElement[bool]:
    """Return the condition on sessions that the caller reads: its own, of a public id those of the whole person."""
    if hit.identifier_pk is not None:
        return _own(tx, hit)
    return (sessions.c.formation_id == tx.formation_id) & sessions.c.user_pk.in_(members_of(tx, hit))


def newest_messages(tx: Transaction, session_pk: int) -> Select[Any]:
    """Return the statement for the messages of one session, the newest first."""
    return (
        select(messages.c.pk, messages.c.role, messages.c.content, messages.c.created_at)
        .where(_in(tx, session_pk))
        .order_by(messages.c.created_at.desc(), messages.c.pk.desc())
    )


def clear(tx: Transaction, which: ColumnElement[bool]) -> tuple[int, int]:
    """Delete the messages and the contexts of the sessions that ``which`` is true of; the sessions stay.

    Returns how many messages went, and of how many sessions there are. The sessions are held first, as a turn does, and
    in the order of their keys; what is begun meanwhile is left alone. So nobody waits in a circle.
    """
    which_now = select(sessions.c.pk).where(which).order_by(sessions.c.pk).with_for_update(key_share=True)
    held = tx.connection.execute(which_now).scalars().all()
    gone = 0
    for at in range(0, len(held), _CLEARED_AT_ONCE):
        some = held[at : at + _CLEARED_AT_ONCE]
        these = (sessions.c.formation_id == tx.formation_id) & sessions.c.pk.in_(some)
        tx.connection.execute(update(sessions).where(these, sessions.c.context.is_not(None)).values(context=None))
        theirs = (messages.c.formation_id == tx.formation_id) & messages.c.session_pk.in_(some)
        gone += tx.connection.execute(delete(messages).where(theirs)).rowcount
    tx.erased |= bool(held)
    return gone, len(held)


def _begin(tx: Transaction, hit: Hit, session_id: str, audience: str, continued: bool) -> Begun:
    (pk,) = tx.new_keys(1)
    tx.connection.execute(
        insert(sessions).values(
            formation_id=tx.formation_id,
            pk=pk,
            user_pk=hit.member_pk,
            identifier_pk=hit.identifier_pk,
            session_id=session_id,
            audience=audience,
            continued=continued,
            created_at=tx.now,
            last_activity_at=tx.now,
        )
    )
    return Begun(pk, session_id, tx.now)


def _hold(tx: Transaction, hit: Hit, session_id: str) -> Row[Any] | None:
    # What is said later lies later, also where the clocks of two machines disagree: the order of the turns is the
    # order in which they hold the session.
    last = sessions.c.last_activity_at
    return tx.connection.execute(
        update(sessions)
        .where(_own(tx, hit), sessions.c.session_id == session_id)
        .values(last_activity_at=case((last >= tx.now, last + 1), else_=tx.now))
        .returning(sessions.c.pk, sessions.c.audience, last)
    ).one_or_none()


def _insert(tx: Transaction, hit: Hit, session: Begun, new: Sequence[Message]) -> None:
    keys = tx.new_keys(len(new))
    tx.connection.execute(
        insert(messages),
        [
            {
                "formation_id": tx.formation_id,
                "pk": pk,
                "user_pk": hit.member_pk,
                "identifier_pk": hit.identifier_pk,
                "session_pk": session.pk,
                "role": message.role,
                "content": message.content,
                "created_at": session.at if message.at is None else message.at,
            }
            for pk, message in zip(keys, new, strict=True)
        ],
    )


def _own(tx: Transaction, hit: Hit) -> ColumnElement[bool]:
    return (
        (sessions.c.formation_id == tx.formation_id)
        & (sessions.c.user_pk == hit.member_pk)
        & spoken_through(literal(hit.identifier_pk, BigInteger))
    )


def spoken_through(identifier_pk: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition on sessions that is true of those of an identifier, of the public id's own where it is NULL.

    With constants, as the indexes have them: a parameter would not be known for the same.
    """
    none: ColumnElement[int] = literal_column("0")
    return func.coalesce(sessions.c.identifier_pk, none) == func.coalesce(identifier_pk, none)


def session_is(tx: Transaction, session_pk: int) -> ColumnElement[bool]:
    """Return the condition on sessions that is true of this one."""
    return (sessions.c.formation_id == tx.formation_id) & (sessions.c.pk == session_pk)


def _in(tx: Transaction, session_pk: int) -> ColumnElement[bool]:
    return (messages.c.formation_id == tx.formation_id) & (messages.c.session_pk == session_pk)
