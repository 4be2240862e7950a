"""Sessions: the conversations of one identifier, each with its messages and its context.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from muxi_identity.client.asynchronous.sessions import AsyncSessionCalls
from muxi_identity.client.blocking import BlockingCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import Audience, ClearResult, RestoreResult, SessionMessages, SessionPage, SessionRecord


class SessionCalls(BlockingCalls):
    """Calls about the sessions of one identifier.

    A session belongs to the identifier that it was held under: asked for under another one, also of the same person,
    it does not exist. Named by public id, the whole person's sessions are read and cleared.
    """

    _async: AsyncSessionCalls

    def list_sessions(self, user_id: Given, *, limit: int = 50, cursor: str | None = None) -> SessionPage:
        """Return a page of an identifier's sessions, the last active first, ``limit`` (1 to 500) at a time.

        By public id, those of all identifiers of the person. Pass ``next_cursor`` of one page as ``cursor`` for the
        next.

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: The limit is out of range or the cursor is none of ours.

        >>> reply = formation.chat("Hello!", user_id="user_123", session_id="thread-1")
        >>> page = formation.list_sessions("user_123")
        >>> [(each["session_id"], each["message_count"], each["active"]) for each in page["sessions"]]
        [('thread-1', 2, True)]
        """
        return self._run(self._async.list_sessions(user_id, limit=limit, cursor=cursor))

    def get_session(self, session_id: str, user_id: Given) -> SessionRecord:
        """Return one session of an identifier, with its context and how many messages it holds.

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            SessionNotFoundError: It has no such session.
            InvalidRequestError: A public id was given, and several identifiers of the person have such a session.

        >>> reply = formation.chat("Hello!", user_id="user_123", session_id="thread-1", audience="shared")
        >>> formation.get_session("thread-1", "user_123")["audience"]
        'shared'
        """
        return self._run(self._async.get_session(session_id, user_id))

    def get_session_messages(
        self, session_id: str, user_id: Given, *, limit: int = 100, cursor: str | None = None
    ) -> SessionMessages:
        """Return the newest messages of one session of an identifier, oldest first, ``limit`` (1 to 500) at a time.

        Where there are older ones, ``has_more`` is true, and ``next_cursor`` passed as ``cursor`` brings them. A
        session keeps only its last messages (``memory.session.max_messages``).

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            SessionNotFoundError: It has no such session.
            InvalidRequestError: The limit is out of range, the cursor is none of ours, or a public id was given, and
                several identifiers of the person have such a session.

        >>> reply = formation.chat("Hello!", user_id="user_123")
        >>> formation.get_session_messages(reply.session_id, "user_123")["count"]
        2
        """
        return self._run(self._async.get_session_messages(session_id, user_id, limit=limit, cursor=cursor))

    def restore_session(
        self, session_id: str, user_id: Given, messages: Sequence[Mapping[str, Any]], *, audience: Audience = "private"
    ) -> RestoreResult:
        """Put ``messages``, oldest first, in place of what a session holds; begin the session if there is none.

        Each is ``{"role": ..., "content": ...}``, perhaps with ``created_at`` (ISO 8601). Of more than a session keeps,
        the last ones are taken. What looks like a secret is replaced by a hint of it.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            AudienceMismatchError: The session was begun for another audience.
            TooLargeError: There are over 10,000 messages, or one has over 100,000 characters.
            InvalidRequestError: They have another shape, or are not in order of time.

        >>> said = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello, Alice!"}]
        >>> formation.restore_session("thread-1", "user_123", said)["messages_loaded"]
        2
        """
        return self._run(self._async.restore_session(session_id, user_id, messages, audience=audience))

    def clear_session(self, session_id: str, user_id: Given) -> ClearResult:
        """Delete the messages and the context of one session of an identifier. The session itself stays.

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            SessionNotFoundError: It has no such session.
            InvalidRequestError: A public id was given, and several identifiers of the person have such a session.

        >>> reply = formation.chat("Hello!", user_id="user_123")
        >>> formation.clear_session(reply.session_id, "user_123")
        {'messages_cleared': 2, 'sessions_cleared': 1}
        """
        return self._run(self._async.clear_session(session_id, user_id))

    def clear_sessions(self, user_id: Given) -> ClearResult:
        """Delete the messages and the contexts of all sessions of an identifier; by public id, of the whole person.

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> reply = formation.chat("Hello!", user_id="user_123")
        >>> formation.clear_sessions("user_123")["messages_cleared"]
        2
        """
        return self._run(self._async.clear_sessions(user_id))

    def set_session_context(
        self, session_id: str, user_id: Given, values: Mapping[str, Any], *, audience: Audience | None = None
    ) -> dict[str, Any]:
        """Merge keys into the context of one session and return all of it; a value of None deletes its key.

        The context is what this conversation alone has to know: values that JSON has, 16,384 characters in all. Begins
        the session if there is none, private unless ``audience`` says otherwise.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            AudienceMismatchError: The session was begun for another audience than the one given.
            SecretRefusedError: It looks as if it held a key or a password: keep that as a credential.
            TooLargeError: The context would be too large.
            InvalidRequestError: A key or a value is none that JSON has.

        >>> formation.set_session_context("thread-1", "user_123", {"ticket": 4711, "step": "address"})
        {'ticket': 4711, 'step': 'address'}
        >>> formation.set_session_context("thread-1", "user_123", {"step": None})
        {'ticket': 4711}
        """
        return self._run(self._async.set_session_context(session_id, user_id, values, audience=audience))
