"""Chat: a message in, a reply out, whole or piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

from fastapi import Response
from pydantic import WithJsonSchema

from muxi_identity.client.operations import Given
from muxi_identity.errors import (
    AudienceMismatchError,
    IdentityChangedError,
    ModelError,
    ModelTimeoutError,
    ModelUnavailableError,
)
from muxi_identity.models import ChatReply
from muxi_identity.server.call import Access, Call
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import (
    NAMING,
    AnyIdentifier,
    AudienceName,
    Flag,
    MessageText,
    OpenBody,
    SessionId,
)
from muxi_identity.server.serving import describe, problem_from, settle
from muxi_identity.server.streams import EventStream, event, reply_events, token

routes = Routes("Chat", "Conversation with a person, known by any identifier.")


class ChatMessage(TypedDict):
    """One message of a conversation."""

    role: str
    content: str


class ChatAnswer(TypedDict):
    """A reply, whom it was given to and in which session."""

    message: ChatMessage
    user_id: str
    session_id: str
    request_id: str


class ChatBody(OpenBody):
    """What the person says. ``timeout``: how many seconds the reply may take."""

    message: MessageText
    session_id: SessionId | None = None
    user_id: AnyIdentifier | None = None
    audience: AudienceName = "private"
    timeout: Annotated[Any, WithJsonSchema({"type": ["number", "null"], "exclusiveMinimum": 0})] = None
    stream: Flag = False


@routes.add(
    "POST",
    "/chat",
    access=Access.USER,
    data=ChatAnswer,
    user=True,
    streams=True,
    repetition="once",
    raises=(
        *NAMING,
        AudienceMismatchError,
        IdentityChangedError,
        ModelError,
        ModelUnavailableError,
        ModelTimeoutError,
    ),
    body={"message": "My budget is $5,000"},
    example={
        "message": {"role": "assistant", "content": "Got it: your budget is $5,000."},
        "user_id": "usr_1f2e3d4c5b6a79880f1e",
        "session_id": "ses_7c6b5a49382716f5e4d3",
        "request_id": "req_0a1b2c3d4e5f60718293",
    },
)
async def chat(call: Calling, body: ChatBody) -> ChatReply | Response:
    """Answer one message of a person and remember the turn.

    An identifier that nobody has makes first contact. Without `session_id` the identifier goes on with its current
    session. JSON, unless `stream` is true or the `Accept` header asks for an event stream: then `data` events hold
    pieces of the text, `done` ends the reply, and `error` tells what went wrong. A turn is recorded when its reply is
    complete; one whose client goes away before that is not.
    """
    if body.stream:
        call.ask_for_events()
    user = await call.user(body.user_id)
    if call.wants_events:
        return EventStream(_events(call, user, body))
    reply = await call.client.chat(
        body.message, user, session_id=body.session_id, audience=body.audience, timeout=body.timeout
    )
    _tell(call, reply)
    return reply


async def _events(call: Call, user: Given, body: ChatBody) -> AsyncIterator[bytes]:
    call.site.metrics.streams += 1
    stream = call.client.chat_stream(
        body.message, user, session_id=body.session_id, audience=body.audience, timeout=body.timeout
    )
    try:
        async for piece in stream:
            yield token(piece)
        reply = stream.reply
        if call.claim is not None:
            await call.claim.finish(200, reply)
        _tell(call, reply)
        for each in reply_events(reply, whole=False):
            yield each
    except Exception as error:  # noqa: BLE001 (the head is sent: it is told by an event)
        if call.claim is not None:
            await settle(call.claim, error)
        yield event(describe(problem_from(error, call), call.request_id), "error")
    finally:
        await stream.aclose()
        if call.claim is not None:
            call.claim.let_go()
        call.site.metrics.streams -= 1


def _tell(call: Call, reply: ChatReply) -> None:
    call.shown_user = reply.user_id
    call.site.formation.feed.wake()
