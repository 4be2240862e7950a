"""What event streams tell: the shapes of their events, and an example of each stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypedDict

from muxi_identity.models import TaskRun
from muxi_identity.server.examples import REQUEST_ID
from muxi_identity.server.streams import event, reply_events, token

_ALICE = "usr_1f2e3d4c5b6a79880f1e"


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


class Piece(TypedDict):
    """A piece of a reply's text."""

    content: str


class TokenEvent(TypedDict):
    """The next piece of a reply."""

    token: Piece


class DoneEvent(ChatAnswer):
    """The reply has ended and its turn is recorded: the whole of it once more."""

    finished: bool


class ErrorEvent(TypedDict):
    """The stream ends with an error: ``type`` is its code, ``error`` its message."""

    error: str
    type: str
    details: dict[str, Any]
    request_id: str


class ListeningEvent(TypedDict):
    """The stream has begun; ``user_id`` is whom it tells of."""

    type: Literal["listening"]
    user_id: str


class TurnEvent(TypedDict):
    """A turn was recorded; ``message`` is the reply."""

    type: Literal["turn"]
    message: ChatMessage
    user_id: str
    session_id: str
    created_at: str


class JobEvent(TaskRun):
    """A run of a task has ended."""

    type: Literal["job"]


class Stream(NamedTuple):
    """What a stream tells: by the names of its events the shape of each, and an example."""

    events: Mapping[str, Any]
    example: bytes


_REPLY: ChatAnswer = {
    "message": {"role": "assistant", "content": "Your budget is $5,000."},
    "user_id": _ALICE,
    "session_id": "ses_7c6b5a49382716f5e4d3",
    "request_id": REQUEST_ID,
}
_TURN: TurnEvent = {
    "type": "turn",
    "message": _REPLY["message"],
    "user_id": _ALICE,
    "session_id": _REPLY["session_id"],
    "created_at": "2026-01-01T00:00:00.000000Z",
}
_ERROR: ErrorEvent = {
    "error": "The user token has expired; ask the server of your application for another.",
    "type": "UNAUTHORIZED",
    "details": {},
    "request_id": REQUEST_ID,
}

STREAMS: Mapping[str, Stream] = {
    "chat": Stream(
        {"message": TokenEvent, "done": DoneEvent, "error": ErrorEvent},
        token("Your budget ") + token("is $5,000.") + reply_events(_REPLY, whole=False)[0],
    ),
    "stream_events": Stream(
        {"listening": ListeningEvent, "turn": TurnEvent, "job": JobEvent, "error": ErrorEvent},
        event({"type": "listening", "user_id": _ALICE}, "listening")
        + event(_TURN, "turn", "1767225600000000")
        + event(_ERROR, "error"),
    ),
}
"""By the names of the operations."""
REFUSED = Stream({"error": ErrorEvent}, event(_ERROR, "error"))
"""Of whatever call whose ``Accept`` header asked for events."""
