"""One open database for several formations of a process, however many of them lie in it."""

from __future__ import annotations

import asyncio

from muxi_identity.config import DatabaseConfig
from muxi_identity.storage.database import Database
from muxi_identity.storage.opening import make_database


class SharedDatabases:
    """Databases by their address, each opened by whoever needs it first. Belongs to one event loop."""

    def __init__(self) -> None:
        self._open: dict[tuple[str | None, ...], Database] = {}
        self._opening = asyncio.Lock()

    async def borrow(self, config: DatabaseConfig, *, durable: bool = True) -> Database:
        """Return the open database that ``config`` names. It is closed with all others, by :meth:`close`.

        Raises:
            ConfigurationError: It cannot be used as configured, or its driver is not installed.
            StorageUnavailableError: It cannot be reached.
        """
        urls = (config.url, config.listen_url)
        address = (str(config.path), *(None if url is None else url.reveal() for url in urls))
        async with self._opening:
            database = self._open.get(address)
            if database is None:
                database = make_database(config, durable=durable)
                await database.open()
                self._open[address] = database
            return database

    async def close(self) -> None:
        """Close all of them; the formations in them were closed before."""
        databases, self._open = list(self._open.values()), {}
        for database in databases:
            await database.close()
