"""A bad network: a TCP proxy in front of a server that stalls, swallows, cuts or refuses when it is told to.

It runs in a thread of its own, so that tests, their event loops and other processes can all use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

T = TypeVar("T")
_CHUNK = 65536
_PATIENCE = 30.0  # seconds until a test gives up


class Proxy:
    """Forwards connections to ``host``:``port``. All methods may be called from any thread.

    What it is told holds for every connection that is open, and for those that come later until it is told otherwise.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = host, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._connections: set[_Connection] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._swallowing = False
        self._refusing = False
        self._server: asyncio.Server
        self.port: int
        self.accepted = 0
        """How many connections have been made so far."""

    @classmethod
    def before(cls, url: str) -> Proxy:
        """Return a proxy in front of the server that ``url`` names."""
        parts = urlsplit(url)
        assert parts.port is not None
        return cls(parts.port, parts.hostname or "127.0.0.1")

    def url(self, url: str) -> str:
        """Return ``url`` as it is reached through this proxy."""
        parts = urlsplit(url)
        who, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{who}{at}127.0.0.1:{self.port}"))

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(_PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    # The bad network

    def stall(self) -> None:
        """Hold back whatever is sent, in both directions, until :meth:`flow`; then it all arrives."""
        self._tell(self._flowing.clear)

    def swallow(self) -> None:
        """Let whatever is sent vanish, and say nothing: every connection of now is half-open for good.

        After :meth:`flow` those that are made then work; those that lost something stay silent.
        """

        def begin() -> None:
            self._swallowing = True
            for connection in self._connections:
                connection.deaf = True

        self._tell(begin)

    def refuse(self) -> None:
        """End every connection, and refuse new ones until :meth:`flow`."""

        def begin() -> None:
            self._refusing = True
            self._cut()

        self._tell(begin)

    def cut(self) -> None:
        """End every connection at once; new ones are taken."""
        self._tell(self._cut)

    def flow(self) -> None:
        """Be a good network again."""

        def begin() -> None:
            self._swallowing = self._refusing = False
            self._flowing.set()

        self._tell(begin)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return self._tell(lambda: len(self._connections))

    def _cut(self) -> None:
        for connection in self._connections:
            connection.cut()

    def _tell(self, what: Callable[[], T]) -> T:
        async def tell() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(tell(), self._loop).result(_PATIENCE)

    # Forwarding

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = _Connection(self._flowing, deaf=self._swallowing)
        connection.add(writer)
        self._connections.add(connection)
        try:
            if self._refusing:
                return
            # Cancelled at the end: the server of asyncio would report it as a failure.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                there, back = await asyncio.open_connection(*self._target)
                connection.add(back)
                await asyncio.gather(connection.pump(reader, back), connection.pump(there, writer))
        finally:
            connection.cut()
            self._connections.discard(connection)


class _Connection:
    """One connection through the proxy; ``deaf`` once it has lost something."""

    def __init__(self, flowing: asyncio.Event, *, deaf: bool) -> None:
        self.deaf = deaf
        self._flowing = flowing
        self._writers: list[asyncio.StreamWriter] = []

    def add(self, writer: asyncio.StreamWriter) -> None:
        # Whoever is cut off is told so at once, by a reset.
        end: Any = writer.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._writers.append(writer)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            chunk = await reader.read(_CHUNK)
            if self.deaf:
                if not chunk:
                    return  # the other side learns nothing of it
                continue
            await self._flowing.wait()
            if self.deaf:
                continue
            if not chunk:
                self.cut()
                return
            writer.write(chunk)
            await writer.drain()

    def cut(self) -> None:
        for writer in self._writers:
            if (transport := writer.transport) is not None:
                transport.abort()
