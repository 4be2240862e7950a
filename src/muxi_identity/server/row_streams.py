"""Everybody as one answer: rows as they are read, a page at a time in memory."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from starlette.responses import StreamingResponse

from muxi_identity.errors import MuxiError
from muxi_identity.models import PersonPage
from muxi_identity.paging import MAX_PAGE

ROWS = "application/x-ndjson"
"""The media type of JSON lines."""
END = b"\n"
"""The last line. The connection breaks where an answer breaks off, but a proxy that was spoken to in HTTP/1.0, which
knows no chunks, cannot tell that from the end, and passes on a whole answer."""

logger = logging.getLogger("muxi_identity.server")
_encoder = msgspec.json.Encoder()


class RowStream(StreamingResponse):
    """Sends ``first`` and the pages that follow it. A client that reads slowly slows the reading down."""

    media_type = ROWS

    def __init__(self, page: Callable[[int, str | None], Awaitable[PersonPage]], first: PersonPage) -> None:
        # Proxies that gather answers would hold this one back, or cut it where their files end.
        super().__init__(_lines(page, first), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def _lines(page: Callable[[int, str | None], Awaitable[PersonPage]], found: PersonPage) -> AsyncIterator[bytes]:
    try:
        if found["people"]:
            yield _encoder.encode_lines(found["people"])
        while found["next_cursor"] is not None:
            found = await page(MAX_PAGE, found["next_cursor"])
            yield _encoder.encode_lines(found["people"])
    except MuxiError as error:
        # The head is sent, and says that all is well: all that can be done is to break the connection off.
        logger.error("an export broke off: %s", error.message)
        raise
    yield END
