"""Opening connections to PostgreSQL: whichever server takes writes now, and never in a storm."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import weakref
from time import monotonic
from typing import Any

import asyncpg

from muxi_identity.postgres_config import Host, hosts_of
from muxi_identity.storage.errors import ServerIsReadOnly

logger = logging.getLogger("muxi_identity.storage")

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


class ServerConnection(asyncpg.Connection):  # type: ignore[misc]
    """The driver's connection, with names that are its own and an end that needs no event loop."""

    __slots__ = ()

    def _get_unique_id(self, prefix: str) -> str:
        # The driver counts from one in each process. Behind a pooler that lends connections to the server by the
        # transaction, such a name would run what another process prepared under it.
        return f"muxi_{prefix}_{secrets.token_hex(8)}"

    async def _introspect_types(self, *arguments: Any) -> Any:
        if self._stmt_cache_enabled or self.is_in_transaction():
            return await super()._introspect_types(*arguments)
        # The first time that an array is sent, the driver switches JIT off in the session, asks what the array is made
        # of, and switches it on again. A pooler would do each in another session, and leave one without JIT.
        async with self.transaction():
            return await super()._introspect_types(*arguments)

    def cut_off(self) -> None:
        """End it at once and without a word, also where its event loop has ended. Doing it twice is harmless."""
        if not self._loop.is_closed():
            self.terminate()
            return
        # A transport closes its socket in a callback of its loop, and one that is closed takes none: it is called here.
        # Under TLS it is that of the transport below. uvloop closes the sockets itself, with the loop.
        tls = getattr(self._transport, "_ssl_protocol", None)
        transport = self._transport if tls is None else tls._transport
        with contextlib.suppress(RuntimeError):
            self.terminate()
        if getattr(transport, "_sock", None) is not None:
            with contextlib.suppress(RuntimeError):
                transport._call_connection_lost(None)


class Connector:
    """Opens connections to the database at ``url``, each within ``seconds``. Belongs to one event loop.

    ``prepares`` says whether statements may be prepared by name, once for each connection. Without a name they are
    sent to be parsed each time, in the round trip that runs them. None leaves it to the first connection: where that
    leads to the server itself, they may.

    Of several servers it begins with the one that was right the last time. While none answers, attempts keep a
    growing pause with jitter, all of this process together: a server that comes up is not met by everybody at once.
    """

    def __init__(self, url: str, seconds: float, *, prepares: bool | None = None) -> None:
        self._url = url
        self._seconds = seconds
        self._prepares = prepares
        self._hosts: list[Host] = hosts_of(url)
        self._opened: weakref.WeakSet[ServerConnection] = weakref.WeakSet()
        self._failures = 0
        self._not_before = 0.0
        self._moved_at = -_BETWEEN_MOVES
        self.generation = 0
        """Rises with :meth:`leave_server`. A connection of an older one is to be closed, not used."""

    async def connect(self, **options: Any) -> ServerConnection:
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

    async def _first_that_answers(self, options: dict[str, Any]) -> ServerConnection:
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

    async def _try(self, options: dict[str, Any]) -> ServerConnection:
        if not self._prepares:
            options = {"statement_cache_size": 0, **options}  # with it, the driver gives no names
        connection: ServerConnection
        try:
            connection = await asyncpg.connect(self._url, connection_class=ServerConnection, **options)
        except asyncpg.TargetServerAttributeNotMatched:
            raise ServerIsReadOnly from None
        self._opened.add(connection)
        try:
            if self._prepares is None:
                self._prepares = await self._leads_to_server(connection)
            if self._prepares:
                await self._plan_for_anybody(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def cut_off(self) -> None:
        """End every connection that was opened here, after their event loop has ended."""
        for connection in list(self._opened):
            connection.cut_off()

    async def _leads_to_server(self, connection: ServerConnection) -> bool:
        """Tell whether nothing lends servers in between: a pooler makes up the key by which a client may cancel."""
        pid = await connection.fetchval("SELECT pg_backend_pid()", timeout=self._seconds)
        direct = bool(connection.get_server_pid() == pid)
        if not direct:
            logger.info("a pooler stands before PostgreSQL: statements are sent without being prepared by name")
        return direct

    async def _plan_for_anybody(self, connection: ServerConnection) -> None:
        """Have each statement planned once, for whatever it is given, and not for each of the first five times.

        Every index begins with the formation. Planned for one that is newer than the statistics, which then know no
        row of it, a statement would read all of it by whatever index comes first.
        """
        with contextlib.suppress(asyncpg.UndefinedObjectError):  # not every server that speaks the protocol has it
            await connection.execute("SET plan_cache_mode = force_generic_plan", timeout=self._seconds)

    def leave_server(self) -> None:
        """Have every connection of now closed when it is next used: the server takes no writes any more."""
        now = monotonic()
        if now - self._moved_at >= _BETWEEN_MOVES:  # where no other server takes its place, not for each statement
            self._moved_at = now
            self.generation += 1
