"""Sessions: the conversations of one identifier, each with its messages and its context."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import SessionMessages


class AsyncSessionCalls(AsyncCalls):
    """Calls about the sessions of one identifier."""

    async def get_session_messages(self, session_id: str, user_id: Given) -> SessionMessages:
        """Return the messages of one session of an identifier, oldest first.

        A session belongs to the identifier that it was held under: asked for under another one, also of the same
        person, it does not exist.

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            SessionNotFoundError: It has no such session.

        >>> reply = await formation.chat("Hello!", user_id="user_123")
        >>> (await formation.get_session_messages(reply.session_id, "user_123"))["count"]
        2
        """
        formation = await self._formation()
        return await formation.sessions.messages(formation.parse(self._given(user_id)), session_id)
