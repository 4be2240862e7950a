"""Transactions on PostgreSQL: SQLAlchemy over a few pooled connections."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy import Connection, NullPool
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from muxi_identity.errors import StorageUnavailableError
from muxi_identity.storage.connecting import DRIVER_ERRORS, Connector, say_farewell
from muxi_identity.storage.errors import ConnectionLost, ServerIsReadOnly, closed, translate
from muxi_identity.storage.places import Places

T = TypeVar("T")
_GENERATION = "generation"


class _IsDead(Exception):
    """A pooled connection died while it lay idle, or leads to a server that was left. Nothing was sent."""


class Transactions:
    """Runs transactions over at most ``number`` connections; those beyond wait in the line of ``places``.

    A statement that takes longer than ``seconds`` loses its connection. Belongs to one event loop.
    """

    def __init__(self, connector: Connector, number: int, places: Places, seconds: float) -> None:
        self._connector = connector
        self._places = places
        # When the server was started anew, every pooled connection is dead, and the next one is new.
        self._tries = [False] * number + [True]
        self._seconds = seconds
        self._opened: weakref.WeakSet[asyncpg.Connection] = weakref.WeakSet()
        self._busy: set[asyncpg.Connection] = set()
        self._engine: AsyncEngine | None = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=number,
            max_overflow=0,
            pool_pre_ping=False,
            hide_parameters=True,
        )

    async def _connect(self) -> asyncpg.Connection:
        connection = await self._connector.connect(command_timeout=self._seconds)
        self._opened.add(connection)
        return connection

    async def run_apart(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` on a connection of its own, in no transaction and however long its statements take."""
        engine = create_async_engine("postgresql+asyncpg://", async_creator=self._connector.connect, poolclass=NullPool)
        async with engine.connect() as connection:
            return await connection.run_sync(work)

    async def run(self, work: Callable[[Connection], T], isolation: IsolationLevel) -> T:
        """Run ``work`` in a transaction and commit it. It may be run twice: where it was refused, or never sent.

        Raises:
            StorageUnavailableError: The database did not answer, or too many wait for it. If the connection was lost
                while committing, the transaction may have been committed all the same.
        """
        await self._places.take()
        try:
            try:
                return await self._attempt(work, isolation)
            except ServerIsReadOnly:
                self._connector.leave_server()
                return await self._attempt(work, isolation)
        finally:
            self._places.give_back()

    async def _attempt(self, work: Callable[[Connection], T], isolation: IsolationLevel) -> T:
        for last in self._tries:
            if self._engine is None:
                raise closed()
            connected = False
            try:
                async with self._engine.connect() as connection:
                    connected = True
                    raw = await self._usable(connection)
                    await connection.execution_options(isolation_level=isolation)
                    with self._using(raw), _lost_when_overdue(raw):
                        async with connection.begin():
                            with _lost_when_overdue(raw):
                                return await connection.run_sync(work)
            except _IsDead:
                if last:
                    raise ConnectionLost("The database connection was lost; call again later.") from None
            except (sa.exc.SQLAlchemyError, *DRIVER_ERRORS, StorageUnavailableError) as error:
                translated = translate(error)
                if not connected:
                    # Those in the line would find the same, one after the other.
                    self._places.turn_away(translated)
                raise translated from None
        raise AssertionError("unreachable")

    async def _usable(self, connection: AsyncConnection) -> Any:
        pooled = await connection.get_raw_connection()
        raw = pooled.driver_connection
        assert raw is not None
        now = self._connector.generation
        if raw.is_closed() or pooled.info.setdefault(_GENERATION, now) != now:
            await connection.invalidate()
            raise _IsDead
        return raw

    @contextlib.contextmanager
    def _using(self, raw: asyncpg.Connection) -> Iterator[None]:
        self._busy.add(raw)
        try:
            yield
        finally:
            self._busy.discard(raw)
            if self._engine is None:
                raw.terminate()  # closed meanwhile: nobody will come to do it

    async def close(self) -> None:
        """Close every connection that is not in use; one that is, is ended when it comes back."""
        engine, self._engine = self._engine, None
        self._places.turn_away(closed())
        if engine is not None:
            # The pool would close one after the other, and wait for each as long as a statement may take.
            await asyncio.gather(*(say_farewell(raw) for raw in self._opened if raw not in self._busy))
            await engine.dispose()


@contextlib.contextmanager
def _lost_when_overdue(raw: Any) -> Iterator[None]:
    # Whatever is asked of it next, a rollback too, would wait as long once more.
    try:
        yield
    except TimeoutError:
        raw.terminate()
        raise
