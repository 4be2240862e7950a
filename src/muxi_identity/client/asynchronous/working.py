"""Working memory: what went on lately."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import WorkingCleared, WorkingItem


class AsyncWorkingMemoryCalls(AsyncCalls):
    """Working memory: what went on lately, in short items that expire, shared between a person's identifiers."""

    async def get_working_memory(self, user_id: Given, *, limit: int = 50) -> list[WorkingItem]:
        """Return what went on lately across a person's sessions, newest first; ``limit`` from 1 to 500.

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: The limit is out of range.

        >>> linked = await formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> added = await formation.add_working_memory("alice@email.com", "asked about refunds", kind="topic")
        >>> [item["content"] for item in await formation.get_working_memory(("U98765ABC", "slack"))]
        ['asked about refunds']
        """
        formation = await self._formation()
        return await formation.working.get(formation.parse(self._given(user_id)), limit)

    async def add_working_memory(
        self,
        user_id: Given,
        content: str,
        *,
        kind: str = "fact",
        ttl: float | None = None,
        shareable: bool = False,
    ) -> WorkingItem:
        """Keep a short item for a while; all identifiers of the person see it at once.

        ``kind`` is ``"fact"``, ``"topic"`` or ``"summary"``; ``ttl`` is in seconds, at most 30 days, and the
        formation's own (``memory.working.ttl``) where it is None. ``shareable`` lets it into conversations that others
        read. The same item again lasts anew. A member keeps its newest items (``memory.working.max_items``).

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            SecretRefusedError: It looks like a key or a password: keep that as a credential.
            TooLargeError: It has over 300 characters: keep that as a memory.
            InvalidRequestError: An argument has the wrong shape.

        >>> item = await formation.add_working_memory("user_123", "is packing for Lisbon", ttl=3600)
        >>> item["kind"], item["content"]
        ('fact', 'is packing for Lisbon')
        """
        formation = await self._formation()
        return await formation.working.add(
            formation.parse(self._given(user_id)), content, kind, ttl, shareable, self._caller("add_working_memory")
        )

    async def clear_working_memory(self, user_id: Given) -> WorkingCleared:
        """Delete all items of a person, whichever identifier they came through.

        Raises:
            UserNotFoundError: Nobody has the identifier.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> item = await formation.add_working_memory("user_123", "is packing for Lisbon")
        >>> await formation.clear_working_memory("user_123")
        {'items_cleared': 1}
        """
        formation = await self._formation()
        return await formation.working.clear(
            formation.parse(self._given(user_id)), self._caller("clear_working_memory")
        )
