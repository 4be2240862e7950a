"""Held connections for the hot statements: prepared once each, lent without ceremony, given up when they stall."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import asyncpg

from muxi_identity.errors import StorageUnavailableError
from muxi_identity.storage.connecting import DRIVER_ERRORS, Connector, say_farewell
from muxi_identity.storage.errors import closed, translate
from muxi_identity.storage.places import Places


class HeldConnections:
    """At most ``number`` connections, for single statements that leave no state behind. Belongs to one event loop.

    asyncpg's own pool resets and guards whatever its users did to a connection, 65 us a time more than this: a sixth
    of a first contact. Single statements do nothing to it. The one last given back is lent first: it is warm. For
    more than ``number`` at once there is a line, ``places``.

    A statement that takes longer than ``seconds`` loses its connection: the server, or the way to it, has stalled. One
    timer looks after all of them; the driver's own, one for each statement, takes 3 us of its 70.
    """

    def __init__(self, connector: Connector, number: int, places: Places, seconds: float) -> None:
        self._connector = connector
        self._places = places
        self._seconds = seconds
        # When the server was started anew, every idle connection is dead, and the next one is new.
        self._tries = [False] * number + [True]
        self._idle: list[_Held] = []
        self._busy: set[_Held] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    async def fetch(self, statement: str, *arguments: Any, repeat: bool) -> list[Any]:
        """Run one statement.

        ``repeat`` is for one that changes nothing: it is sent again where the connection turns out to be lost.

        Raises:
            StorageUnavailableError: No connection came free, or too many wait for one already.
            TimeoutError: The server did not answer in time. It may have done what it was asked to.
        """
        if not self._places.take_now():
            await self._places.take()
        try:
            for last in self._tries:
                held = self._take_idle() or await self._open()
                held.since = monotonic()
                self._busy.add(held)
                if self._watch is None:
                    self._watch_again()
                try:
                    prepared = held.statements.get(statement)
                    if prepared is None:
                        prepared = held.statements[statement] = await held.connection.prepare(statement)
                    rows: list[Any] = await prepared.fetch(*arguments)
                    return rows
                except asyncpg.InvalidCachedStatementError:
                    held.statements.clear()  # the schema was changed meanwhile; nothing was executed
                    if last:
                        raise
                except DRIVER_ERRORS as error:
                    if held.overdue:
                        raise TimeoutError from None
                    if isinstance(error, asyncpg.InternalClientError):
                        # The server has said farewell, and the connection is not closed yet: nothing was sent.
                        held.connection.terminate()
                    elif not repeat or not held.connection.is_closed():
                        raise
                    if last:
                        raise
                finally:
                    self._put_back(held)
        finally:
            self._places.give_back()
        raise AssertionError("unreachable")

    @property
    def busy(self) -> bool:
        """Whether a statement would have to wait for a connection."""
        return self._places.all_taken

    def _take_idle(self) -> _Held | None:
        while self._idle:
            held = self._idle.pop()
            if held.connection.is_closed():
                continue
            if held.generation == self._connector.generation:
                return held
            held.connection.terminate()
        return None

    async def _open(self) -> _Held:
        if self._closed:
            raise closed()
        generation = self._connector.generation
        try:
            held = _Held(await self._connector.connect(), generation)
        except (*DRIVER_ERRORS, StorageUnavailableError) as error:
            # Those in the line would find the same, one after the other.
            self._places.turn_away(translate(error))
            raise
        return held

    def _put_back(self, held: _Held) -> None:
        self._busy.discard(held)
        if self._closed:
            held.connection.terminate()
        else:
            self._idle.append(held)

    def _watch_again(self) -> None:
        self._watch = asyncio.get_running_loop().call_later(min(1.0, self._seconds / 4), self._end_what_stalls)

    def _end_what_stalls(self) -> None:
        self._watch = None
        since = monotonic() - self._seconds
        for held in self._busy:
            if held.since < since:
                held.overdue = True
                held.connection.terminate()
        if self._busy:
            self._watch_again()

    async def close(self) -> None:
        """Close the idle connections; one that is in use is ended when it comes back."""
        self._closed = True
        self._places.turn_away(closed())
        if self._watch is not None and not self._busy:
            self._watch.cancel()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(say_farewell(held.connection) for held in idle))


class _Held:
    """A connection with the statements that are prepared on it."""

    __slots__ = ("connection", "generation", "overdue", "since", "statements")

    def __init__(self, connection: asyncpg.Connection, generation: int) -> None:
        self.connection = connection
        self.generation = generation
        self.statements: dict[str, Any] = {}
        self.since = 0.0
        self.overdue = False
