"""PostgreSQL: what several machines need. Raw prepared statements where speed counts, SQLAlchemy elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import IsolationLevel

from muxi_identity.errors import ConfigurationError, StorageUnavailableError
from muxi_identity.postgres_config import ConnectionLimits
from muxi_identity.storage.connecting import DRIVER_ERRORS, Connector
from muxi_identity.storage.connections import HeldConnections
from muxi_identity.storage.database import Database, Work
from muxi_identity.storage.ears import PostgresEars, refused
from muxi_identity.storage.errors import (
    ConnectionLost,
    RaceLost,
    ServerIsReadOnly,
    StatementsLost,
    closed,
    translate,
)
from muxi_identity.storage.gathering import Found, Gathering
from muxi_identity.storage.migrate import upgrade as upgrade_schema
from muxi_identity.storage.places import Places
from muxi_identity.storage.rows import BucketRow, Change, CreatedPerson, MemberRow, NewPerson
from muxi_identity.storage.statements import (
    CREATE_PERSON,
    EXTEND_PERSON,
    FIND_MEMBERS,
    FIND_OR_CREATE,
    LOOK_UP_MANY,
    LOOK_UP_ONE,
    READ_BUCKETS,
)
from muxi_identity.storage.transactions import Transactions

T = TypeVar("T")
_READERS = 1
_WRITERS = 4
_GATHERERS = 4
# A look-up that takes longer is of no use to anybody.
_HOT_SECONDS = 10.0
_DEFAULT_LIMITS = ConnectionLimits()
_TELL = sa.text("SELECT pg_notify(:channel, :payload)")
_TELL_IF_WRITABLE = sa.text(f"{_TELL.text} WHERE current_setting('transaction_read_only') = 'off'")
_UNUSABLE = {
    "28": "refused the user or password",
    "3D": "does not have that database",
    "42": "does not let this user make the schema",
}

# After a fork the child must neither use nor close what the parent opened. Kept here so that nothing is collected.
_abandoned: list[object] = []


class PostgresDatabase(Database):
    """A database reached by ``url`` (``postgresql://user:password@host:port/name``).

    Look-ups have a connection of their own, so that they wait neither for a writer nor for a load. Connections are
    opened when they are first needed, except the first. ``listen_url`` is the same database, reached without a pooler
    that would swallow LISTEN.
    """

    dialect = "postgresql"
    inline = False
    lock_rows = True

    def __init__(self, url: str, limits: ConnectionLimits = _DEFAULT_LIMITS, *, listen_url: str | None = None) -> None:
        self._url = url
        self._listen_url = listen_url or url
        self._limits = limits
        self.most_waiting = limits.max_waiting
        self._start()

    def _start(self) -> None:
        seconds = self._limits.connect_timeout
        self._connector = Connector(self._url, seconds, prepares=self._limits.prepared_statements)
        self._listening = Connector(self._listen_url, seconds, prepares=False)
        self._engine: Transactions | None = None
        self._reading = self._hold(_READERS)
        self._writing = self._hold(_WRITERS)
        self._gathering = self._hold(_GATHERERS)

    def _hold(self, number: int) -> HeldConnections:
        seconds = min(_HOT_SECONDS, self._limits.statement_timeout)
        return HeldConnections(self._connector, number, self._line(number), seconds)

    def _line(self, number: int) -> Places:
        return Places(number, most_waiting=self._limits.max_waiting, seconds=self._limits.wait_timeout)

    async def open(self, *, upgrade: bool = True) -> None:
        number = self._limits.pool_size
        self._engine = Transactions(self._connector, number, self._line(number), self._limits.statement_timeout)
        try:
            if upgrade:
                await self._engine.run_apart(upgrade_schema)
            system, name = await self.read(_name_database)
        except BaseException as error:
            await self.close()
            raise _not_usable(error) from error
        self.identity = f"postgresql:{system}:{name}"

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        # All at once: a server that does not answer holds each of them up as long.
        closing = [held.close() for held in (self._reading, self._writing, self._gathering)]
        if engine is not None:
            closing.append(engine.close())
        await asyncio.gather(*closing)

    def abandon(self, *, forked: bool) -> None:
        if forked:
            _abandoned.extend([self._engine, self._reading, self._writing, self._gathering])
        else:
            self._connector.cut_off()
            self._listening.cut_off()
        self._start()

    async def transact(self, work: Work[T]) -> T:
        return await self._run(work, "READ COMMITTED")

    async def read(self, work: Work[T]) -> T:
        # One snapshot for all that is read: what was checked first holds for what is read next.
        try:
            return await self._run(work, "REPEATABLE READ")
        except ConnectionLost:
            return await self._run(work, "REPEATABLE READ")

    async def _run(self, work: Work[T], isolation: IsolationLevel) -> T:
        if self._engine is None:
            raise closed()
        return await self._engine.run(work, isolation)

    async def gather(self, gathering: Gathering, parameters: Mapping[str, Any]) -> Found:
        arguments = gathering.arguments(parameters)
        try:
            (row,) = await self._gathering.fetch(gathering.one_statement.text, *arguments, repeat=True)
        except DRIVER_ERRORS as error:
            raise translate(error) from None
        return gathering.read_row(row)

    async def look_up(self, formation_id: str, buckets: Sequence[bytes]) -> list[BucketRow]:
        # Without a coroutine in between: each takes a hundredth of a look-up.
        statement, wanted = (LOOK_UP_ONE, buckets[0]) if len(buckets) == 1 else (LOOK_UP_MANY, buckets)
        try:
            rows = await self._reading.fetch(statement, formation_id, wanted, repeat=True)
        except DRIVER_ERRORS as error:
            raise translate(error) from None
        return [BucketRow._make(row) for row in rows]

    async def find_members(self, formation_id: str, public_ids: Sequence[str]) -> list[MemberRow]:
        return [MemberRow._make(row) for row in await self._fetch(FIND_MEMBERS, formation_id, public_ids)]

    async def _fetch(self, statement: str, *arguments: Any) -> list[Any]:
        try:
            return await self._reading.fetch(statement, *arguments, repeat=True)
        except DRIVER_ERRORS as error:
            raise translate(error) from None

    async def create_person(self, formation_id: str, person: NewPerson, change: Change) -> CreatedPerson | None:
        rows = await self._write(
            CREATE_PERSON,
            *_columns(formation_id, person, change),
            change.at if person.established else None,
        )
        return CreatedPerson(rows[0]["user_pk"], rows[0]["identifier_pks"]) if rows else None

    async def find_or_create(self, formation_id: str, person: NewPerson, change: Change) -> list[BucketRow] | None:
        if self._writing.busy:
            return None  # a look-up never waits for a writer
        (new,) = person.identifiers
        rows = await self._write(
            FIND_OR_CREATE,
            formation_id,
            new.bucket,
            new.type,
            new.scope,
            new.value,
            new.spelling,
            new.metadata,
            change.actor,
            change.source,
            change.reason,
            change.at,
            person.public_id,
            new.verified_at,
            new.expires_at,
        )
        return [BucketRow._make(row) for row in rows]

    async def extend_person(
        self,
        formation_id: str,
        person: NewPerson,
        change: Change,
        *,
        limit: int,
        caps: Sequence[tuple[str, int]],
    ) -> tuple[CreatedPerson, str] | None:
        rows = await self._write(
            EXTEND_PERSON,
            *_columns(formation_id, person, change),
            limit,
            [type_ for type_, _ in caps],
            [most for _, most in caps],
        )
        if not rows:
            return None
        return CreatedPerson(rows[0]["user_pk"], rows[0]["identifier_pks"]), rows[0]["public_id"]

    async def _write(self, statement: str, *arguments: Any) -> list[Any]:
        try:
            try:
                return await self._writing.fetch(statement, *arguments, repeat=False)
            except asyncpg.ReadOnlySQLTransactionError:
                self._connector.leave_server()
                return await self._writing.fetch(statement, *arguments, repeat=False)
        except DRIVER_ERRORS as error:
            raise translate(error) from None

    async def listen(
        self, channels: Sequence[str], heard: Callable[[str, str], None], lost: Callable[[], None]
    ) -> PostgresEars:
        return await PostgresEars.open(self._listening, channels, heard, lost, timeout=self._limits.connect_timeout)

    def tell(self, connection: Connection, channel: str, payload: str) -> None:
        connection.execute(_TELL, {"channel": channel, "payload": payload})

    async def notify(self, channel: str, payload: str) -> None:
        try:
            await self.transact(partial(_tell_if_writable, channel, payload))
        except (sa.exc.SQLAlchemyError, RaceLost, *DRIVER_ERRORS) as error:
            raise refused(error, "notify") from None

    def new_keys(self, connection: Connection, formation_id: str, number: int) -> list[int]:
        # One row whatever the number: thousands of rows take longer to be fetched than keys to be drawn.
        drawn = connection.execute(
            sa.text("SELECT array_agg(nextval('muxi_keys')) FROM generate_series(1, :number)"), {"number": number}
        )
        return list(drawn.scalar_one() or ())

    def read_buckets(self, connection: Connection, formation_id: str, buckets: Sequence[bytes]) -> list[BucketRow]:
        rows = _driver(connection).run_async(lambda driver: driver.fetch(READ_BUCKETS, formation_id, buckets))
        return [BucketRow._make(row) for row in rows]

    def insert_rows(
        self, connection: Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        _driver(connection).run_async(
            lambda driver: driver.copy_records_to_table(table.name, columns=columns, records=rows)
        )

    async def analyze(self, tables: Sequence[sa.Table]) -> None:
        names = ", ".join(table.name for table in tables)
        await self._run(lambda connection: connection.execute(sa.text(f"ANALYZE {names}")), "READ COMMITTED")

    def new_positions(self, connection: Connection, formation_id: str, number: int) -> list[int]:
        drawn = connection.execute(
            sa.text("SELECT nextval('muxi_outbox_positions') FROM generate_series(1, :number)"), {"number": number}
        )
        return list(drawn.scalars())


def _columns(formation_id: str, person: NewPerson, change: Change) -> list[Any]:
    new = person.identifiers
    columns: Iterable[Callable[[Any], Any]] = (
        lambda row: row.bucket,
        lambda row: row.type,
        lambda row: row.scope,
        lambda row: row.value,
        lambda row: row.spelling,
        lambda row: row.secret,
        lambda row: row.metadata,
        lambda row: row.verified_at,
        lambda row: row.expires_at,
    )
    arrays = [[column(row) for row in new] for column in columns]
    return [formation_id, *arrays, change.actor, change.source, change.reason, change.at, person.public_id]


def _driver(connection: Connection) -> Any:
    """Return what reaches the driver's own connection, in the transaction of ``connection``."""
    return connection.connection.dbapi_connection


def _tell_if_writable(channel: str, payload: str, connection: Connection) -> None:
    # A server that was made read-only still notifies, and is not the one where changes are told any more.
    if connection.execute(_TELL_IF_WRITABLE, {"channel": channel, "payload": payload}).first() is None:
        raise ServerIsReadOnly


def _name_database(connection: Connection) -> tuple[object, object]:
    row = connection.execute(
        sa.text(
            "SELECT (SELECT system_identifier FROM pg_control_system()), oid FROM pg_database"
            " WHERE datname = current_database()"
        )
    ).one()
    return row[0], row[1]


def _not_usable(error: BaseException) -> BaseException:
    translated = translate(error)
    if isinstance(translated, StatementsLost):
        return ConfigurationError(translated.message)
    cause: BaseException | None = error
    while cause is not None:
        state = getattr(cause, "sqlstate", None)
        if isinstance(state, str) and state[:2] in _UNUSABLE:
            return ConfigurationError(
                f"memory.persistent.connection_string: the PostgreSQL server {_UNUSABLE[state[:2]]} "
                f"(SQLSTATE {state}); mend the connection string or the server's rights."
            )
        cause = cause.__cause__
    if isinstance(translated, RaceLost):
        return StorageUnavailableError("Another session holds a lock that the schema upgrade needs; call again later.")
    return translated
