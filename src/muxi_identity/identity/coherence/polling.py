"""SQLite: processes ask the file itself whether another one changed it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from time import monotonic

from muxi_identity.identity.cache import IdentityCache
from muxi_identity.storage.sqlite import SqliteDatabase

logger = logging.getLogger("muxi_identity.identity")

POLL_SECONDS = 0.05
# How long hits are served without a poll: when the process is paused or its loop is held up, the cache is bypassed.
LEASE_SECONDS = 0.5


class SqlitePoll:
    """Asks SQLite every 50 ms whether anybody else committed (``PRAGMA data_version``: no lock, no disk access).

    Only if the formation's identity epoch rose too is the cache emptied: most commits make no answer wrong.
    """

    def __init__(self, database: SqliteDatabase, formation_id: str, cache: IdentityCache) -> None:
        self._database = database
        self._formation_id = formation_id
        self._cache = cache
        self._version: tuple[int, int] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Poll once now and then until stopped."""
        self._poll()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End the polling."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                self._poll()
            except sqlite3.Error as error:
                # The lease runs out and the cache is bypassed until the file can be read again.
                logger.warning("cannot poll the database file: %s", getattr(error, "sqlite_errorname", "error"))

    def _poll(self) -> None:
        begun = monotonic()
        version = self._database.data_version()
        if version != self._version:
            epoch = self._database.epoch(self._formation_id)
            if epoch != self._cache.epoch:
                self._cache.clear()
                self._cache.epoch = epoch
            self._version = version
        self._cache.lease_until = begun + LEASE_SECONDS
