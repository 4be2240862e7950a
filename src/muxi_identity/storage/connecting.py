"""Opening connections to PostgreSQL: whichever server takes writes now, and never in a storm."""

from __future__ import annotations

import asyncio
import random
from time import monotonic
from typing import Any

import asyncpg

from muxi_identity.postgres_config import Host, hosts_of
from muxi_identity.storage.errors import ServerIsReadOnly

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0  # seconds between two attempts
_SHORTEST_SHARE = 1.0
_BETWEEN_MOVES = 1.0
_FAREWELL_SECONDS = 2.0
_REFUSALS = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)


async def say_farewell(connection: asyncpg.Connection) -> None:
    """Close a connection that nobody uses: in peace, or without a word where the server does not answer in time."""
    try:
        await connection.close(timeout=_FAREWELL_SECONDS)
    except DRIVER_ERRORS:
        connection.terminate()


class Connector:
    """Opens connections to the database at ``url``, each within ``seconds``. Belongs to one event loop.

    Of several servers it begins with the one that was right the last time. While none answers, attempts keep a
    growing pause with jitter, all of this process together: a server that comes up is not met by everybody at once.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._hosts: list[Host] = hosts_of(url)
        self._failures = 0
        self._not_before = 0.0
        self._moved_at = -_BETWEEN_MOVES
        self.generation = 0
        """Rises with :meth:`leave_server`. A connection of an older one is to be closed, not used."""

    async def connect(self, **options: Any) -> asyncpg.Connection:
        """Open a connection; ``options`` are those of the driver.

        Raises:
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: No server can be reached, or none will have us.
            ServerIsReadOnly: Servers answer, and none of them takes writes.
        """
        if (pause := self._not_before - monotonic()) > 0:
            await asyncio.sleep(pause)
        begun = monotonic()
        try:
            connection = await self._first_that_answers(options)
        except (*DRIVER_ERRORS, ServerIsReadOnly):
            if begun >= self._not_before:  # of several that failed together, one counts
                longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._failures, 16))
                self._not_before = monotonic() + longest * random.uniform(0.5, 1)  # noqa: S311 (no secret)
                self._failures += 1
            raise
        self._failures = 0
        return connection

    async def _first_that_answers(self, options: dict[str, Any]) -> asyncpg.Connection:
        if not self._hosts:
            return await self._try({"timeout": self._seconds, **options})
        # A server that is gone without a word must not take the time of the one that has its place.
        share = max(_SHORTEST_SHARE, self._seconds / len(self._hosts))
        faults: list[BaseException] = []
        for host in list(self._hosts):
            name, port = host
            where = {"host": name, "port": port, "target_session_attrs": "read-write", "timeout": share}
            try:
                connection = await self._try(where | options)
            except (*DRIVER_ERRORS, ServerIsReadOnly) as fault:
                faults.append(fault)
            else:
                # The right one goes to the front. Meanwhile another call may have turned the list as well.
                self._hosts.sort(key=lambda each: each != host)
                return connection
        # A replica that lags behind may not know the user or the database yet: only if all say so is it so.
        raise next((fault for fault in faults if not isinstance(fault, _REFUSALS)), faults[-1])

    async def _try(self, options: dict[str, Any]) -> asyncpg.Connection:
        try:
            return await asyncpg.connect(self._url, **options)
        except asyncpg.TargetServerAttributeNotMatched:
            raise ServerIsReadOnly from None

    def leave_server(self) -> None:
        """Have every connection of now closed when it is next used: the server takes no writes any more."""
        now = monotonic()
        if now - self._moved_at >= _BETWEEN_MOVES:  # where no other server takes its place, not for each statement
            self._moved_at = now
            self.generation += 1
