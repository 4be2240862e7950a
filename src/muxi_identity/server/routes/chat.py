"""Chat: a message in, a reply out, whole or piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import Response
from pydantic import WithJsonSchema

from muxi_identity.conversation.streaming import TurnStream
from muxi_identity.errors import (
    AudienceMismatchError,
    IdentityChangedError,
    ModelError,
    ModelTimeoutError,
    ModelUnavailableError,
)
from muxi_identity.models import ChatReply
from muxi_identity.server.call import Access, Call
from muxi_identity.server.event_shapes import ChatAnswer
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import (
    NAMING,
    AudienceName,
    Flag,
    MessageText,
    OpenBody,
    SessionId,
    UserInBody,
)
from muxi_identity.server.serving import describe, problem_from, settle
from muxi_identity.server.streams import EventStream, event, reply_events, token

routes = Routes("Chat", "Conversation with a person, known by any identifier.")


class ChatBody(OpenBody):
    """What the person says. ``timeout``: how many seconds the reply may take. ``stream`` is read before the rest."""

    message: MessageText
    session_id: SessionId | None = None
    user_id: UserInBody = None
    audience: AudienceName = "private"
    timeout: Annotated[Any, WithJsonSchema({"type": ["number", "null"], "exclusiveMinimum": 0})] = None
    stream: Flag = False


@routes.add(
    "POST",
    "/chat",
    access=Access.USER,
    data=ChatAnswer,
    user=True,
    streams="asked",
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
    complete; one whose client goes away before that is not, and may be sent again with the same idempotency key.
    `request_id` is the request's own (`X-Request-ID`): of one that is sent again, what it was the first time.
    """
    formation = call.site.formation
    said = body.message, formation.parse(await call.user(body.user_id)), body.session_id, call.acting("chat")
    if call.wants_events:
        turn = formation.conversation.chat_stream(*said, audience=body.audience, timeout=body.timeout)
        call.site.metrics.streams += 1
        return EventStream(_events(call, turn), over=partial(_leave, call, turn))
    reply = await formation.conversation.chat(*said, audience=body.audience, timeout=body.timeout)
    _tell(call, reply)
    return reply


async def _events(call: Call, turn: TurnStream) -> AsyncIterator[bytes]:
    try:
        while (piece := await turn.next()) is not None:
            yield token(piece)
        reply = turn.reply
        assert reply is not None
        if call.claim is not None:
            await call.claim.finish(200, reply)
        _tell(call, reply)
        for each in reply_events(reply, whole=False):
            yield each
    except Exception as error:  # noqa: BLE001 (the head is sent: it is told by an event)
        if call.claim is not None and turn.recording:
            await settle(call.claim, error)
        elif call.claim is not None:
            await call.claim.give_up()
        yield event(describe(problem_from(error, call), call.request_id), "error")


async def _leave(call: Call, turn: TurnStream) -> None:
    """End what is left of a stream, whichever way it ended, and if it never began."""
    await turn.close()
    call.site.metrics.streams -= 1
    if call.claim is None or not call.claim.held:
        return
    if turn.recording:
        call.claim.let_go()  # it may go through all the same
    else:
        await call.claim.give_up()  # a client that lost its connection may send it again


def _tell(call: Call, reply: ChatReply) -> None:
    call.shown_user = reply.user_id
    call.site.formation.feed.wake()
