"""Sessions: the conversations of one identifier, and the buffers that hold their messages."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from fastapi import Path
from pydantic import Field

from muxi_identity.arguments import MAX_MESSAGES, MAX_SESSION_ID
from muxi_identity.errors import AudienceMismatchError, ForbiddenError, IdentityChangedError, SessionNotFoundError
from muxi_identity.models import ClearResult, RestoreResult, SessionMessages, SessionPage, SessionRecord
from muxi_identity.models.buffers import BufferStats, UserBuffer
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import (
    NAMING,
    AudienceName,
    Body,
    Cursor,
    JsonObject,
    Limit,
    MessageGiven,
    OpenBody,
    UserInQuery,
)

routes = Routes("Sessions", "Conversations, each of one identifier, never shared between channels.")

SessionInPath = Annotated[str, Path(max_length=4 * MAX_SESSION_ID, examples=["ses_7c6b5a49382716f5e4d3"])]

_AT = "2026-01-01T00:00:00.000000Z"
_SESSION = {
    "session_id": "ses_7c6b5a49382716f5e4d3",
    "channel": "slack",
    "audience": "private",
    "active": True,
    "message_count": 2,
    "context": {},
    "created_at": _AT,
    "last_activity": _AT,
}
_FINDING = (*NAMING, SessionNotFoundError)


class SessionContext(TypedDict):
    """The keys and values of one conversation."""

    session_id: str
    context: dict[str, Any]


class RestoreBody(OpenBody):
    """The messages that a session is to hold."""

    messages: Annotated[list[MessageGiven], Field(max_length=MAX_MESSAGES)]
    audience: AudienceName = "private"


class ContextBody(Body):
    """Keys to set; null deletes one. ``audience``: for whom the session is, where it is begun by this."""

    values: JsonObject
    audience: AudienceName | None = None


@routes.add(
    "GET",
    "/sessions",
    access=Access.USER,
    data=SessionPage,
    user=True,
    raises=NAMING,
    example={"sessions": [_SESSION], "count": 1, "next_cursor": None},
)
async def list_sessions(
    call: Calling, user_id: UserInQuery = None, limit: Limit = 50, cursor: Cursor = None
) -> SessionPage:
    """List the sessions of an identifier, the last active first; of a public id those of the whole person."""
    return await call.client.list_sessions(await call.user(user_id), limit=limit, cursor=cursor)


@routes.add(
    "GET",
    "/sessions/{session_id:segment}",
    access=Access.USER,
    data=SessionRecord,
    user=True,
    raises=_FINDING,
    example=_SESSION,
)
async def get_session(call: Calling, session_id: SessionInPath) -> SessionRecord:
    """Read one session's record."""
    return await call.client.get_session(session_id, await call.user())


@routes.add(
    "GET",
    "/sessions/{session_id:segment}/messages",
    access=Access.USER,
    data=SessionMessages,
    user=True,
    raises=_FINDING,
    example={
        "session_id": "ses_7c6b5a49382716f5e4d3",
        "messages": [{"role": "user", "content": "My budget is $5,000", "created_at": _AT}],
        "count": 1,
        "has_more": False,
        "next_cursor": None,
    },
)
async def get_session_messages(
    call: Calling, session_id: SessionInPath, limit: Limit = 100, cursor: Cursor = None
) -> SessionMessages:
    """List the messages of one session, the newest page first and each page oldest first."""
    return await call.client.get_session_messages(session_id, await call.user(), limit=limit, cursor=cursor)


@routes.add(
    "POST",
    "/sessions/{session_id:segment}/restore",
    access=Access.USER,
    data=RestoreResult,
    user=True,
    repetition="harmless",
    raises=(*NAMING, AudienceMismatchError, IdentityChangedError),
    body={"messages": [{"role": "user", "content": "My budget is $5,000"}]},
    example={
        "session_id": "ses_7c6b5a49382716f5e4d3",
        "messages_loaded": 1,
        "messages_dropped": 0,
        "message": "Restored 1 message.",
    },
)
async def restore_session(call: Calling, session_id: SessionInPath, body: RestoreBody) -> RestoreResult:
    """Give a session its messages back, in place of those that it holds. It begins the session if need be."""
    return await call.client.restore_session(session_id, await call.user(), body.messages, audience=body.audience)


@routes.add(
    "PATCH",
    "/sessions/{session_id:segment}/context",
    access=Access.USER,
    data=SessionContext,
    user=True,
    raises=(*NAMING, AudienceMismatchError, IdentityChangedError),
    body={"values": {"page": "checkout"}},
    example={"session_id": "ses_7c6b5a49382716f5e4d3", "context": {"page": "checkout"}},
)
async def set_session_context(call: Calling, session_id: SessionInPath, body: ContextBody) -> SessionContext:
    """Set keys and values of one conversation. It begins the session if need be."""
    context = await call.client.set_session_context(session_id, await call.user(), body.values, audience=body.audience)
    return {"session_id": session_id, "context": context}


@routes.add(
    "GET",
    "/memory/buffer",
    access=Access.USER,
    data=UserBuffer,
    user=True,
    raises=NAMING,
    example={"user_id": "usr_1f2e3d4c5b6a79880f1e", "total_messages": 2, "sessions": 1, "buffer_size_kb": 0.1},
)
async def get_user_buffer(call: Calling, user_id: UserInQuery = None) -> UserBuffer:
    """Read how many messages the user's sessions hold."""
    user = await call.user(user_id)
    return await call.site.formation.buffers.of(call.site.formation.parse(user))


_CLEARED = {"messages_cleared": 2, "sessions_cleared": 1}


@routes.add(
    "DELETE",
    "/memory/buffer",
    access=Access.USER,
    data=ClearResult,
    user=True,
    raises=(*NAMING, IdentityChangedError),
    example=_CLEARED,
)
async def clear_buffers(call: Calling, user_id: UserInQuery = None) -> ClearResult:
    """Delete the messages of a user's sessions; with the admin key and no user named, those of everybody's.

    What is known of people stays.
    """
    user = await call.user_or_none(user_id)
    if user is not None:
        return await call.client.clear_sessions(user)
    if not call.is_admin:
        raise ForbiddenError("Name the user (X-Muxi-User-ID); clearing everybody's messages takes the admin key.")
    return await call.site.formation.buffers.clear(call.acting())


@routes.add(
    "DELETE",
    "/memory/buffer/{session_id:segment}",
    access=Access.USER,
    data=ClearResult,
    user=True,
    raises=(*_FINDING, IdentityChangedError),
    example=_CLEARED,
)
async def clear_session_buffer(call: Calling, session_id: SessionInPath, user_id: UserInQuery = None) -> ClearResult:
    """Delete the messages and the context of one session."""
    return await call.client.clear_session(session_id, await call.user(user_id))


@routes.add(
    "GET",
    "/memory/stats",
    access=Access.ADMIN,
    data=BufferStats,
    example={"total_messages": 2, "sessions": 1, "users": 1, "buffer_size_kb": 0.1},
)
async def get_buffer_stats(call: Calling) -> BufferStats:
    """Read how many messages all sessions hold."""
    return await call.site.formation.buffers.all()
