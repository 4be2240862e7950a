"""A request's body: whole, or as a file for the thread that imports it, as it comes and never whole in memory."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from muxi_identity.errors import InvalidRequestError, RequestTimeoutError, TooLargeError
from muxi_identity.server.call import Call


async def read_body(call: Call, receive: Receive, declared: bytes | None) -> bytes:
    """Read a body, no further than a formation's requests may be long.

    Raises:
        TooLargeError: There is more; nothing of it is kept.
        RequestTimeoutError: It took too long.
        ClientDisconnect: The client went away.
    """
    limit = call.site.config.server.max_body_bytes
    if declared is not None and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await _next(call, receive)
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _next(call: Call, receive: Receive) -> Message:
    message = await receive()
    if call.is_late:
        raise RequestTimeoutError("The request took too long to arrive, and nothing of it was done; send it again.")
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"The request is larger than {limit} bytes.", limit=limit)


class Upload:
    """The body of a call as a file, for another thread than the event loop's."""

    def __init__(self, call: Call, receive: Receive) -> None:
        self._call, self._receive = call, receive
        self._loop = asyncio.get_running_loop()
        self._left = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, as soon as there are any; none at the end.

        Raises:
            InvalidRequestError: Nothing more came before the end: what came is imported.
        """
        while size and not self._left and not self._ended:
            try:
                message = asyncio.run_coroutine_threadsafe(_next(self._call, self._receive), self._loop).result()
            except (ClientDisconnect, RequestTimeoutError):
                raise InvalidRequestError("The body broke off before its end; send it again.") from None
            self._left, self._ended = message.get("body", b""), not message.get("more_body", False)
        piece, self._left = self._left[:size], self._left[size:]
        return piece
