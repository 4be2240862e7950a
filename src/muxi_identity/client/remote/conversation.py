"""Conversation, the context for one's own, and the turns given back."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

from muxi_identity.arguments import (
    MAX_QUERY,
    check_audience,
    check_count,
    check_message,
    check_session_id,
    check_text,
    check_timeout,
)
from muxi_identity.client.remote.asking import Ask, CallerLike, header_key
from muxi_identity.client.remote.naming import Named
from muxi_identity.client.remote.people import ME
from muxi_identity.client.remote.sessions import plain_messages
from muxi_identity.client.remote.streams import RemoteTurn, ReplyShape, reply_of
from muxi_identity.client.remote.transport import Transport
from muxi_identity.errors import InvalidRequestError
from muxi_identity.models import (
    Audience,
    ChatReply,
    MemoryRecord,
    RecordedTurn,
    SessionMessage,
    TaskRecord,
    UserContext,
    WorkingItem,
)

MAX_MEMORIES = 500
PATIENCE = 600.0
"""Seconds beyond a call's own time-out that a model may take which was given none by the caller."""


class _CredentialName(TypedDict):
    service: str
    name: str


class _Context(TypedDict):
    muxi_user_id: str
    session_id: str | None
    audience: str
    synopsis: str
    preferences: dict[str, Any]
    memories: list[MemoryRecord]
    working_memory: list[WorkingItem]
    credentials: list[_CredentialName]
    tasks: list[TaskRecord]
    session_context: dict[str, Any]
    messages: list[SessionMessage]


class Brought(NamedTuple):
    """What a load brought."""

    context: UserContext


class RemoteLoader:
    """Loads the contexts of the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def load(
        self,
        reference: Named,
        *,
        session_id: str | None,
        query: str | None,
        audience: Audience,
        memories: int,
        caller: CallerLike,
    ) -> Brought:
        """Load the context of whoever ``reference`` means."""
        check_session_id(session_id)
        check_audience(audience)
        if query is not None:
            check_text("query", query, MAX_QUERY, blank=True)
        check_count("memory_limit", memories, MAX_MEMORIES)
        body = {"session_id": session_id, "query": query, "audience": audience, "memory_limit": memories}
        ask = Ask("POST", f"{ME}/context", user=reference, body=body)
        return Brought(UserContext(await self._transport.call(ask, _Context)))


class RemoteRecorder:
    """Records turns of the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def record(
        self,
        reference: Named,
        messages: object,
        session_id: str | None,
        audience: Audience,
        memories: object,
        topics: object,
        idempotency_key: object,
        caller: CallerLike,
    ) -> RecordedTurn:
        """Record a turn, whole or not at all."""
        check_session_id(session_id)
        check_audience(audience)
        body = {
            "messages": plain_messages(messages),
            "session_id": session_id,
            "audience": audience,
            "memories": [dict(each) if isinstance(each, Mapping) else each for each in _listed("memories", memories)],
            "topics": list(_listed("topics", topics)),
        }
        key = None if idempotency_key is None else header_key(idempotency_key)
        ask = Ask("POST", f"{ME}/turns", user=reference, body=body, keyed=True, key=key)
        return await self._transport.call(ask, RecordedTurn)


class RemoteConversation:
    """Conversations with the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._turns: weakref.WeakSet[RemoteTurn] = weakref.WeakSet()

    async def chat(
        self,
        message: str,
        reference: Named,
        session_id: str | None,
        caller: CallerLike,
        *,
        audience: Audience,
        timeout: float | None,
    ) -> ChatReply:
        """Answer one message of whoever ``reference`` means."""
        body = _body(message, session_id, audience, timeout)
        patience = PATIENCE if timeout is None else timeout
        ask = Ask("POST", "/chat", user=reference, body=body, keyed=True, patience=patience)
        return reply_of(await self._transport.call(ask, ReplyShape))

    def chat_stream(
        self,
        message: str,
        reference: Named,
        session_id: str | None,
        caller: CallerLike,
        *,
        audience: Audience,
        timeout: float | None,
    ) -> RemoteTurn:
        """Answer as :meth:`chat` does, piece by piece."""
        body = {**_body(message, session_id, audience, timeout), "stream": True}
        turn = RemoteTurn(self._transport, Ask("POST", "/chat", user=reference, body=body, keyed=True))
        self._turns.add(turn)
        return turn

    async def close(self) -> None:
        """End the turns that are under way."""
        for turn in list(self._turns):
            await turn.close()


def _body(message: str, session_id: str | None, audience: str, timeout: float | None) -> dict[str, Any]:
    check_message(message)
    check_session_id(session_id)
    check_audience(audience)
    check_timeout(timeout)
    return {"message": message, "session_id": session_id, "audience": audience, "timeout": timeout}


def _listed(name: str, given: object) -> Sequence[Any]:
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise InvalidRequestError(f"{name} must be a list.")
    return given
