"""What a chat turn hands to a responder, and what it gets back.

Who the user is has been decided before a responder is asked; nothing that it is given names another person, and
nothing that it returns can choose one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.sessions.message import Message

__all__ = ["Fact", "Message", "Responder", "Response", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """Everything that a responder may use to answer one message.

    ``facts`` are the person's, newest first and one for each key; ``messages`` are those of this session alone,
    oldest first, without the message to be answered.
    """

    message: str
    facts: Sequence[Fact] = ()
    messages: Sequence[Message] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """A reply and what to remember from the turn.

    A fact in ``learned`` replaces an earlier one of the same key when the person's facts are read.
    """

    text: str
    learned: Sequence[Fact] = ()


class Responder(Protocol):
    """Answers one turn.

    ``restartable`` says that answering twice does no harm (no network, no cost, no side effect): a turn whose
    write was refused because the identity changed is then computed again, from the new person's context.
    """

    @property
    def restartable(self) -> bool:
        """Whether the turn may be computed twice."""

    async def respond(self, turn: Turn) -> Response:
        """Return the reply to ``turn.message``."""
