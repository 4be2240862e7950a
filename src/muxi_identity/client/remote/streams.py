"""A reply that comes piece by piece, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, TypedDict

import aiohttp
import msgspec

from muxi_identity.client.remote.asking import Ask
from muxi_identity.client.remote.failures import rebuild
from muxi_identity.client.remote.transport import (
    EVENTS,
    MAX_ANSWER,
    UNREADABLE,
    Outcome,
    Sealed,
    Transport,
    describe,
    encode,
    read,
)
from muxi_identity.errors import ClientClosedError, MuxiError
from muxi_identity.models import ChatReply

SILENCE = 45.0
"""Seconds without a byte after which a server is taken for gone; one that is there sends something every 15."""


class ReplyShape(TypedDict):
    """A reply as it is sent."""

    message: dict[str, Any]
    user_id: str
    session_id: str
    request_id: str


def reply_of(shape: ReplyShape) -> ChatReply:
    """Return a reply as a client gives it."""
    message = shape["message"]
    return ChatReply(
        message={"role": message["role"], "content": message["content"]},
        user_id=shape["user_id"],
        session_id=shape["session_id"],
        request_id=shape["request_id"],
    )


class Events:
    """Takes bytes as they come and gives whole events: a name (``message`` where there is none) and its data."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = "message"
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield the events that ``chunk`` completes."""
        *lines, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            if line:
                name, _, value = line.partition(b":")
                value = value.removeprefix(b" ")
                if name == b"event":
                    self._name = value.decode("utf-8", "replace")
                elif name == b"data":
                    self._data.append(value)
            elif self._data:
                yield self._name, b"\n".join(self._data)
                self._name, self._data = "message", []

    @property
    def waiting(self) -> int:
        """How many bytes wait for the end of their event."""
        return len(self._rest) + sum(map(len, self._data))


class RemoteTurn:
    """One streamed turn on a server. It begins with the first piece that is asked for."""

    def __init__(self, transport: Transport, ask: Ask) -> None:
        self._transport = transport
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self.task: asyncio.Future[None] = self._loop.create_future()
        """Done when the turn has ended, whichever way."""
        self.reply: ChatReply | None = None
        """The whole reply, once the turn is recorded."""
        self._response: aiohttp.ClientResponse | None = None
        self._events = Events()
        self._pieces: list[tuple[str, bytes]] = []
        self._failure: MuxiError | None = None

    async def next(self) -> str | None:
        """Return the next piece; None when the reply has ended and the turn is recorded.

        Raises:
            ClientClosedError: It was closed before its end.
            MuxiError: What the turn ended with.
        """
        if self.task.done():
            if self.reply is not None:
                return None
            raise self._failure or _closed()
        try:
            piece = await self._next()
        except MuxiError as error:
            self._failure = error
            self._end()
            raise
        except BaseException:
            self._end()
            raise
        if piece is None:
            self._end()
        return piece

    async def _next(self) -> str | None:
        if self._response is None:
            await self._begin()
        while True:
            while self._pieces:
                piece = self._judge(*self._pieces.pop(0))
                if piece or self.reply is not None:
                    return piece
            chunk, broken = await self._more()
            if self.task.done():
                raise _closed()
            if not chunk:
                raise self._transport.unavailable(
                    f"{broken or 'ended the reply before its end'}: the turn may have been recorded all the same"
                )
            self._pieces += self._events.feed(chunk)
            if self._events.waiting > MAX_ANSWER:
                raise self._transport.unavailable("sent an event that does not end")

    async def _more(self) -> tuple[bytes, str | None]:
        """Return what comes next; nothing, and why, where nothing comes any more."""
        assert self._response is not None
        try:
            return await self._response.content.readany(), None
        except (aiohttp.ClientError, OSError, TimeoutError) as failure:
            return b"", describe(failure)

    async def _begin(self) -> None:
        headers = self._transport.headers(self._ask)
        body = encode(self._ask.body)
        attempt = 0
        while True:
            outcome = await self._attempt(headers, body)
            if outcome.error is None:
                return
            if not self._transport.may_repeat(outcome, attempt):
                raise outcome.error
            await self._transport.pause(attempt, outcome.wait)
            attempt += 1

    async def _attempt(self, headers: Sealed[dict[str, str]], body: Sealed[bytes | None]) -> Outcome:
        """Send the request; what comes is read until there is a first event, or an answer that is no stream."""
        place = self._transport.place
        try:
            async with asyncio.timeout(place.timeout):
                response = await self._transport.open(self._ask, headers, body, max(SILENCE, place.timeout))
            self._response = response
            if response.status == 200 and response.content_type == EVENTS:
                while not self._pieces:
                    chunk = await response.content.readany()
                    if not chunk:
                        break
                    self._pieces += self._events.feed(chunk)
                if self._pieces:
                    return Outcome()
                error = self._transport.unavailable("ended the reply before it began")
                return self._over(Outcome(error=error, again=True))
            async with asyncio.timeout(place.timeout):
                content = await read(response)
            if response.content_type == EVENTS:
                content = _as_refusal(content)
            retry_after = response.headers.get("Retry-After")
            return self._over(self._transport.refused(self._ask, response.status, retry_after, content))
        except (aiohttp.ClientError, OSError, EOFError) as failure:
            error = self._transport.unavailable(describe(failure, place.timeout))
        return self._over(Outcome(error=error, again=True))

    def _over(self, outcome: Outcome) -> Outcome:
        self._hang_up()
        self._events = Events()
        return outcome

    def _judge(self, name: str, data: bytes) -> str | None:
        try:
            event = msgspec.json.decode(data)
            if name == "error":
                raise rebuild(500, str(event["type"]), str(event["error"]), event.get("details") or {})
            if name == "done":
                self.reply = reply_of(msgspec.convert(event, ReplyShape))
                return None
            content = event["token"]["content"] if "token" in event else ""
            return content if isinstance(content, str) else ""
        except (*UNREADABLE, KeyError, TypeError, AttributeError):
            pass
        raise self._transport.unavailable("sent an event that is none of a formation server")

    def _hang_up(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _end(self) -> None:
        if not self.task.done():
            self.task.set_result(None)
        if self._response is not None and self.reply is not None:
            self._response.release()
            self._response = None
        self._hang_up()

    async def close(self) -> None:
        """End the turn if it has not ended; the server notices that nobody listens."""
        self._end()

    def abandon(self) -> None:
        """End the turn from whatever thread: nobody holds it any more."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the connection with it
            self._loop.call_soon_threadsafe(self._end)


def _closed() -> ClientClosedError:
    return ClientClosedError("This stream was closed before its end; nothing of the turn was recorded.")


def _as_refusal(content: bytes) -> bytes:
    """Return the error that an event tells of in the shape of any other answer."""
    for name, data in Events().feed(content + b"\n\n"):
        if name == "error":
            with contextlib.suppress(*UNREADABLE, KeyError, TypeError):
                told = msgspec.json.decode(data)
                error = {"code": told["type"], "message": told["error"], "details": told.get("details") or {}}
                return msgspec.json.encode({"error": error})
    return content
