"""The context of a person for an agent loop of your own, and the turn given back.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from muxi_identity.client.asynchronous.context import AsyncContextCalls
from muxi_identity.client.blocking import BlockingCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import Audience, RecordedTurn, UserContext


class ContextCalls(BlockingCalls):
    """The context of a person for an agent loop of your own, and the turn given back."""

    _async: AsyncContextCalls

    def get_user_context(
        self,
        user_id: Given,
        session_id: str | None = None,
        query: str | None = None,
        *,
        audience: Audience = "private",
        memory_limit: int = 20,
    ) -> UserContext:
        """Return what is known of a person, as a conversation may use it, in one round trip to the database.

        Synopsis, preferences, memories, working memory, names of credentials, active tasks, and the context and the
        messages of one session: the one named, else the identifier's current one. It is a dict, and prints as text for
        a prompt (without the messages). ``query`` brings the memories that match it first; ``memory_limit`` (0 to 500)
        says how many there are in all. For ``audience="shared"``, where others read along, only what is marked
        shareable is brought, and neither credentials nor tasks.

        An identifier that nobody has makes first contact, as in a chat.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            AudienceMismatchError: The session was begun for another audience.
            TooLargeError: The query has over 10,000 characters.
            InvalidRequestError: An argument has the wrong shape.
            IdentityChangedError: The identifier went from one to another again and again; call again.

        >>> turn = formation.record_turn("user_123", [], memories=["Allergic to peanuts"], topics=["dinner"])
        >>> context = formation.get_user_context("user_123", query="peanuts")
        >>> [memory["content"] for memory in context["memories"]]
        ['Allergic to peanuts']
        >>> "Lately:" in str(context)
        True
        """
        return self._run(
            self._async.get_user_context(user_id, session_id, query, audience=audience, memory_limit=memory_limit)
        )

    def record_turn(
        self,
        user_id: Given,
        messages: Sequence[Mapping[str, Any]],
        *,
        session_id: str | None = None,
        audience: Audience = "private",
        memories: Sequence[str | Mapping[str, Any]] = (),
        topics: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> RecordedTurn:
        """Record a turn of your own agent loop, whole or not at all.

        ``messages`` are ``{"role": ..., "content": ...}`` in order; what looks like a secret is replaced by a hint of
        it, and their time is that of the call, whatever ``created_at`` says. ``memories`` are texts, or mappings of
        what :meth:`add_memory` takes. ``topics`` are a few words each on what was spoken of, and go to working memory.
        Sessions are found as by :meth:`chat`: without ``session_id`` the identifier goes on with its current one, or
        begins one. What is learned where others read along (``audience="shared"``) is shareable: they have heard it.

        An identifier that nobody has makes first contact. Sent again within a day, with the same ``idempotency_key``,
        the call records nothing and is answered with what it did the first time.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            AudienceMismatchError: The session was begun for another audience.
            SecretRefusedError: A memory or a topic looks like a key or a password: keep that as a credential.
            TooLargeError: Something is too long, or too much at once.
            InvalidRequestError: Something has the wrong shape, or the key was used for another call.
            SessionNotFoundError: It was recorded under this key before, and its session has been deleted since.
            IdentityChangedError: The identifier went from one to another again and again; call again.

        >>> said = [{"role": "user", "content": "I am vegan."}, {"role": "assistant", "content": "Noted!"}]
        >>> turn = formation.record_turn("user_123", said, memories=["Is vegan"], topics=["food"])
        >>> turn["messages_recorded"], len(turn["memory_ids"])
        (2, 1)
        """
        return self._run(
            self._async.record_turn(
                user_id,
                messages,
                session_id=session_id,
                audience=audience,
                memories=memories,
                topics=topics,
                idempotency_key=idempotency_key,
            )
        )
