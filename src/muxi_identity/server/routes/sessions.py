"""Sessions: the conversations of one identifier."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from muxi_identity.arguments import MAX_SESSION_ID
from muxi_identity.errors import (
    AmbiguousIdentifierError,
    InvalidIdentifierError,
    SessionNotFoundError,
    UserNotFoundError,
)
from muxi_identity.models import SessionMessages
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes

routes = Routes("Sessions", "Conversations, each of one identifier, never shared between channels.")

SessionInPath = Annotated[str, Path(max_length=MAX_SESSION_ID, examples=["ses_7c6b5a49382716f5e4d3"])]


@routes.add(
    "GET",
    "/sessions/{session_id:segment}/messages",
    access=Access.USER,
    data=SessionMessages,
    user=True,
    raises=(SessionNotFoundError, UserNotFoundError, AmbiguousIdentifierError, InvalidIdentifierError),
    example={
        "session_id": "ses_7c6b5a49382716f5e4d3",
        "messages": [{"role": "user", "content": "My budget is $5,000", "created_at": "2026-01-01T00:00:00.000000Z"}],
        "count": 1,
        "has_more": False,
        "next_cursor": None,
    },
)
async def get_session_messages(call: Calling, session_id: SessionInPath) -> SessionMessages:
    """List the messages of one session, oldest first."""
    return await call.client.get_session_messages(session_id, await call.user())
