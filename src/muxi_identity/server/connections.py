"""Connections: how long a client may take to ask, how long its head may be, and how many are open at a time.

Without these bounds whoever opens connections and sends nothing, or a byte a minute, keeps everybody else out
(Slowloris), and a head without an end fills the memory.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from muxi_identity.server.call import Call
from muxi_identity.server.envelope import failure
from muxi_identity.server.operations import SCOPE

HEAD_SECONDS = 20
"""How long a request's head may take to arrive, and the first one's first byte."""
BODY_SECONDS = 60
"""How long a body may make no progress while it is waited for."""
MAX_HEAD_BYTES = 65_536
_SHORT_SECONDS = 1  # for a head, on a connection that is one too many


class Connection(HttpToolsProtocol):
    """One connection; ``most`` may be open, and whoever asks on one more is answered by ``busy``.

    Time is counted in calls of :meth:`look`, one a second. A timer for each request would take longer than what is
    done here for it.
    """

    def __init__(self, *, most: int, busy: ASGIApp, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._most = most
        self._served, self._busy = self.app, busy
        self._too_many = False
        self._in_head = False
        self._heard = 0
        self._looked: tuple[object, bool, int] = (None, False, 0)
        self._waited = 0

    def connection_made(self, transport: Any) -> None:
        """Count the connection."""
        super().connection_made(transport)
        self._too_many = len(self.connections) > self._most

    def data_received(self, data: bytes) -> None:
        """Read on, unless it is a head that is too long."""
        self._heard += len(data)
        super().data_received(data)
        if self._in_head and self._heard > MAX_HEAD_BYTES:
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head, self._heard = True, 0

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._in_head = False
        self._too_many = self._too_many and len(self.connections) > self._most
        self.app = self._busy if self._too_many else self._served
        super().on_headers_complete()

    def look(self) -> None:
        """Note that a second has passed, and close the connection if its client has had its time."""
        asked = self.cycle is not None and not self.cycle.response_complete
        before, self._looked = self._looked, (self.cycle, asked, self._heard)
        if asked:
            # What we do not read, since there is more than can be worked off, is not the client's fault.
            waits = self.cycle.more_body and not self.flow.read_paused and before == self._looked
            most = BODY_SECONDS
        else:
            waits = before[:2] == self._looked[:2] and self.timeout_keep_alive_task is None
            most = _SHORT_SECONDS if self._too_many else HEAD_SECONDS
        self._waited = self._waited + 1 if waits else 0
        if self._waited >= most:
            if asked:
                self._tell_late()
            self.transport.close()

    def _tell_late(self) -> None:
        call = self.cycle.scope.get(SCOPE)
        if not isinstance(call, Call) or self.cycle.response_started:
            return
        call.is_late = True
        message = f"Nothing more of the body came for {BODY_SECONDS} seconds; send it again."
        body = failure("REQUEST_TIMEOUT", message, {}, call.request_id, call.idempotency_key)
        head = (
            "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {call.request_id}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
