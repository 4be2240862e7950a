"""The two halves of a chat turn that touch the database: what it starts from, and what it leaves."""

from __future__ import annotations

from dataclasses import dataclass

from muxi_identity.context.guard import check_theirs, hold_theirs
from muxi_identity.context.memories.rows import FACT, NewMemory, add_memories, forget_keys, read_facts
from muxi_identity.context.sessions.message import Message
from muxi_identity.context.sessions.rows import append_messages, current_session, new_session_id, read_messages
from muxi_identity.conversation.responder import Response, Turn
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction


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


def close_turn(tx: Transaction, hit: Hit, opening: Opening, response: Response, max_messages: int) -> None:
    """Record a turn: both messages and what was learned, or nothing of it.

    Raises:
        GuardRefused: The identifier is not, or no longer, the member's.
        RaceLost: Another turn made the same session meanwhile.
    """
    hold_theirs(tx, hit)
    said = [Message("user", opening.turn.message), Message("assistant", response.text)]
    append_messages(tx, hit, opening.session_id, said, max_messages)
    learned = [fact for fact in response.learned if fact.value is not None]
    add_memories(tx, hit, [NewMemory(fact.content, FACT, fact.key, fact.value) for fact in learned])
    forget_keys(tx, hit, [(FACT, fact.key) for fact in response.learned if fact.value is None])
