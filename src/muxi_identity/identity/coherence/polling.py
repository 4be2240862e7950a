"""SQLite: whoever answers from memory asks the file itself, now and then, whether another process changed it."""

from __future__ import annotations

import logging
import sqlite3
from time import monotonic

from muxi_identity.errors import MuxiError
from muxi_identity.identity.cache import IdentityCache
from muxi_identity.storage.sqlite import SqliteDatabase

logger = logging.getLogger("muxi_identity.identity")

POLL_SECONDS = 0.05


class SqlitePoll:
    """Asks SQLite at most every 50 ms whether anybody else committed (``PRAGMA data_version``: no disk access).

    The first hit after that time asks, in place and in a few microseconds: a task that asked in the background would
    not be run while a caller gets hit after hit without ever waiting. Only if the formation's identity epoch rose too
    is the cache emptied: most commits make no answer wrong.
    """

    def __init__(self, database: SqliteDatabase, formation_id: str, cache: IdentityCache) -> None:
        self._database = database
        self._formation_id = formation_id
        self._cache = cache
        self._version: tuple[int, int] | None = None
        self._warned = False

    async def start(self) -> None:
        """Ask from now on, whenever a hit needs it."""
        self._poll()
        self._cache.keepers.append(self._keep)

    async def stop(self) -> None:
        """Ask no more."""
        self.abandon()

    def abandon(self) -> None:
        """Ask no more: another client's hits would ask a database that is closed."""
        if self._keep in self._cache.keepers:
            self._cache.keepers.remove(self._keep)

    def _keep(self) -> bool:
        try:
            self._poll()
        except (sqlite3.Error, MuxiError) as error:
            # The cache is bypassed until the file can be read again.
            if not self._warned:
                self._warned = True
                logger.warning("cannot poll the database file: %s", getattr(error, "sqlite_errorname", "error"))
            return False
        self._warned = False
        return True

    def _poll(self) -> None:
        begun = monotonic()
        version = self._database.data_version()
        if version != self._version:
            epoch = self._database.epoch(self._formation_id)
            if epoch != self._cache.epoch:
                self._cache.clear()
                self._cache.epoch = epoch
            self._version = version
        self._cache.lease_until = begun + POLL_SECONDS
