"""SQLite: the embedded default. One file, one writer, look-ups in place."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, event
from sqlalchemy.pool import QueuePool

from muxi_identity.errors import ConfigurationError
from muxi_identity.postgres_config import ConnectionLimits
from muxi_identity.storage.database import Database, Work
from muxi_identity.storage.errors import closed, translate
from muxi_identity.storage.gathering import Found, Gathering
from muxi_identity.storage.migrate import upgrade as upgrade_schema
from muxi_identity.storage.places import Places
from muxi_identity.storage.rows import BucketRow, Change, CreatedPerson, MemberRow, NewPerson
from muxi_identity.storage.sqlite_writes import extend_person, insert_person
from muxi_identity.storage.statements import FIND_MEMBER_SQLITE, LOOK_UP_ONE_SQLITE, READ_BUCKET_SQLITE
from muxi_identity.storage.tables import formations
from muxi_identity.storage.worker import Worker

T = TypeVar("T")
logger = logging.getLogger("muxi_identity.storage")

BUSY_SECONDS = 30.0
_SCRUB_MILLISECONDS = 1000
_DEFAULT_LIMITS = ConnectionLimits()
_MINIMUM = (3, 35, 0)  # RETURNING


class SqliteDatabase(Database):
    """A database file in WAL mode.

    ``durable=False`` leaves writing to disk to the operating system: for throw-away formations alone.
    """

    dialect = "sqlite"
    inline = True
    lock_rows = False

    def __init__(
        self,
        path: Path,
        limits: ConnectionLimits = _DEFAULT_LIMITS,
        *,
        ignore_in_git: bool = False,
        durable: bool = True,
    ) -> None:
        self.path = path
        self._limits = limits
        self._ignore_in_git = ignore_in_git
        self.durable = durable
        self._free_after_fork()
        self._reader: sqlite3.Connection | None = None
        self._readers = 0
        self._writer: sqlite3.Connection | None = None
        """For the hot statements, on the writing thread."""
        self._engine: sa.Engine | None = None
        self._writing: Worker | None = None
        self._reading: Worker | None = None
        _alive.add(self)

    async def open(self, *, upgrade: bool = True) -> None:
        if sqlite3.sqlite_version_info < _MINIMUM:
            raise ConfigurationError(f"SQLite {sqlite3.sqlite_version} is too old; version 3.35 or newer is needed.")
        self._writing = self._start("muxi-sqlite-write")
        self._reading = self._start("muxi-sqlite-read")
        try:
            await self._in_thread(self._writing, self._open_now, upgrade)
        except BaseException:
            await self.close()
            raise

    def _start(self, name: str) -> Worker:
        return Worker(name, Places(1, most_waiting=self._limits.max_waiting, seconds=self._limits.wait_timeout))

    def _open_now(self, upgrade: bool) -> None:
        with self._write_gate:
            self._open_gated(upgrade)

    def _open_gated(self, upgrade: bool) -> None:
        if not _has_full_text_search():
            raise ConfigurationError(
                "This Python's SQLite was built without FTS5, by which memories are searched; use another build."
            )
        if upgrade:
            _make_home(self.path, self._ignore_in_git)
        elif not self.path.is_file():
            raise ConfigurationError(f"There is no database file {self.path}.")
        self._engine = _make_engine(self._connect)
        try:
            if upgrade:
                with self._engine.connect() as connection:
                    # A throw-away file is nobody's: to tell of its schema would look as if that of another were meant.
                    upgrade_schema(connection, told_at=logging.INFO if self.durable else logging.DEBUG)
            with self._lock:
                self._connected_reader()
        except sa.exc.DatabaseError as error:
            raise self._not_usable(error.orig) from None
        except sqlite3.DatabaseError as error:
            raise self._not_usable(error) from None
        status = self.path.stat()
        self.identity = f"sqlite:{status.st_dev}:{status.st_ino}"

    def _not_usable(self, error: BaseException | None) -> BaseException:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_CORRUPT")):
            return ConfigurationError(
                f"{self.path} cannot be used as the database file ({name}); "
                "name another one in memory.persistent.connection_string, or make its folder writable."
            )
        return RuntimeError("unknown error") if error is None else translate(error)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        _use_write_ahead_log(connection)
        connection.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'OFF'}")
        connection.execute("PRAGMA foreign_keys = ON")
        # What was erased is overwritten: a person who was forgotten must not be found in the file's free pages.
        connection.execute("PRAGMA secure_delete = ON")
        return connection

    async def close(self) -> None:
        workers = [self._writing, self._reading]
        self._writing = self._reading = None
        for worker in workers:
            if worker is not None:
                await worker.close()
        self._disconnect()

    def abandon(self, *, forked: bool) -> None:
        # Before a fork every connection was closed: either way those that are open now are this process's.
        workers = [self._writing, self._reading]
        self._writing = self._reading = None
        for worker in workers:
            if worker is not None:
                worker.stop()
        self._disconnect()

    def _disconnect(self) -> None:
        with self._write_gate, self._read_gate, self._lock:
            self._let_go()
            self._engine = None

    def _let_go(self) -> None:
        """Close every connection; as long as there is an engine, they are opened again when they are needed."""
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None
        if self._engine is not None:
            self._engine.dispose()

    def _hold_for_fork(self) -> None:
        """Let what runs end, and close every connection.

        SQLite keeps account of a process's locks in memory. A child that inherits it takes locks for held that are
        the parent's or nobody's: the parent then deletes a write-ahead log that the child still writes to.
        """
        for gate in (self._write_gate, self._read_gate, self._lock):
            gate.acquire()
        self._let_go()

    def _release_after_fork(self) -> None:
        for gate in (self._lock, self._read_gate, self._write_gate):
            gate.release()

    def _free_after_fork(self) -> None:
        self._write_gate, self._read_gate, self._lock = threading.Lock(), threading.Lock(), threading.Lock()

    async def transact(self, work: Work[T]) -> T:
        return await self._in_thread(self._writing, self._run, work, "IMMEDIATE")

    async def read(self, work: Work[T]) -> T:
        return await self._in_thread(self._reading, self._run, work, "DEFERRED")

    async def gather(self, gathering: Gathering, parameters: Mapping[str, Any]) -> Found:
        def work(connection: Connection) -> Found:
            return gathering.read_from(_driver(connection), parameters)

        return await self.read(work)

    def _run(self, work: Work[T], begin: str) -> T:
        with self._write_gate if begin == "IMMEDIATE" else self._read_gate:
            return self._run_gated(work, begin)

    def _run_gated(self, work: Work[T], begin: str) -> T:
        if self._engine is None:
            raise closed()
        try:
            with (
                self._engine.connect().execution_options(muxi_begin=begin) as connection,
                connection.begin() as running,
            ):
                result = work(connection)
                if begin == "DEFERRED":
                    running.rollback()  # nothing was written; of a damaged file, a commit would fail
                return result
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, sqlite3.Error) as error:
            raise translate(error) from None

    async def scrub(self) -> None:
        await self._in_thread(self._writing, self._scrub)

    def _scrub(self) -> None:
        """Merge the search index: until then it holds the words of memories that were erased. And empty the
        write-ahead log, which holds the pages as they were before."""
        if self._engine is None:
            raise closed()
        with self._write_gate, self._engine.connect() as checked_out:
            connection = checked_out.connection.driver_connection
            assert isinstance(connection, sqlite3.Connection)
            # Writers wait while this waits for readers. Where those take too long, a later checkpoint does it.
            connection.execute(f"PRAGMA busy_timeout = {_SCRUB_MILLISECONDS}")
            try:
                # One write transaction. Where nothing was changed since the last time, it does nothing.
                connection.execute("INSERT INTO muxi_memory_words (muxi_memory_words) VALUES ('optimize')")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.Error as error:
                logger.warning("cannot scrub what was erased: %s", getattr(error, "sqlite_errorname", "error"))
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")

    @staticmethod
    async def _in_thread(worker: Worker | None, work: Callable[..., T], *args: Any) -> T:
        if worker is None:
            raise closed()
        return await worker.run(work, *args)

    def look_up_now(self, formation_id: str, bucket: bytes) -> list[BucketRow]:
        return [BucketRow._make(row) for row in self._fetch(LOOK_UP_ONE_SQLITE, formation_id, [bucket])]

    async def look_up(self, formation_id: str, buckets: Sequence[bytes]) -> list[BucketRow]:
        return [BucketRow._make(row) for row in self._fetch(LOOK_UP_ONE_SQLITE, formation_id, buckets)]

    async def find_members(self, formation_id: str, public_ids: Sequence[str]) -> list[MemberRow]:
        return [MemberRow._make(row) for row in self._fetch(FIND_MEMBER_SQLITE, formation_id, public_ids)]

    def _fetch(self, statement: str, formation_id: str, names: Iterable[object]) -> list[Any]:
        try:
            with self._lock:
                reader = self._connected_reader()
                return [row for name in names for row in reader.execute(statement, (formation_id, name))]
        except sqlite3.Error as error:
            raise translate(error) from None

    def _connected_reader(self) -> sqlite3.Connection:
        if self._engine is None:
            raise closed()
        if self._reader is None:
            self._reader = self._connect()
            self._readers += 1
        return self._reader

    def data_version(self) -> tuple[int, int]:
        """Return what changes when another connection, of any process, has committed."""
        with self._lock:
            version = self._connected_reader().execute("PRAGMA data_version").fetchone()[0]
            return self._readers, int(version)  # each connection counts from a beginning of its own

    def epoch(self, formation_id: str) -> int:
        """Return the formation's identity epoch: raised by changes that can make a cached answer wrong."""
        with self._lock:
            row = (
                self._connected_reader()
                .execute("SELECT epoch FROM muxi_formations WHERE formation_id = ?1", (formation_id,))
                .fetchone()
            )
        return int(row[0]) if row else 0

    async def create_person(self, formation_id: str, person: NewPerson, change: Change) -> CreatedPerson | None:
        return await self._write(lambda writer: insert_person(writer, formation_id, person, change))

    async def extend_person(
        self,
        formation_id: str,
        person: NewPerson,
        change: Change,
        *,
        limit: int,
        caps: Sequence[tuple[str, int]],
    ) -> tuple[CreatedPerson, str] | None:
        return await self._write(lambda writer: extend_person(writer, formation_id, person, change, limit, caps))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._in_thread(self._writing, self._write_now, work)

    def _write_now(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._write_gate:
            if self._engine is None:
                raise closed()
            try:
                writer = self._writer = self._writer or self._connect()
            except sqlite3.Error as error:
                raise translate(error) from None
            try:
                writer.execute("BEGIN IMMEDIATE")
                result = work(writer)
                writer.execute("COMMIT")
            except sqlite3.Error as error:
                raise translate(error) from None
            finally:
                if writer.in_transaction:
                    writer.rollback()
            return result

    def new_keys(self, connection: Connection, formation_id: str, number: int) -> list[int]:
        end: int = connection.execute(
            sa.update(formations)
            .where(formations.c.formation_id == formation_id)
            .values(next_key=formations.c.next_key + number)
            .returning(formations.c.next_key)
        ).scalar_one()
        return list(range(end - number, end))

    def read_buckets(self, connection: Connection, formation_id: str, buckets: Sequence[bytes]) -> list[BucketRow]:
        read = _driver(connection).execute
        return [BucketRow._make(row) for bucket in buckets for row in read(READ_BUCKET_SQLITE, (formation_id, bucket))]

    def insert_rows(
        self, connection: Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        names, values = ", ".join(columns), ", ".join("?" * len(columns))
        # Names of our own tables; whoever calls has none from anywhere else.
        _driver(connection).executemany(f"INSERT INTO {table.name} ({names}) VALUES ({values})", rows)  # noqa: S608


_alive: weakref.WeakSet[SqliteDatabase] = weakref.WeakSet()
_forking = threading.Lock()
_held: list[SqliteDatabase] = []


def _before_fork() -> None:
    _forking.acquire()
    _held.extend(_alive)
    for database in _held:
        database._hold_for_fork()


def _after_fork_in_parent() -> None:
    for database in _held:
        database._release_after_fork()
    _held.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    for database in _held:
        database._free_after_fork()
    _held.clear()
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _has_full_text_search() -> bool:
    connection = sqlite3.connect(":memory:")
    try:
        return connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone() is not None
    finally:
        connection.close()


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # A connection's first statement can be refused without the wait that SQLite does for other locks: while another
    # process changes a new file's mode, or removes the log because it closes the last connection.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname not in {"SQLITE_BUSY", "SQLITE_BUSY_RECOVERY"} or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 (no secret)
        else:
            return


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _make_engine(connect: Any) -> sa.Engine:
    engine = sa.create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, pool_size=2, max_overflow=0, hide_parameters=True
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock before anything is read: what a transaction decides on stays true.
        kind = connection.get_execution_options().get("muxi_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _make_home(path: Path, ignore_in_git: bool) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ignore_in_git and not (path.parent / ".gitignore").exists():
            (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
        # People's memories are nobody else's business: the file is made private before anything is written to it.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be made ({error.strerror}); name another file in memory.persistent.connection_string "
            "or set MUXI_HOME to a folder that can be written."
        ) from error
