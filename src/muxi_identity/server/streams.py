"""Server-sent events: kept alive while nothing happens, ended when the client goes away or the server stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

KEEP_ALIVE_SECONDS = 15.0
CONTENT_TYPE = "text/event-stream"
_encode = msgspec.json.Encoder().encode
_KEEP_ALIVE = b": keepalive\n\n"


def event(data: Any, name: str | None = None, id: str | None = None) -> bytes:
    """Return one event as it is sent; ``data`` becomes JSON, which has no line break."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    if id is not None:
        head += b"id: " + id.encode() + b"\n"
    return head + b"data: " + _encode(data) + b"\n\n"


def reply_events(reply: Mapping[str, Any], *, whole: bool) -> list[bytes]:
    """Return the events that end a stream of a reply; ``whole``: with its text, which was not sent yet."""
    text = [token(reply["message"]["content"])] if whole else []
    return [*text, event({"finished": True, **reply}, "done")]


def token(text: str) -> bytes:
    """Return the event of one piece of a reply's text."""
    return event({"token": {"content": text}})


async def told(reply: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """Yield the events of a reply that is known already."""
    for each in reply_events(reply, whole=True):
        yield each


class _Wish(msgspec.Struct):
    stream: Any = None


_wish = msgspec.json.Decoder(_Wish).decode


def asks_for_events(body: bytes) -> bool:
    """Tell whether a request's body asks for an event stream; what is no JSON asks for nothing."""
    try:
        return _wish(body).stream is True
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


class EventStream(Response):
    """Sends what ``events`` yields, as it comes.

    A client that reads slowly slows the source down: nothing is made ahead of what was sent. ``stopping`` ends a
    stream that has no end of its own. ``over`` is called at the end, whichever it is: a client may be gone before the
    first event is asked for, and a generator that was never begun cleans nothing up.
    """

    media_type = CONTENT_TYPE

    def __init__(
        self,
        events: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str] | None = None,
        stopping: asyncio.Event | None = None,
        over: Callable[[], Awaitable[None]] | None = None,
        keep_alive: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        super().__init__(
            headers={**(headers or {}), "X-Accel-Buffering": "no"},
            media_type=CONTENT_TYPE,
        )
        del self.headers["content-length"]
        self._events = events
        self._stopping = stopping
        self._over = over
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the events end, the client goes away or the server stops."""
        try:
            await self._send_all(receive, send)
        finally:
            if self._over is not None:
                await self._over()

    async def _send_all(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        pump = asyncio.create_task(self._pump(send))
        ends = [pump, asyncio.create_task(_gone(receive))]
        if self._stopping is not None:
            ends.append(asyncio.create_task(_wait(self._stopping)))
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        if not pump.cancelled() and (error := pump.exception()) is not None:
            raise error
        if pump.cancelled() and self._stopping is not None and self._stopping.is_set():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump(self, send: Send) -> None:
        # The next event is waited for in a task of its own: a time-out must not cancel the work that makes it.
        coming: asyncio.Task[bytes | None] | None = None
        try:
            while True:
                coming = coming or asyncio.create_task(_next(self._events))
                done, _ = await asyncio.wait([coming], timeout=self._keep_alive)
                if not done:
                    await send({"type": "http.response.body", "body": _KEEP_ALIVE, "more_body": True})
                    continue
                chunk, coming = coming.result(), None
                if chunk is None:
                    break
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()


async def _next(events: AsyncIterator[bytes]) -> bytes | None:
    with contextlib.suppress(StopAsyncIteration):
        return await anext(events)
    return None


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _wait(stopping: asyncio.Event) -> None:
    await stopping.wait()
