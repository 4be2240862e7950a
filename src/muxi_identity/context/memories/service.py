"""The persistent memory of the people of one formation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import EllipsisType
from typing import Any

from sqlalchemy import Row

from muxi_identity.arguments import MAX_QUERY, check_text
from muxi_identity.context.access import Access
from muxi_identity.context.memories.checks import check_whole, checked_memory, checked_type
from muxi_identity.context.memories.ranker import MemoryRanker
from muxi_identity.context.memories.records import memory_record, ranked
from muxi_identity.context.memories.rows import (
    change_memory,
    find_memory,
    forget_memory,
    keep_memories,
    members_cte,
    memory_of,
)
from muxi_identity.context.memories.search import CANDIDATES, matching_memories, newest_memories
from muxi_identity.context.paging import end_of, start_of
from muxi_identity.context.synopsis.rows import raise_revisions
from muxi_identity.errors import InvalidRequestError, MemoryNotFoundError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import Caller
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import DeletedMemory, MemoryPage, MemoryRecord
from muxi_identity.paging import check_limit
from muxi_identity.storage.tables import memories
from muxi_identity.storage.text_search import query_terms
from muxi_identity.words import query_words

MAX_HITS = 100
_LIST = "list_memories"


class Memories:
    """The persistent memory of the people of one formation.

    All operations raise UserNotFoundError where nobody has the reference (but for :meth:`add`, which makes first
    contact), and AmbiguousIdentifierError where it is untyped and several people have it.
    """

    def __init__(self, access: Access, ranker: MemoryRanker | None = None) -> None:
        self._access = access
        self._ranker = ranker

    async def add(
        self,
        reference: Reference,
        content: str,
        *,
        type: str,
        key: str | None,
        value: str | None,
        metadata: Any,
        shareable: bool,
        caller: Caller,
    ) -> MemoryRecord:
        """Keep a memory. The same again (type and key, else type and content) is refreshed and keeps its id.

        Raises:
            SecretRefusedError: It looks as if it held a key or a password.
            TooLargeError: A part of it is too long.
            InvalidRequestError: A part of it has the wrong shape.
        """
        new = checked_memory(content, type, key, value, metadata, shareable)
        (row,) = await self._access.write(reference, lambda tx, hit: keep_memories(tx, hit, [new]), caller)
        return memory_record(row)

    async def page(self, reference: Reference, *, type: str | None, limit: int, cursor: str | None) -> MemoryPage:
        """Return a page of what the person remembers, the last changed first.

        Raises:
            InvalidRequestError: The type, the limit or the cursor cannot be one.
        """
        check_limit(limit)
        kind = None if type is None else checked_type(type)

        def work(tx: Transaction, hit: Hit) -> MemoryPage:
            start = start_of(tx, _LIST, limit, cursor)
            rows = _read_newest(tx, hit, limit + 1, kind, start)
            shown, end = end_of(tx, _LIST, limit, rows, at="updated_at")
            return {"memories": [memory_record(row) for row in shown], "count": len(shown), "next_cursor": end}

        return await self._access.read(reference, work)

    async def search(self, reference: Reference, query: str, *, type: str | None, limit: int) -> list[MemoryRecord]:
        """Return what the person remembers that fits ``query``, the best first, each with its score.

        Raises:
            TooLargeError: The query is too long.
            InvalidRequestError: The query is blank, or the type or the limit cannot be one.
        """
        check_text("query", query, MAX_QUERY)
        check_limit(limit, MAX_HITS)
        kind = None if type is None else checked_type(type)
        terms = query_words(query)
        fill = self._ranker is not None

        def work(tx: Transaction, hit: Hit) -> list[MemoryRecord]:
            rows = _read_matching(tx, hit, terms, kind) if terms else []
            hits = ranked(rows, tx.now, None if fill else limit)
            if not fill:
                return hits
            known = {memory["memory_id"] for memory in hits}
            newest = (memory_record(row) for row in _read_newest(tx, hit, CANDIDATES, kind))
            return [*hits, *(memory for memory in newest if memory["memory_id"] not in known)][:CANDIDATES]

        found = await self._access.read(reference, work)
        if self._ranker is None or not found:
            return found
        return _by_score(found, await self._ranker.rank(query, found))[:limit]

    async def get(self, reference: Reference, memory_id: str) -> MemoryRecord:
        """Return a memory of the person.

        The id of one that a newer memory of the same type and key supersedes answers with the newer one.

        Raises:
            MemoryNotFoundError: They have none of that id.
        """
        return await self._access.read(reference, lambda tx, hit: memory_record(_standing(tx, hit, memory_id)))

    async def update(
        self,
        reference: Reference,
        memory_id: str,
        *,
        content: str | EllipsisType,
        type: str | EllipsisType,
        value: str | EllipsisType | None,
        metadata: Any,
        shareable: bool | EllipsisType,
        caller: Caller,
    ) -> MemoryRecord:
        """Change what is given of a memory, in all members of the person; the rest (``...``) stays.

        Raises:
            MemoryNotFoundError: They have none of that id.
            SecretRefusedError: It would look as if it held a key or a password.
            TooLargeError: A part of it would be too long.
            InvalidRequestError: A part of it would have the wrong shape, or nothing is to be changed.
        """
        given = {"content": content, "type": type, "value": value, "metadata": metadata, "shareable": shareable}
        changes = {name: each for name, each in given.items() if each is not ...}
        if not changes:
            raise InvalidRequestError("Pass what is to be changed: content, type, value, metadata or shareable.")
        # Checked before anything is read; only whether a value has its key shows later.
        checked = checked_memory(**{"content": "-", "key": "-", **changes})

        def work(tx: Transaction, hit: Hit) -> MemoryRecord:
            raise_revisions(tx, hit)  # whoever else changes what the person has waits from here on
            standing = _standing(tx, hit, memory_id)
            parts = {name: getattr(checked, name) for name in changes}
            changed = replace(memory_of(standing), **parts)
            check_whole(changed)
            return memory_record(change_memory(tx, hit, standing, changed))

        return await self._access.write(reference, work, caller, create=False)

    async def delete(self, reference: Reference, memory_id: str, caller: Caller) -> DeletedMemory:
        """Delete a memory, in all members of the person.

        Raises:
            MemoryNotFoundError: They have none of that id.
        """

        def work(tx: Transaction, hit: Hit) -> DeletedMemory:
            raise_revisions(tx, hit)
            forget_memory(tx, hit, _standing(tx, hit, memory_id))
            return {"deleted": True, "memory_id": memory_id}

        return await self._access.write(reference, work, caller, create=False)


def _read_newest(
    tx: Transaction, hit: Hit, limit: int, kind: str | None, after: tuple[int, int] | None = None
) -> Sequence[Row[Any]]:
    statement = newest_memories(
        tx.database.dialect, tx.formation_id, members_cte(tx, hit), limit, *_of_type(kind), after=after
    )
    return tx.connection.execute(statement).all()


def _read_matching(tx: Transaction, hit: Hit, words: Sequence[str], kind: str | None) -> Sequence[Row[Any]]:
    dialect = tx.database.dialect
    terms = query_terms(dialect, words)
    statement = matching_memories(dialect, tx.formation_id, members_cte(tx, hit), terms, *_of_type(kind))
    return tx.connection.execute(statement).all()


def _of_type(kind: str | None) -> list[Any]:
    return [] if kind is None else [memories.c.type == kind]


def _standing(tx: Transaction, hit: Hit, memory_id: object) -> Row[Any]:
    known = isinstance(memory_id, str) and memory_id.isprintable() and len(memory_id) <= 64
    row = find_memory(tx, hit, str(memory_id)) if known else None
    if row is None:
        raise MemoryNotFoundError("The person has no such memory; list_memories shows those that they have.")
    return row


def _by_score(found: Sequence[MemoryRecord], scores: Sequence[float]) -> list[MemoryRecord]:
    if len(scores) != len(found) or not all(math.isfinite(score) for score in scores):
        raise ValueError(f"The memory ranker must return {len(found)} finite numbers, one for each candidate.")
    scored = sorted(zip(scores, found, strict=True), key=lambda each: each[0], reverse=True)
    return [{**memory, "score": float(score)} for score, memory in scored if score > 0]
