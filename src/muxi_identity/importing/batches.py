"""Batches of rows: read and parsed in a thread of their own, one batch ahead of the writing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from muxi_identity.errors import InvalidRequestError
from muxi_identity.identity.keys import BucketKey
from muxi_identity.importing.entries import Entry
from muxi_identity.importing.reading import Reading
from muxi_identity.importing.records import Standing
from muxi_identity.importing.rows import Row, RowParser
from muxi_identity.storage.worker import Worker

BATCH = 2_000
"""Rows. More would not be faster, and whoever writes in under an identifier of the batch waits for its end."""
_BATCH_BYTES = 4 << 20
_BATCH_IDENTIFIERS = 10_000
_AT_ONCE = 500


class Batch(NamedTuple):
    """Rows that follow each other; ``digest`` stands for these and all before them, which took ``read`` bytes."""

    rows: list[Row]
    digest: bytes
    read: int | None


class Batches:
    """The rows of a source in batches. ``given`` is what the caller's own asynchronous iteration yields, if that is it.

    Memory is bounded by two batches, whatever the source holds.
    """

    def __init__(
        self, reading: Reading, given: AsyncIterator[Any] | None, parser: RowParser, bucket: BucketKey
    ) -> None:
        self._reading = reading
        self._given = given
        self._parser = parser
        self._bucket = bucket
        self._digest = hashlib.sha256()
        self._position = 0
        self._left: list[Entry] = []
        self._worker = Worker("muxi-import")
        self._coming: asyncio.Task[Batch] | None = None

    async def pass_over(self, standing: Standing) -> AsyncIterator[tuple[list[Entry], list[Row]]]:
        """Read what is done already, and yield it with those of its rows that are still to be linked.

        Raises:
            InvalidRequestError: The source does not begin with what was done.
        """
        wanted = set(standing.pending[standing.pending_done :])
        while self._position < standing.done:
            entries = await self._entries(min(_AT_ONCE, standing.done - self._position))
            if not entries:
                raise _other_rows()
            rows = await self._worker.run(self._take, entries, wanted)
            yield entries, rows
        if self._signed() != standing.digest:
            raise _other_rows()

    async def next(self) -> Batch:
        """Return the next batch, without rows at the end; the one after it is read meanwhile.

        Raises:
            InvalidRequestError: The source cannot be read on. All that came before was returned.
        """
        batch = await (self._coming or self._read())
        self._coming = asyncio.get_running_loop().create_task(self._read()) if batch.rows else None
        return batch

    async def close(self) -> None:
        """End what is under way."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)
        self._worker.stop()

    async def _read(self) -> Batch:
        rows: list[Row] = []
        size = number = 0
        while len(rows) < BATCH and size < _BATCH_BYTES and number < _BATCH_IDENTIFIERS:
            try:
                entries = await self._entries(min(_AT_ONCE, BATCH - len(rows)))
            except InvalidRequestError:
                if not rows:
                    raise
                break  # these first; it will be raised again
            if not entries:
                break
            rows += await self._worker.run(self._take, entries, None)
            size += sum(len(entry.raw) for entry in entries)
            number = sum(len(row.identifiers) for row in rows)
        return Batch(rows, self._signed(), self._reading.taken)

    def _take(self, entries: Sequence[Entry], wanted: set[int] | None) -> list[Row]:
        """Add entries to the digest; parse them all, or those of the ``wanted`` positions."""
        rows: list[Row] = []
        for entry in entries:
            self._digest.update(b"%d %d\n" % (entry.line, len(entry.raw)) + entry.raw)
            if wanted is None or self._position in wanted:
                rows.append(self._parser.parse(entry, self._position))
            self._position += 1
        return rows

    async def _entries(self, number: int) -> list[Entry]:
        if self._given is None:
            return await self._worker.run(self._reading.some, number)
        while len(self._left) < number:
            try:
                given = await anext(self._given)
            except StopAsyncIteration:
                break
            self._left += self._reading.take(given)
        taken, self._left = self._left[:number], self._left[number:]
        return taken

    def _signed(self) -> bytes:
        return self._bucket.fingerprint("import " + self._digest.hexdigest())


def _other_rows() -> InvalidRequestError:
    return InvalidRequestError(
        "That import_id belongs to an import of other rows: this source does not begin with those that are done. Use "
        "another id."
    )
