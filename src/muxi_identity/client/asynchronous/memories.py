"""Persistent memory: what is known of a person for good, and the synopsis of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType
from typing import Any

from muxi_identity.client.asynchronous.base import AsyncCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import DeletedMemory, MemoryPage, MemoryRecord, Synopsis


class AsyncMemoryCalls(AsyncCalls):
    """Persistent memory: what is known of a person for good, and the synopsis of it."""

    async def add_memory(
        self,
        user_id: Given,
        content: str,
        *,
        type: str = "note",
        key: str | None = None,
        value: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        shareable: bool = False,
    ) -> MemoryRecord:
        """Keep something about a person for good, to be found through any of their identifiers.

        ``key`` is the attribute that it is about (``"budget"``): what is said of it later, through whichever
        identifier, is what counts. Without one, the same content again is the same memory. The same again is
        refreshed and keeps its id. ``type`` and ``key`` are folded: case and spacing do not count. ``content`` takes
        10,000 characters, ``value`` (what is said of the key) 1,000, ``metadata`` 8,000 of JSON. ``shareable`` says
        that others may read it: in a conversation with a shared audience nothing else is used. An identifier that
        nobody has makes first contact.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            SecretRefusedError: It looks as if it held a key or a password: keep it with set_credential.
            TooLargeError: A part of it is too long; ``error.limit`` says how long it may be.
            InvalidRequestError: A part of it has the wrong shape, or there is a value without a key.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was kept.

        >>> kept = await formation.add_memory("user_123", "Lives near the old harbour", shareable=True)
        >>> kept["type"], kept["shareable"]
        ('note', True)
        """
        formation = await self._formation()
        return await formation.memories.add(
            formation.parse(self._given(user_id)),
            content,
            type=type,
            key=key,
            value=value,
            metadata=metadata,
            shareable=shareable,
            caller=self._caller("add_memory"),
        )

    async def list_memories(
        self, user_id: Given, *, type: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> MemoryPage:
        """Return a page of what is known of a person, the last changed first, ``limit`` (1 to 500) at a time.

        Of memories of one type and key the newest is shown, whichever identifier it came through. Pass ``next_cursor``
        of one page as ``cursor`` for the next: what is added meanwhile neither shifts nor repeats it.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: The limit is out of range or the cursor is none of ours.

        >>> kept = await formation.add_memory("user_123", "Prefers trains to planes")
        >>> [memory["content"] for memory in (await formation.list_memories("user_123"))["memories"]]
        ['Prefers trains to planes']
        """
        formation = await self._formation()
        return await formation.memories.page(
            formation.parse(self._given(user_id)), type=type, limit=limit, cursor=cursor
        )

    async def search_memories(
        self, user_id: Given, query: str, *, type: str | None = None, limit: int = 10
    ) -> list[MemoryRecord]:
        """Return what is known of a person that fits ``query``, the best first, at most ``limit`` (1 to 100).

        Full-text search: a memory is found that has any word of the query, in any form of it (``trains``, ``train``),
        whatever the case and the accents; the last word may be the beginning of one. English words that say nothing
        (``what``, ``the``) are left out, and the first 20 others count. Nothing of the query is an operator.

        ``score`` is relevance (divided by the best hit's) times a factor for age: 1 for what was changed just now,
        half-way down to 1/2 after 30 days. So the newer of two equal hits comes first, and no age outweighs twice the
        relevance. Of more than 500 hits the newest are ranked. With a ``memory_ranker`` it decides
        instead, on these hits and the newest other memories, 200 in all.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            TooLargeError: The query is over 10,000 characters.
            InvalidRequestError: The query is blank, or the type or the limit cannot be one.

        >>> kept = await formation.add_memory("user_123", "Prefers trains to planes")
        >>> [hit["content"] for hit in await formation.search_memories("user_123", "Which train?")]
        ['Prefers trains to planes']
        """
        formation = await self._formation()
        return await formation.memories.search(formation.parse(self._given(user_id)), query, type=type, limit=limit)

    async def get_memory(self, memory_id: str, user_id: Given) -> MemoryRecord:
        """Return one memory of a person.

        Where a newer memory of the same type and key has come through another identifier, the older one's id answers
        with the newer one.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            MemoryNotFoundError: The person has no memory of that id.

        >>> kept = await formation.add_memory("user_123", "My budget is $5,000", key="budget", value="$5,000")
        >>> (await formation.get_memory(kept["memory_id"], "user_123"))["value"]
        '$5,000'
        """
        formation = await self._formation()
        return await formation.memories.get(formation.parse(self._given(user_id)), memory_id)

    async def update_memory(
        self,
        memory_id: str,
        user_id: Given,
        *,
        content: str | EllipsisType = ...,
        type: str | EllipsisType = ...,
        value: str | EllipsisType | None = ...,
        metadata: Mapping[str, Any] | EllipsisType | None = ...,
        shareable: bool | EllipsisType = ...,
    ) -> MemoryRecord:
        """Change what is passed of a memory; the rest stays. ``metadata`` is replaced as a whole.

        An edit counts for the whole person: what other identifiers said under the same type and key is changed with
        it, and an unmerge does not take it back.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            MemoryNotFoundError: The person has no memory of that id.
            SecretRefusedError: It would look as if it held a key or a password.
            TooLargeError: A part of it is too long; ``error.limit`` says how long it may be.
            InvalidRequestError: Nothing to change was passed, or a part of it has the wrong shape.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was changed.

        >>> kept = await formation.add_memory("user_123", "Lives near the harbour")
        >>> (await formation.update_memory(kept["memory_id"], "user_123", shareable=True))["content"]
        'Lives near the harbour'
        """
        formation = await self._formation()
        return await formation.memories.update(
            formation.parse(self._given(user_id)),
            memory_id,
            content=content,
            type=type,
            value=value,
            metadata=metadata,
            shareable=shareable,
            caller=self._caller("update_memory"),
        )

    async def delete_memory(self, memory_id: str, user_id: Given) -> DeletedMemory:
        """Delete a memory, and with it what other identifiers of the person said under the same type and key.

        An unmerge does not bring it back.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            MemoryNotFoundError: The person has no memory of that id.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was deleted.

        >>> kept = await formation.add_memory("user_123", "Lives near the harbour")
        >>> (await formation.delete_memory(kept["memory_id"], "user_123"))["deleted"]
        True
        """
        formation = await self._formation()
        return await formation.memories.delete(
            formation.parse(self._given(user_id)), memory_id, self._caller("delete_memory")
        )

    async def get_synopsis(self, user_id: Given) -> Synopsis:
        """Return a short description of a person, made from memories and preferences.

        It is kept, and made anew when something that it rests on has changed: a memory, a preference, or who belongs
        to the person. By plain rules, in at most 600 characters; by the model where the formation has one.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> told = await formation.chat("My name is Alice. I live in Berlin.", user_id="user_123")
        >>> print((await formation.get_synopsis("user_123"))["text"])
        Name: Alice. Lives in Berlin.
        """
        formation = await self._formation()
        return await formation.synopses.get(formation.parse(self._given(user_id)), self._caller("get_synopsis"))
