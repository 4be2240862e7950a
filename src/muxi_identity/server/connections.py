"""Connections: how long a client may take to ask and to read, how long its head may be, how many are open at a time.

Without these bounds whoever opens connections and sends nothing, or a byte a minute, or reads nothing, keeps everybody
else out (Slowloris), and a head or trailers without an end fill the memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from muxi_identity.server.call import Call
from muxi_identity.server.operations import SCOPE

HEAD_SECONDS = 20
"""How long a request's head may take to arrive, and the first one's first byte."""
BODY_SECONDS = 60
"""How long a body may take to arrive, and how long a client may read nothing of what it is answered."""
ROWS_SECONDS = 3_600
"""How long nothing of an import may come: whoever sends it has the admin key, and may have to wait for each row."""
MAX_HEAD_BYTES = 65_536
"""Bytes that are no body, on end: a head, the trailers behind a body, what is said of each piece of one."""
_SHORT_SECONDS = 1  # for a head, on a connection that is one too many


class _Owed(NamedTuple):
    """What a client is waited for, for how many seconds; ``mark`` changes with each step that counts as one."""

    what: str
    seconds: int
    mark: object


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
        self._no_body = 0
        self._pieces = 0
        self._owed: _Owed | None = None
        self._waited = 0

    def connection_made(self, transport: Any) -> None:
        """Count the connection."""
        super().connection_made(transport)
        self._too_many = len(self.connections) > self._most
        self._owed = self._owes()

    def data_received(self, data: bytes) -> None:
        """Read on, unless it is too much that is no body."""
        self._no_body += len(data)
        super().data_received(data)
        if self._no_body > MAX_HEAD_BYTES:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._too_many = self._too_many and len(self.connections) > self._most
        self.app = self._busy if self._too_many else self._served
        super().on_headers_complete()
        self.headers = []  # trailers come here, and not among the headers that were checked

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._no_body = 0
        self._pieces += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._no_body = 0
        super().on_message_complete()

    def look(self) -> None:
        """Note that a second has passed, and end what the client has had its time for."""
        before, self._owed = self._owed, self._owes()
        self._waited = self._waited + 1 if self._owed == before else 0
        if self._owed is None or self._waited < self._owed.seconds:
            return
        if self._owed.what == "reading":
            self.transport.abort()  # closing would wait for it
        elif self._owed.what == "body" and self._tell_late():
            self._waited = 0
        else:
            self.transport.close()

    def _owes(self) -> _Owed | None:
        if unread := self.transport.get_write_buffer_size():
            return _Owed("reading", BODY_SECONDS, unread)
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            if self.timeout_keep_alive_task is not None:
                return None
            return _Owed("head", _SHORT_SECONDS if self._too_many else HEAD_SECONDS, cycle)
        # What we do not read, since there is more than can be worked off, is not the client's fault.
        if not cycle.more_body or self.flow.read_paused:
            return None
        call = cycle.scope.get(SCOPE)
        if isinstance(call, Call) and call.takes_rows:
            return _Owed("body", ROWS_SECONDS, self._pieces)
        return _Owed("body", BODY_SECONDS, cycle)

    def _tell_late(self) -> bool:
        """Let the call answer that its body is late, unless it was told or answers already."""
        call = self.cycle.scope.get(SCOPE)
        if not isinstance(call, Call) or call.is_late or self.cycle.response_started:
            return False
        call.is_late = True
        self.cycle.keep_alive = False  # what is left of the body would be read as the next request
        self.cycle.message_event.set()
        return True
