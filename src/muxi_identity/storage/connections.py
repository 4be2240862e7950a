"""Held connections for the hot statements: prepared once each, lent without ceremony."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg

from muxi_identity.storage.errors import closed

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class HeldConnections:
    """At most ``limit`` connections to ``url``, for single statements that leave no state behind.

    asyncpg's own pool resets and guards whatever its users did to a connection, 65 us a time more than this: a sixth
    of a first contact. Single statements do nothing to it. The one last given back is lent first: it is warm.
    Time-outs are in seconds. Belongs to one event loop.
    """

    def __init__(self, url: str, limit: int, *, connect_timeout: float, command_timeout: float) -> None:
        self._url = url
        self._connect_timeout = connect_timeout
        self._command_timeout = command_timeout
        self._limit = limit
        self._free = asyncio.Semaphore(limit)
        self._idle: list[_Held] = []
        self._closed = False

    async def fetch(self, statement: str, *arguments: Any, repeat: bool) -> list[Any]:
        """Run one statement.

        ``repeat`` is for one that changes nothing: it is sent again where the connection turns out to be lost.
        """
        async with self._free:
            if self._closed:
                raise closed()
            # When the server was started anew, every idle connection is dead, and the next one is new.
            for last in [False] * self._limit + [True]:
                held = await self._take()
                try:
                    return await held.fetch(statement, arguments, self._command_timeout)
                except asyncpg.InvalidCachedStatementError:
                    held.statements.clear()  # the schema was changed meanwhile; nothing was executed
                    if last:
                        raise
                except asyncpg.InternalClientError:
                    # The server has said farewell, and the connection is not closed yet: nothing was sent.
                    held.connection.terminate()
                    if last:
                        raise
                except DRIVER_ERRORS:
                    if last or not repeat or not held.connection.is_closed():
                        raise
                finally:
                    self._give_back(held)
        raise AssertionError("unreachable")

    @property
    def busy(self) -> bool:
        """Whether a statement would have to wait for a connection."""
        return self._free.locked()

    async def _take(self) -> _Held:
        while self._idle:
            held = self._idle.pop()
            if not held.connection.is_closed():
                return held
        return _Held(await asyncpg.connect(self._url, timeout=self._connect_timeout))

    def _give_back(self, held: _Held) -> None:
        if self._closed:
            held.connection.terminate()
        else:
            self._idle.append(held)

    async def close(self) -> None:
        """Close the idle connections; one that is in use is ended when it comes back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for held in idle:
            await held.connection.close(timeout=5)


class _Held:
    """A connection with the statements that are prepared on it."""

    __slots__ = ("connection", "statements")

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.statements: dict[str, Any] = {}

    async def fetch(self, statement: str, arguments: Sequence[Any], timeout: float) -> list[Any]:
        prepared = self.statements.get(statement)
        if prepared is None:
            prepared = self.statements[statement] = await self.connection.prepare(statement)
        rows: list[Any] = await prepared.fetch(*arguments, timeout=timeout)
        return rows
