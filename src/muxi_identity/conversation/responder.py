"""What a chat turn hands to a responder, and what it gets back.

Who the user is has been decided before a responder is asked; nothing that it is given names another person, and
nothing that it returns can choose one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.sessions.message import Message
from muxi_identity.conversation.tools import TurnTools
from muxi_identity.models import UserContext

__all__ = ["Fact", "Message", "Responder", "Response", "StreamingResponder", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """Everything that a responder may use to answer one message.

    ``facts`` are the person's, newest first and one for each key: the latest ones, and those that the message seems
    to be about. ``messages`` are those of this session alone, oldest first, without the message to be answered.
    ``context`` is what :meth:`get_user_context` brings. ``tools`` act for this person; None where a turn is made by
    hand. ``timeout`` is how many seconds the reply may take, None where nobody set a limit. ``request_id`` is what the
    reply will have as its own, for whoever keeps a log.
    """

    message: str
    facts: Sequence[Fact] = ()
    messages: Sequence[Message] = ()
    context: UserContext = field(default_factory=UserContext)
    tools: TurnTools | None = None
    timeout: float | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A reply and what to remember from the turn.

    A fact in ``learned`` replaces an earlier one of the same key when the person's facts are read; one whose value is
    None deletes it. ``forget_all`` deletes every memory of the person, before anything is learned. ``topics`` are a
    few words each on what was spoken of: they go to working memory. ``preferences`` are set. What looks like a key or
    a password is not learned, whatever a responder says.
    """

    text: str
    learned: Sequence[Fact] = ()
    topics: Sequence[str] = ()
    preferences: Mapping[str, Any] = field(default_factory=dict)
    forget_all: bool = False


class Responder(Protocol):
    """Answers one turn.

    ``restartable`` says that answering twice does no harm (no network, no cost, no side effect): a turn whose
    write was refused because the identity changed is then computed again, from the new person's context.

    It may have an attribute ``timeout``: how many seconds a reply may take where the call does not say.
    """

    @property
    def restartable(self) -> bool:
        """Whether the turn may be computed twice."""

    async def respond(self, turn: Turn) -> Response:
        """Return the reply to ``turn.message``.

        Raises:
            ModelError: It cannot answer; nothing of the turn is recorded.
        """


@runtime_checkable
class StreamingResponder(Responder, Protocol):
    """A responder that can give its reply piece by piece."""

    def stream(self, turn: Turn) -> AsyncIterator[str | Response]:
        """Yield pieces of the reply's text as they come, and last the :class:`Response` with all of it.

        Where it is an asynchronous generator, it is closed when nobody wants the rest.

        Raises:
            ModelError: It cannot go on; nothing of the turn is recorded.
        """
