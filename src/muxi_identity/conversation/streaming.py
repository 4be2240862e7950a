"""A turn under way whose reply is given out piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from muxi_identity.errors import ClientClosedError
from muxi_identity.models import ChatReply


class TurnStream:
    """One streamed turn: a task that computes it, a reader that takes its pieces, and nothing between them.

    The task waits until each piece is taken and the next one asked for. So nothing is computed far ahead of a slow
    reader, and a turn whose reader went away before the end is not recorded.
    """

    def __init__(self, turn: Callable[[TurnStream], Awaitable[ChatReply]]) -> None:
        self._pieces: asyncio.Queue[str] = asyncio.Queue()
        self._wanted = asyncio.Semaphore(0)
        self._loop = asyncio.get_running_loop()
        self.recording = False
        """Whether recording has begun: whoever leaves before that leaves nothing behind."""
        self.task: asyncio.Task[ChatReply] = self._loop.create_task(self._run(turn))

    async def _run(self, turn: Callable[[TurnStream], Awaitable[ChatReply]]) -> ChatReply:
        await self._wanted.acquire()  # nothing begins before somebody asks
        return await turn(self)

    async def give(self, piece: str) -> None:
        """Hand out one piece of the reply, and return when it was taken and the next one is asked for."""
        self._pieces.put_nowait(piece)
        await self._wanted.acquire()

    async def next(self) -> str | None:
        """Return the next piece; None when the reply has ended and the turn is recorded.

        Whoever is cancelled while waiting ends the turn: a piece that was lost on the way cannot be given again.

        Raises:
            ClientClosedError: It was closed before its end.
            MuxiError: What the turn ended with; nothing was recorded.
        """
        if self.task.done():
            self._check_ended_well()
            return None
        self._wanted.release()
        piece = self._loop.create_task(self._pieces.get())
        try:
            await asyncio.wait((piece, self.task), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            taken = piece.done()
            if not taken:
                piece.cancel()
        if taken:
            return piece.result()
        self._check_ended_well()
        return None

    def _check_ended_well(self) -> None:
        if self.task.cancelled():
            raise ClientClosedError("This stream was closed before its end; nothing of the turn was recorded.")
        self.task.result()

    @property
    def reply(self) -> ChatReply | None:
        """The whole reply, once the turn is recorded."""
        if not self.task.done() or self.task.cancelled() or self.task.exception() is not None:
            return None
        return self.task.result()

    async def close(self) -> None:
        """End the turn if it has not ended, unrecorded, and wait until it is gone."""
        self.task.cancel()
        await asyncio.wait((self.task,))
        if not self.task.cancelled():
            self.task.exception()  # seen: whoever closes does not want to hear of it

    def abandon(self) -> None:
        """End the turn from whatever thread: nobody holds it any more."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.task.cancel()
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())
