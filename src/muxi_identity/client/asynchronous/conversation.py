"""Conversation: a message in, a reply out, and the turn remembered."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import ChatReply


class AsyncConversationCalls(AsyncCalls):
    """Calls that speak with a person."""

    async def chat(self, message: str, user_id: Given, *, session_id: str | None = None) -> ChatReply:
        """Answer one message of a person, known by any identifier, and remember the turn.

        An identifier that nobody has makes first contact: a new user. Without ``session_id`` the identifier goes on
        with its current session, or begins one after a day without a word. Sessions are never shared between
        identifiers; what the person said of themselves is.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: The message is blank or over 100,000 characters, or ``session_id`` is no text.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was recorded.

        >>> told = await formation.chat("My budget is $5,000", user_id="user_123")
        >>> print(await formation.chat("What's my budget?", user_id="user_123"))
        Your budget is $5,000.
        """
        formation = await self._formation()
        return await formation.conversation.chat(
            message, formation.parse(self._given(user_id)), session_id, self._caller("chat")
        )
