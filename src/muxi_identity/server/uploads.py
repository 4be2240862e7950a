"""A request's body as a file: read by the thread that imports it, as it comes, and never whole in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect

from muxi_identity.errors import InvalidRequestError


class Upload:
    """The body that comes in ``chunks``, for another thread than the event loop's."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._left = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, as soon as there are any; none at the end.

        Raises:
            InvalidRequestError: The client went away before the end: what came is imported.
        """
        while size and not self._left and not self._ended:
            try:
                self._left = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            except ClientDisconnect:
                raise InvalidRequestError("The body broke off before its end; send it again.") from None
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    async def _next(self) -> bytes:
        chunk = await anext(self._chunks, None)
        self._ended = chunk is None
        return chunk or b""
