"""The context of a person, for an agent loop of one's own: brought before a turn, given back after it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from fastapi import Query
from pydantic import Field, WithJsonSchema

from muxi_identity.arguments import MAX_MESSAGES, MAX_SESSION_ID
from muxi_identity.context.load import MAX_MEMORIES
from muxi_identity.errors import AudienceMismatchError, IdentityChangedError, SecretRefusedError, SessionNotFoundError
from muxi_identity.models import (
    MemoryRecord,
    RecordedTurn,
    SessionMessage,
    TaskRecord,
    UserContext,
    WorkingCleared,
    WorkingItem,
)
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import (
    NAMING,
    AudienceName,
    Body,
    Flag,
    Json,
    Limit,
    MessageGiven,
    QueryOrNone,
    SessionId,
    ShortText,
    UserInPath,
    or_me,
)

routes = Routes("Context", "What is known of a person, for an agent loop of your own.")


class CredentialName(TypedDict):
    """Which credential there is; never what it is."""

    service: str
    name: str


class ContextData(TypedDict):
    """What is known of a person, as a conversation may use it. See :class:`muxi_identity.UserContext`."""

    muxi_user_id: str
    session_id: str | None
    audience: str
    synopsis: str
    preferences: dict[str, Any]
    memories: list[MemoryRecord]
    working_memory: list[WorkingItem]
    credentials: list[CredentialName]
    tasks: list[TaskRecord]
    session_context: dict[str, Any]
    messages: list[SessionMessage]


class ContextQuery(Body):
    """What of a person's context is wanted."""

    session_id: SessionId | None = None
    query: QueryOrNone | None = None
    audience: AudienceName = "private"
    memory_limit: Annotated[Any, WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_MEMORIES})] = 20


class TurnBody(Body):
    """What was said and learned in a turn."""

    messages: Annotated[list[MessageGiven], Field(max_length=MAX_MESSAGES)]
    session_id: SessionId | None = None
    audience: AudienceName = "private"
    memories: list[Json] = Field(default_factory=list)
    topics: list[ShortText] = Field(default_factory=list)


class WorkingBody(Body):
    """Something that goes on. ``ttl``: for how many seconds it matters."""

    content: ShortText
    kind: Annotated[Any, WithJsonSchema({"enum": ["fact", "topic", "summary"]})] = "fact"
    ttl: Annotated[Any, WithJsonSchema({"type": ["number", "null"], "minimum": 1})] = None
    shareable: Flag = False


class WorkingList(TypedDict):
    """What went on lately, the newest first."""

    items: list[WorkingItem]
    count: int


_CONTEXT: dict[str, Any] = {
    "muxi_user_id": "usr_1f2e3d4c5b6a79880f1e",
    "session_id": None,
    "audience": "private",
    "synopsis": "Budget: $5,000.",
    "preferences": {"language": "de"},
    "memories": [],
    "working_memory": [],
    "credentials": [{"service": "github", "name": "default"}],
    "tasks": [],
    "session_context": {},
    "messages": [],
}


@routes.add(
    "GET",
    "/users/{user_id:user}/context",
    access=Access.USER,
    data=ContextData,
    user=True,
    raises=(*NAMING, AudienceMismatchError, IdentityChangedError),
    example=_CONTEXT,
)
async def get_user_context(
    call: Calling,
    user_id: UserInPath,
    session_id: Annotated[str | None, Query(max_length=MAX_SESSION_ID)] = None,
    query: Annotated[str | None, Query(description="Bring memories that match it first.")] = None,
    audience: Literal["private", "shared"] = "private",
    memory_limit: Annotated[int, Query(ge=0, le=MAX_MEMORIES)] = 20,
) -> UserContext:
    """Bring all that a conversation with a person may use, in one round trip to the database.

    An identifier that nobody has makes first contact, as in a chat.
    """
    return await call.client.get_user_context(
        await call.user(or_me(user_id)), session_id, query, audience=audience, memory_limit=memory_limit
    )


