"""Replies that come piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self

from muxi_identity.client.engine import StreamedTurn
from muxi_identity.errors import ClientClosedError, InvalidRequestError
from muxi_identity.models import ChatReply


class AsyncChatStream(AsyncIterator[str]):
    """The pieces of one reply, as :meth:`chat_stream` gives them: iterate over it with ``async for``.

    The turn begins with the first piece that is asked for and is recorded when the iteration has come to its end, and
    ``reply`` is there then. Whoever leaves before that ends the turn, and nothing of it is recorded: leave an ``async
    with`` block, call :meth:`aclose`, or drop it. Raises what :meth:`chat` raises, while it is iterated over.
    """

    def __init__(self, begin: Callable[[], Awaitable[StreamedTurn]]) -> None:
        self._begin = begin
        self._turn: StreamedTurn | None = None
        self._closed = False
        self._taking = False

    async def __anext__(self) -> str:
        piece = await self._next()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def _next(self) -> str | None:
        if self._taking:
            raise InvalidRequestError("This stream is being read already; one reader at a time.")
        self._taking = True
        try:
            if self._turn is None:
                if self._closed:
                    raise ClientClosedError("This stream was closed before it began.")
                self._turn = await self._begin()
            return await self._turn.next()
        except asyncio.CancelledError:
            self._closed = True
            raise
        finally:
            self._taking = False

    @property
    def reply(self) -> ChatReply:
        """The whole reply, as :meth:`chat` returns it.

        Raises:
            InvalidRequestError: The stream has not come to its end.
        """
        reply = None if self._turn is None else self._turn.reply
        if reply is None:
            raise InvalidRequestError("There is no reply before the stream has come to its end: iterate over it first.")
        return reply

    async def aclose(self) -> None:
        """End the turn if it has not ended; closing twice, or after the end, is harmless."""
        self._closed = True
        if self._turn is not None:
            await self._turn.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        turn = getattr(self, "_turn", None)
        if turn is not None and not turn.task.done():
            turn.abandon()


class ChatStream(Iterator[str]):
    """The pieces of one reply, as :meth:`chat_stream` gives them: iterate over it with ``for``.

    The turn begins with the first piece that is asked for and is recorded when the iteration has come to its end, and
    ``reply`` is there then. Whoever leaves before that ends the turn, and nothing of it is recorded: leave a ``with``
    block, call :meth:`close`, or drop it. Raises what :meth:`chat` raises, while it is iterated over.
    """

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], stream: AsyncChatStream) -> None:
        self._run = run
        self._async = stream

    def __next__(self) -> str:
        piece: str | None = self._run(self._async._next())
        if piece is None:
            raise StopIteration
        return piece

    @property
    def reply(self) -> ChatReply:
        """The whole reply, as :meth:`chat` returns it.

        Raises:
            InvalidRequestError: The stream has not come to its end.
        """
        return self._async.reply

    def close(self) -> None:
        """End the turn if it has not ended; closing twice, or after the end, is harmless."""
        self._run(self._async.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
