"""The two halves of a chat turn that touch the database: what it starts from, and what it leaves."""

from __future__ import annotations

from dataclasses import dataclass

from muxi_identity.context.guard import check_theirs, hold_theirs
from muxi_identity.context.memory import add_facts, read_facts
from muxi_identity.context.message import Message
from muxi_identity.context.sessions import append_messages, current_session, new_session_id, read_messages
from muxi_identity.conversation.responder import Response, Turn
from muxi_identity.errors import SessionNotFoundError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import SessionMessages, iso


@dataclass(frozen=True, slots=True)
class Opening:
    """What a turn starts from: the person's public id, the session, and what the responder is given."""

    user_id: str
    session_id: str
    turn: Turn


def open_turn(tx: Transaction, hit: Hit, message: str, session_id: str | None, idle_seconds: float) -> Opening:
    """Load the context of a turn. Without ``session_id`` the identifier's current session goes on.

    Raises:
        GuardRefused: The identifier is not, or no longer, the member's.
    """
    user_id = check_theirs(tx, hit)
    session_id = session_id or current_session(tx, hit, idle_seconds) or new_session_id()
    return Opening(
        user_id,
        session_id,
        Turn(message=message, facts=read_facts(tx, hit), messages=read_messages(tx, hit, session_id)),
    )


def read_session(tx: Transaction, hit: Hit, session_id: str) -> SessionMessages:
    """Return a session of the caller's identifier.

    Raises:
        SessionNotFoundError: It has none of that id.
        GuardRefused: The identifier is not, or no longer, the member's.
    """
    check_theirs(tx, hit)
    found = read_messages(tx, hit, session_id)
    if not found:  # a session begins with a turn, so that none is ever empty
        raise SessionNotFoundError("That identifier has no session of this id.", session_id=session_id)
    return {
        "session_id": session_id,
        "messages": [{"role": each.role, "content": each.content, "created_at": iso(each.at or 0)} for each in found],
        "count": len(found),
        "has_more": False,
    }


def close_turn(tx: Transaction, hit: Hit, opening: Opening, response: Response, max_messages: int) -> None:
    """Record a turn: both messages and what was learned, or nothing of it.

    Raises:
        GuardRefused: The identifier is not, or no longer, the member's.
        RaceLost: Another turn made the same session meanwhile.
    """
    hold_theirs(tx, hit)
    said = [Message("user", opening.turn.message), Message("assistant", response.text)]
    append_messages(tx, hit, opening.session_id, said, max_messages)
    add_facts(tx, hit, response.learned)
