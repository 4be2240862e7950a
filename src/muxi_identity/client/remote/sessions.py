"""Sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from muxi_identity.arguments import check_audience, check_named_session, read_messages, write_json
from muxi_identity.client.remote.asking import Ask, CallerLike, checked_cursor, own_segment
from muxi_identity.client.remote.naming import Named
from muxi_identity.client.remote.transport import Transport
from muxi_identity.errors import InvalidRequestError
from muxi_identity.models import Audience, ClearResult, RestoreResult, SessionMessages, SessionPage, SessionRecord
from muxi_identity.paging import check_limit

MAX_CONTEXT = 16_384


class _Context(TypedDict):
    context: dict[str, Any]


class RemoteSessions:
    """The sessions of the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self, reference: Named, limit: int, cursor: str | None) -> SessionPage:
        """Return a page of sessions, the last active first."""
        check_limit(limit)
        query = {"limit": limit, "cursor": checked_cursor(cursor, "list_sessions")}
        return await self._transport.call(Ask("GET", "/sessions", user=reference, query=query), SessionPage)

    async def get(self, reference: Named, session_id: str) -> SessionRecord:
        """Return one session."""
        return await self._transport.call(Ask("GET", _path(session_id), user=reference), SessionRecord)

    async def messages(
        self, reference: Named, session_id: str, limit: int = 100, cursor: str | None = None
    ) -> SessionMessages:
        """Return a page of a session's messages."""
        path = _path(session_id, "/messages")
        check_limit(limit)
        query = {"limit": limit, "cursor": checked_cursor(cursor, "get_session_messages")}
        return await self._transport.call(Ask("GET", path, user=reference, query=query), SessionMessages)

    async def restore(
        self, reference: Named, session_id: str, messages: object, audience: Audience, caller: CallerLike
    ) -> RestoreResult:
        """Put ``messages`` in place of a session's buffer."""
        path = _path(session_id, "/restore")
        check_audience(audience)
        body = {"messages": plain_messages(messages), "audience": audience}
        ask = Ask("POST", path, user=reference, body=body, keyed=True)
        return await self._transport.call(ask, RestoreResult)

    async def clear(self, reference: Named, session_id: str, caller: CallerLike) -> ClearResult:
        """Delete the messages and the context of one session."""
        check_named_session(session_id)
        ask = Ask("DELETE", f"/memory/buffer/{own_segment('session_id', session_id)}", user=reference, keyed=True)
        return await self._transport.call(ask, ClearResult)

    async def clear_all(self, reference: Named, caller: CallerLike) -> ClearResult:
        """Delete the messages and the contexts of all sessions."""
        ask = Ask("DELETE", "/memory/buffer", user=reference, keyed=True)
        return await self._transport.call(ask, ClearResult)

    async def set_context(
        self,
        reference: Named,
        session_id: str,
        values: Mapping[str, Any],
        audience: Audience | None,
        caller: CallerLike,
    ) -> dict[str, Any]:
        """Merge ``values`` into a session's context and return all of it."""
        path = _path(session_id, "/context")
        if audience is not None:
            check_audience(audience)
        if not isinstance(values, Mapping):
            raise InvalidRequestError("values must be a mapping of keys to what JSON has.")
        for key in values:
            if not isinstance(key, str):  # JSON would make a text of it
                raise InvalidRequestError("a key of a session's context is a printable text of 1 to 128 characters.")
        given = dict(values)
        write_json("values", given, MAX_CONTEXT)
        ask = Ask("PATCH", path, user=reference, body={"values": given, "audience": audience})
        return (await self._transport.call(ask, _Context))["context"]


def _path(session_id: object, below: str = "") -> str:
    check_named_session(session_id)
    return f"/sessions/{own_segment('session_id', str(session_id))}{below}"


def plain_messages(messages: object) -> list[dict[str, Any]]:
    """Return messages, checked, as they are sent: mappings of any kind become objects.

    Raises:
        InvalidRequestError: They have another shape.
    """
    read_messages(messages)
    return [dict(message) for message in messages]  # type: ignore[attr-defined]
