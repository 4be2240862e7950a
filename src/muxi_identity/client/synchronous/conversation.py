"""Conversation: a message in, a reply out, and the turn remembered.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.conversation import AsyncConversationCalls
from muxi_identity.client.blocking import BlockingCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import ChatReply


class ConversationCalls(BlockingCalls):
    """Calls that speak with a person."""

    _async: AsyncConversationCalls

    def chat(self, message: str, user_id: Given, *, session_id: str | None = None) -> ChatReply:
        """Answer one message of a person, known by any identifier, and remember the turn.

        An identifier that nobody has makes first contact: a new user. Without ``session_id`` the identifier goes on
        with its current session, or begins one after a day without a word. Sessions are never shared between
        identifiers; what the person said of themselves is.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: The message is blank or over 100,000 characters, or ``session_id`` is no text.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was recorded.

        >>> told = formation.chat("My budget is $5,000", user_id="user_123")
        >>> print(formation.chat("What's my budget?", user_id="user_123"))
        Your budget is $5,000.
        """
        return self._run(self._async.chat(message, user_id, session_id=session_id))
