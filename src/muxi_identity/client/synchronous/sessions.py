"""Sessions: the conversations of one identifier, each with its messages and its context.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.sessions import AsyncSessionCalls
from muxi_identity.client.blocking import BlockingCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import SessionMessages


class SessionCalls(BlockingCalls):
    """Calls about the sessions of one identifier."""

    _async: AsyncSessionCalls

    def get_session_messages(self, session_id: str, user_id: Given) -> SessionMessages:
        """Return the messages of one session of an identifier, oldest first.

        A session belongs to the identifier that it was held under: asked for under another one, also of the same
        person, it does not exist.

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            SessionNotFoundError: It has no such session.

        >>> reply = formation.chat("Hello!", user_id="user_123")
        >>> formation.get_session_messages(reply.session_id, "user_123")["count"]
        2
        """
        return self._run(self._async.get_session_messages(session_id, user_id))
