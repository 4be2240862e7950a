"""A worker: a server that tells its supervisor how it does, and ends when there is none any more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from types import FrameType
from typing import NoReturn

from muxi_identity.server.app import Served
from muxi_identity.server.logs import access_log
from muxi_identity.server.running import FormationServer, Settings, run

STARTED, ALIVE = b"s", b"."
BEAT_SECONDS = 1.0


class WorkerServer(FormationServer):
    """``told`` is where it writes that it has started, and then that its event loop turns; ``supervisor`` a pipe that
    closes when the supervisor dies."""

    def __init__(self, app: Served, settings: Settings, *, told: int, supervisor: int) -> None:
        super().__init__(app, settings)
        self._told = told
        self._supervisor = supervisor
        self._beating: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, say so, and begin to watch each other."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._supervisor, self._orphaned)
        self._tell(STARTED)
        self._beating = loop.create_task(self._beat())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Obey the supervisor alone: a terminal's Ctrl-C goes to everybody, and it may want to wait before it stops."""
        if sig != signal.SIGINT:
            super().handle_exit(sig, frame)

    def _orphaned(self) -> None:
        asyncio.get_running_loop().remove_reader(self._supervisor)
        self.should_exit = True  # nobody would replace it, and nobody could tell it to stop

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._tell(ALIVE)

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # it does not read, or is gone
            os.write(self._told, word)


def work(app: Served, listener: socket.socket, settings: Settings, *, told: int, supervisor: int) -> int:
    """Serve in this process until told to stop, and return its exit code."""
    server = WorkerServer(app, settings, told=told, supervisor=supervisor)
    run(server, [listener])
    return 0 if app.failure is None and server.started else 1


def leave(code: int) -> NoReturn:
    """End this process without running what its parent has left to do at its own end."""
    access_log.flush()
    os._exit(code)
