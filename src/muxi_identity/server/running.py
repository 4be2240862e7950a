"""Running the application: one process, ended by a signal after it has finished what it began."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Sequence
from types import FrameType

import uvicorn

from muxi_identity.server.app import Served
from muxi_identity.server_config import GRACE_SECONDS

_LINGER_SECONDS = 0.2


class FormationServer(uvicorn.Server):
    """A server that tells its application before it waits for the last requests."""

    def __init__(self, app: Served, *, host: str, port: int, grace: int = GRACE_SECONDS) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                access_log=False,  # it names paths, which name people; the application writes its own
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=grace,
                ws="none",
                lifespan="on",
            )
        )
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let streams without an end of their own end, take nothing new, and wait for the rest.

        From here on each answer tells its client to close the connection, so that few are closed unasked; and what was
        just accepted is still read.
        """
        self._app.stopping.set()
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LINGER_SECONDS)
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens at ``host`` and ``port``; port 0 is any free one.

    Raises:
        OSError: The address cannot be used, or somebody listens there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off for sockets that say they are TCP's; an answer would wait 40 ms with it on.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.set_inheritable(True)
    except BaseException:
        listener.close()
        raise
    return listener


def run(server: FormationServer, sockets: Sequence[socket.socket]) -> None:
    """Serve until a signal comes, in the main thread, and return when all has ended well."""
    # The server raises its signals again when it is done, for whoever is above it; there is nobody.
    before = {number: signal.signal(number, _done) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.suppress(SystemExit):  # it could not start; the application has the reason
            server.run(sockets=list(sockets))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _done(_number: int, _frame: FrameType | None) -> None:
    """Be told of a signal that was obeyed."""