@routes.add(
    "POST",
    "/users/{user_id:user}/context",
    access=Access.USER,
    data=ContextData,
    user=True,
    raises=(*NAMING, AudienceMismatchError, IdentityChangedError),
    body={"query": "budget"},
    example=_CONTEXT,
)
async def query_user_context(call: Calling, user_id: UserInPath, body: ContextQuery) -> UserContext:
    """Bring the same with the query in the body: an address lands in logs, and what a person asked is no address."""
    return await call.client.get_user_context(
        await call.user(or_me(user_id)),
        body.session_id,
        body.query,
        audience=body.audience,
        memory_limit=body.memory_limit,
    )


@routes.add(
    "POST",
    "/users/{user_id:user}/turns",
    access=Access.USER,
    data=RecordedTurn,
    user=True,
    status=201,
    repetition="harmless",
    raises=(*NAMING, AudienceMismatchError, SecretRefusedError, SessionNotFoundError, IdentityChangedError),
    body={
        "messages": [{"role": "user", "content": "I am vegan."}, {"role": "assistant", "content": "Noted!"}],
        "memories": ["Is vegan"],
        "topics": ["dinner"],
    },
    example={
        "muxi_user_id": "usr_1f2e3d4c5b6a79880f1e",
        "session_id": "ses_7c6b5a49382716f5e4d3",
        "messages_recorded": 2,
        "memory_ids": ["mem_7c6b5a49382716f5e4d3"],
    },
)
async def record_turn(call: Calling, user_id: UserInPath, body: TurnBody) -> RecordedTurn:
    """Record a turn of your own agent loop, whole or not at all."""
    recorded = await call.client.record_turn(
        await call.user(or_me(user_id)),
        body.messages,
        session_id=body.session_id,
        audience=body.audience,
        memories=body.memories,
        topics=body.topics,
        idempotency_key=call.repetition_key,  # kept with what is done: exact even where a worker dies
    )
    call.site.formation.feed.wake()
    return recorded


_ITEM = {
    "kind": "topic",
    "content": "Planning a trip to Lisbon",
    "shareable": False,
    "created_at": "2026-01-01T00:00:00.000000Z",
    "expires_at": "2026-01-02T00:00:00.000000Z",
}


@routes.add(
    "GET",
    "/users/{user_id:user}/working-memory",
    access=Access.USER,
    data=WorkingList,
    user=True,
    raises=NAMING,
    example={"items": [_ITEM], "count": 1},
)
async def get_working_memory(call: Calling, user_id: UserInPath, limit: Limit = 50) -> WorkingList:
    """List what went on lately in all sessions of a person, the newest first."""
    items = await call.client.get_working_memory(await call.user(or_me(user_id)), limit=limit)
    return {"items": items, "count": len(items)}


@routes.add(
    "POST",
    "/users/{user_id:user}/working-memory",
    access=Access.USER,
    data=WorkingItem,
    user=True,
    status=201,
    repetition="harmless",
    raises=(*NAMING, SecretRefusedError, IdentityChangedError),
    body={"kind": "topic", "content": "Planning a trip to Lisbon"},
    example=_ITEM,
)
async def add_working_memory(call: Calling, user_id: UserInPath, body: WorkingBody) -> WorkingItem:
    """Note something that goes on; the same again is noted anew."""
    return await call.client.add_working_memory(
        await call.user(or_me(user_id)), body.content, kind=body.kind, ttl=body.ttl, shareable=body.shareable
    )


@routes.add(
    "DELETE",
    "/users/{user_id:user}/working-memory",
    access=Access.USER,
    data=WorkingCleared,
    user=True,
    raises=(*NAMING, IdentityChangedError),
    example={"items_cleared": 3},
)
async def clear_working_memory(call: Calling, user_id: UserInPath) -> WorkingCleared:
    """Forget what went on lately."""
    return await call.client.clear_working_memory(await call.user(or_me(user_id)))
