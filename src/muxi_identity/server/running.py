"""Running the application in one process, ended by a signal after it has finished what it began."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import resource
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

import uvicorn

from muxi_identity.errors import ConfigurationError
from muxi_identity.server.app import Served
from muxi_identity.server.connections import Connection
from muxi_identity.server_config import GRACE_SECONDS, MAX_CONNECTIONS

_LINGER_SECONDS = 0.2
_TICKS = 10  # a second
_OTHER_FILES = 256  # databases' connections, pipes and what is open for a moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a process serves.

    ``grace``: how many seconds it has for its last requests. ``connections``: how many are open at a time.
    """

    host: str = "127.0.0.1"
    port: int = 0
    grace: int = GRACE_SECONDS
    connections: int = MAX_CONNECTIONS


class FormationServer(uvicorn.Server):
    """A server that tells its application before it waits for the last requests."""

    def __init__(self, app: Served, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=functools.partial(Connection, most=settings.connections, busy=app.turn_away),  # type: ignore[arg-type]
                access_log=False,  # it names paths, which name people; the application writes its own
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=settings.grace,
                ws="none",
                lifespan="on",
            )
        )
        self._app = app

    async def on_tick(self, counter: int) -> bool:
        """Once a second, look at every connection."""
        if counter % _TICKS == 0:
            self.look()
        return await super().on_tick(counter)

    def look(self) -> None:
        """Close the connections whose clients have had their time."""
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Connection)
            connection.look()

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


def allow_connections(number: int) -> None:
    """Let this process, and those that it starts, have as many connections open.

    Raises:
        ConfigurationError: It may not open as many files.
    """
    wanted = number + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            raise ConfigurationError(
                f"{number} connections need {wanted} open files, and this process may have {hard}: ask for fewer with "
                "--connections, or raise the limit (ulimit -n, LimitNOFILE)."
            ) from None


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
