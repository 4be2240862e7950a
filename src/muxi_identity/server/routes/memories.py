"""Memories: what is known of a person for good."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from fastapi import Path, Query
from pydantic import WithJsonSchema

from muxi_identity.errors import IdentityChangedError, MemoryNotFoundError, SecretRefusedError
from muxi_identity.models import DeletedMemory, MemoryRecord, Synopsis
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import (
    NAMING,
    Body,
    Cursor,
    Flag,
    JsonObject,
    Limit,
    MemoryText,
    MemoryType,
    MemoryValue,
    Name,
    OpenBody,
    QueryText,
    UserInBody,
    UserInPath,
    UserInQuery,
    or_me,
)

routes = Routes("Memories", "What is known of a person for good, whichever channel it came through.")

MemoryInPath = Annotated[str, Path(max_length=256, examples=["mem_7c6b5a49382716f5e4d3"])]


class Memory(TypedDict):
    """A memory; ``id`` is ``memory_id`` again. See :class:`muxi_identity.MemoryRecord`."""

    id: str
    memory_id: str
    type: str
    key: str | None
    content: str
    value: str | None
    metadata: dict[str, Any]
    shareable: bool
    created_at: str
    updated_at: str
    score: float | None


class MemoryList(TypedDict):
    """A page of memories, the last changed first; of a search the best first, and all of them."""

    memories: list[Memory]
    count: int
    next_cursor: str | None


class MemoryBody(OpenBody):
    """What to remember: ``detail`` and ``content`` are the same; one of them is needed."""

    detail: MemoryText | None = None
    content: MemoryText | None = None
    type: MemoryType = "note"
    key: Name | None = None
    value: MemoryValue | None = None
    metadata: JsonObject | None = None
    shareable: Flag = False
    user_id: UserInBody = None


class MemoryQuery(Body):
    """What to find, of which type, and how much of it."""

    query: QueryText
    type: MemoryType | None = None
    limit: Annotated[Any, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 100})] = 10


class MemoryChange(Body):
    """What to change of a memory; what is left out stays."""

    content: MemoryText | None = None
    type: MemoryType | None = None
    value: MemoryValue | None = None
    metadata: JsonObject | None = None
    shareable: Flag | None = None


_MEMORY: dict[str, Any] = {
    "id": "mem_7c6b5a49382716f5e4d3",
    "memory_id": "mem_7c6b5a49382716f5e4d3",
    "type": "note",
    "key": None,
    "content": "Allergic to peanuts",
    "value": None,
    "metadata": {},
    "shareable": False,
    "created_at": "2026-01-01T00:00:00.000000Z",
    "updated_at": "2026-01-01T00:00:00.000000Z",
    "score": None,
}
_FINDING = (*NAMING, MemoryNotFoundError)


@routes.add(
    "GET",
    "/memories",
    access=Access.USER,
    data=MemoryList,
    user=True,
    raises=NAMING,
    example={"memories": [_MEMORY], "count": 1, "next_cursor": None},
)
async def list_memories(
    call: Calling,
    user_id: UserInQuery = None,
    query: Annotated[str | None, Query(description="Find by these words instead; the best first.")] = None,
    type: Annotated[str | None, Query(description="Of this type alone.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> MemoryList:
    """List or search what is known of a person."""
    user = await call.user(user_id)
    if query is not None:
        found = await call.client.search_memories(user, query, type=type, limit=limit)
        return {"memories": [_with_id(each) for each in found], "count": len(found), "next_cursor": None}
    page = await call.client.list_memories(user, type=type, limit=limit, cursor=cursor)
    return {**page, "memories": [_with_id(each) for each in page["memories"]]}


@routes.add(
    "POST",
    "/memories",
    access=Access.USER,
    data=Memory,
    user=True,
    status=201,
    repetition="harmless",
    raises=(*NAMING, SecretRefusedError, IdentityChangedError),
    body={"type": "note", "detail": "Allergic to peanuts"},
    example=_MEMORY,
)
async def add_memory(call: Calling, body: MemoryBody) -> Memory:
    """Remember something of a person for good.

    The same again, or something else under the same `key`, takes the place of what the same channel said before.
    """
    content: Any = body.detail if body.content is None else body.content  # for the engine to judge
    return _with_id(
        await call.client.add_memory(
            await call.user(body.user_id),
            content,
            type=body.type,
            key=body.key,
            value=body.value,
            metadata=body.metadata,
            shareable=body.shareable,
        )
    )


@routes.add(
    "POST",
    "/memories/search",
    access=Access.USER,
    data=MemoryList,
    user=True,
    raises=NAMING,
    body={"query": "peanuts"},
    example={"memories": [_MEMORY], "count": 1, "next_cursor": None},
)
async def search_memories(call: Calling, body: MemoryQuery) -> MemoryList:
    """Search what is known of a person, the best first, with the query in the body: an address lands in logs."""
    found = await call.client.search_memories(await call.user(), body.query, type=body.type, limit=body.limit)
    return {"memories": [_with_id(each) for each in found], "count": len(found), "next_cursor": None}


@routes.add(
    "GET",
    "/memories/{memory_id:memory}",
    access=Access.USER,
    data=Memory,
    user=True,
    raises=_FINDING,
    example=_MEMORY,
)
async def get_memory(call: Calling, memory_id: MemoryInPath, user_id: UserInQuery = None) -> Memory:
    """Read one memory of a person."""
    return _with_id(await call.client.get_memory(memory_id, await call.user(user_id)))


@routes.add(
    "PATCH",
    "/memories/{memory_id:memory}",
    access=Access.USER,
    data=Memory,
    user=True,
    raises=(*_FINDING, SecretRefusedError, IdentityChangedError),
    body={"content": "Allergic to peanuts and cashews"},
    example=_MEMORY,
)
async def update_memory(
    call: Calling, memory_id: MemoryInPath, body: MemoryChange, user_id: UserInQuery = None
) -> Memory:
    """Change a memory, whichever channel it came through."""
    changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    return _with_id(await call.client.update_memory(memory_id, await call.user(user_id), **changes))


@routes.add(
    "DELETE",
    "/memories/{memory_id:memory}",
    access=Access.USER,
    data=DeletedMemory,
    user=True,
    raises=(*_FINDING, IdentityChangedError),
    example={"deleted": True, "memory_id": "mem_7c6b5a49382716f5e4d3"},
)
async def delete_memory(call: Calling, memory_id: MemoryInPath, user_id: UserInQuery = None) -> DeletedMemory:
    """Forget a memory, in all channels."""
    return await call.client.delete_memory(memory_id, await call.user(user_id))


@routes.add(
    "GET",
    "/users/{user_id:user}/synopsis",
    access=Access.USER,
    data=Synopsis,
    user=True,
    raises=NAMING,
    example={"muxi_user_id": "usr_1f2e3d4c5b6a79880f1e", "text": "Name: Alice.", "built_at": None},
)
async def get_synopsis(call: Calling, user_id: UserInPath) -> Synopsis:
    """Read a short description of a person."""
    return await call.client.get_synopsis(await call.user(or_me(user_id)))


def _with_id(record: MemoryRecord) -> Memory:
    return {"id": record["memory_id"], **record}
