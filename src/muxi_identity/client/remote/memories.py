"""What follows the person: memories, their synopsis, working memory and preferences."""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType
from typing import Any, TypedDict

from muxi_identity.arguments import MAX_KEY, check_flag, check_text, write_json
from muxi_identity.client.remote.asking import Ask, CallerLike, checked_cursor, own_segment, segment
from muxi_identity.client.remote.naming import Named
from muxi_identity.client.remote.people import ME
from muxi_identity.client.remote.transport import Transport
from muxi_identity.errors import InvalidRequestError
from muxi_identity.models import (
    DeletedMemory,
    DeletedPreference,
    MemoryPage,
    MemoryRecord,
    PreferenceRecord,
    Synopsis,
    WorkingCleared,
    WorkingItem,
)
from muxi_identity.paging import check_limit

MAX_HITS = 100
MAX_QUERY = 10_000
MAX_METADATA = 8_000
MAX_PREFERENCE = 8_000


class _Found(TypedDict):
    memories: list[MemoryRecord]


class _Items(TypedDict):
    items: list[WorkingItem]


class _Records(TypedDict):
    records: list[PreferenceRecord]


class RemoteMemories:
    """The persistent memory of the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def add(
        self,
        reference: Named,
        content: str,
        *,
        type: str,
        key: str | None,
        value: str | None,
        metadata: Any,
        shareable: bool,
        caller: CallerLike,
    ) -> MemoryRecord:
        """Keep a memory."""
        body = {
            "content": content,
            "type": type,
            "key": key,
            "value": value,
            "metadata": _checked_metadata(metadata),
            "shareable": check_flag("shareable", shareable),
        }
        ask = Ask("POST", "/memories", user=reference, body=body, keyed=True)
        return await self._transport.call(ask, MemoryRecord)

    async def page(self, reference: Named, *, type: str | None, limit: int, cursor: str | None) -> MemoryPage:
        """Return a page of what the person remembers, the last changed first."""
        check_limit(limit)
        query = {"type": _text("type", type), "limit": limit, "cursor": checked_cursor(cursor, "list_memories")}
        return await self._transport.call(Ask("GET", "/memories", user=reference, query=query), MemoryPage)

    async def search(self, reference: Named, query: str, *, type: str | None, limit: int) -> list[MemoryRecord]:
        """Return what the person remembers that fits ``query``, the best first."""
        check_text("query", query, MAX_QUERY)
        check_limit(limit, MAX_HITS)
        body = {"query": query, "type": _text("type", type), "limit": limit}
        ask = Ask("POST", "/memories/search", user=reference, body=body)
        return (await self._transport.call(ask, _Found))["memories"]

    async def get(self, reference: Named, memory_id: str) -> MemoryRecord:
        """Return a memory of the person."""
        return await self._transport.call(Ask("GET", f"/memories/{segment(memory_id)}", user=reference), MemoryRecord)

    async def update(
        self,
        reference: Named,
        memory_id: str,
        *,
        content: str | EllipsisType,
        type: str | EllipsisType,
        value: str | EllipsisType | None,
        metadata: Any,
        shareable: bool | EllipsisType,
        caller: CallerLike,
    ) -> MemoryRecord:
        """Change what is given of a memory."""
        given = {"content": content, "type": type, "value": value, "metadata": metadata, "shareable": shareable}
        changes = {name: each for name, each in given.items() if each is not ...}
        if "shareable" in changes:
            check_flag("shareable", changes["shareable"])
        if "metadata" in changes:
            changes["metadata"] = _checked_metadata(changes["metadata"])
        ask = Ask("PATCH", f"/memories/{segment(memory_id)}", user=reference, body=changes)
        return await self._transport.call(ask, MemoryRecord)

    async def delete(self, reference: Named, memory_id: str, caller: CallerLike) -> DeletedMemory:
        """Delete a memory."""
        ask = Ask("DELETE", f"/memories/{segment(memory_id)}", user=reference, keyed=True)
        return await self._transport.call(ask, DeletedMemory)


class RemoteSynopses:
    """The synopses of the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, reference: Named, caller: CallerLike) -> Synopsis:
        """Return the synopsis of the person."""
        return await self._transport.call(Ask("GET", f"{ME}/synopsis", user=reference, patience=120.0), Synopsis)


class RemoteWorkingMemory:
    """The working memory of the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, reference: Named, limit: int) -> list[WorkingItem]:
        """Return the newest items that have not expired."""
        check_limit(limit)
        ask = Ask("GET", f"{ME}/working-memory", user=reference, query={"limit": limit})
        return (await self._transport.call(ask, _Items))["items"]

    async def add(
        self,
        reference: Named,
        content: str,
        kind: str,
        ttl: float | None,
        shareable: bool,
        caller: CallerLike,
    ) -> WorkingItem:
        """Keep an item for a while."""
        flag = check_flag("shareable", shareable)
        body = {"content": content, "kind": kind, "ttl": ttl, "shareable": flag}
        ask = Ask("POST", f"{ME}/working-memory", user=reference, body=body, keyed=True)
        return await self._transport.call(ask, WorkingItem)

    async def clear(self, reference: Named, caller: CallerLike) -> WorkingCleared:
        """Delete all items of the person."""
        ask = Ask("DELETE", f"{ME}/working-memory", user=reference, keyed=True)
        return await self._transport.call(ask, WorkingCleared)


class RemotePreferences:
    """The preferences of the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def set(
        self, reference: Named, key: object, value: object, *, shareable: bool, caller: CallerLike
    ) -> PreferenceRecord:
        """Set one preference and return it."""
        check_flag("shareable", shareable)
        path = _preference(key)
        write_json("value", value, MAX_PREFERENCE)
        ask = Ask("PUT", path, user=reference, body={"value": value, "shareable": shareable})
        return await self._transport.call(ask, PreferenceRecord)

    async def all(self, reference: Named) -> list[PreferenceRecord]:
        """Return the person's preferences by key."""
        ask = Ask("GET", f"{ME}/preferences", user=reference)
        return (await self._transport.call(ask, _Records))["records"]

    async def get(self, reference: Named, key: object) -> PreferenceRecord:
        """Return one preference."""
        return await self._transport.call(Ask("GET", _preference(key), user=reference), PreferenceRecord)

    async def delete(self, reference: Named, key: object, caller: CallerLike) -> DeletedPreference:
        """Delete one preference."""
        ask = Ask("DELETE", _preference(key), user=reference, keyed=True)
        return await self._transport.call(ask, DeletedPreference)


def _preference(key: object) -> str:
    text = check_text("key", key, MAX_KEY).strip()
    if not text.isprintable():
        raise InvalidRequestError(f"key must be a printable text of 1 to {MAX_KEY} characters.")
    return f"{ME}/preferences/{own_segment('key', text)}"


def _checked_metadata(metadata: Any) -> dict[str, Any] | None:
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise InvalidRequestError("metadata must be a mapping with texts for keys.")
    write_json("metadata", dict(metadata), MAX_METADATA)
    return dict(metadata)


def _text(name: str, given: object) -> str | None:
    # A query has texts alone: True would become a type of that name.
    return None if given is None else check_text(name, given, MAX_QUERY)
