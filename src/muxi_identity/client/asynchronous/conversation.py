"""Conversation: a message in, a reply out, and the turn remembered."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls
from muxi_identity.client.engine import StreamedTurn
from muxi_identity.client.operations import Given
from muxi_identity.client.streams import AsyncChatStream
from muxi_identity.models import Audience, ChatReply


class AsyncConversationCalls(AsyncCalls):
    """Calls that speak with a person."""

    async def chat(
        self,
        message: str,
        user_id: Given,
        *,
        session_id: str | None = None,
        audience: Audience = "private",
        timeout: float | None = None,
    ) -> ChatReply:
        """Answer one message of a person, known by any identifier, and remember the turn.

        An identifier that nobody has makes first contact: a new user. Without ``session_id`` the identifier goes on
        with its current session, or begins one after a day without a word. Sessions are never shared between
        identifiers; what the person said of themselves is.

        ``audience="shared"`` is for a channel that others read: only what is marked shareable is used, no credentials
        and no tasks, and what is learned is shareable. ``timeout`` is how many seconds the reply may take.

        The turn is recorded whole or not at all: both messages, what was learned, and whatever a model's tools
        changed. Keys and passwords are neither kept in the messages nor remembered.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            TooLargeError: The message has over 100,000 characters, or is too long for the model.
            InvalidRequestError: The message is blank, or another argument has the wrong shape.
            AudienceMismatchError: The session was begun for another audience.
            ModelError: The language model failed; ModelUnavailableError and ModelTimeoutError are worth another try.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was recorded.

        >>> told = await formation.chat("My budget is $5,000", user_id="user_123")
        >>> print(await formation.chat("What's my budget?", user_id="user_123"))
        Your budget is $5,000.
        """
        formation = await self._formation()
        return await formation.conversation.chat(
            message,
            formation.parse(self._given(user_id)),
            session_id,
            self._caller("chat"),
            audience=audience,
            timeout=timeout,
        )

    def chat_stream(
        self,
        message: str,
        user_id: Given,
        *,
        session_id: str | None = None,
        audience: Audience = "private",
        timeout: float | None = None,
    ) -> AsyncChatStream:
        """Answer as :meth:`chat` does, with the reply in pieces as they come.

        Iterate over what it returns. The turn is recorded at the end, and its ``reply`` is there then; whoever leaves
        before leaves nothing behind. A responder that cannot stream gives its reply in one piece. Time that the
        reader takes does not count towards ``timeout``.

        Raises:
            MuxiError: While it is iterated over: what :meth:`chat` raises. IdentityChangedError also where the
                identity changed after the first piece.

        >>> stream = formation.chat_stream("My budget is $5,000", user_id="user_123")
        >>> "".join([piece async for piece in stream])
        'Got it: your budget is $5,000.'
        >>> stream.reply.text
        'Got it: your budget is $5,000.'
        """

        async def begin() -> StreamedTurn:
            formation = await self._formation()
            return formation.conversation.chat_stream(
                message,
                formation.parse(self._given(user_id)),
                session_id,
                self._caller("chat"),
                audience=audience,
                timeout=timeout,
            )

        return AsyncChatStream(begin)
