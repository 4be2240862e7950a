"""A dry run: the real import, into a throw-away copy of what it speaks of.

Nothing is decided otherwise than it would be, nothing is locked, and however many rows there are, what one of them
does to a later one is seen. Before each batch, whoever has one of its identifiers is copied: the users of the person,
all their identifiers, and who was taken apart from whom.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, insert, or_, select
from sqlalchemy.dialects import sqlite

from muxi_identity.identifiers import PublicId
from muxi_identity.identity.associating import Associator
from muxi_identity.identity.cache import IdentityCache
from muxi_identity.identity.lookup import Lookup
from muxi_identity.identity.resolving import Resolver
from muxi_identity.identity.running import Runner
from muxi_identity.identity.transaction import Transaction
from muxi_identity.importing.rows import Row
from muxi_identity.storage.sqlite import SqliteDatabase
from muxi_identity.storage.tables import formations, identifiers, separations, users

_FIRST_KEY = 1 << 60  # far from every key that is copied
_AT_ONCE = 500
_CACHE = 1_000

_Found = list[dict[str, Any]]


class Rehearsal:
    """The copy: a formation of the same id, key and rules on a throw-away SQLite file."""

    def __init__(self, real: Runner, database: SqliteDatabase) -> None:
        self._real = real
        self._database = database
        cache = IdentityCache(60.0, _CACHE)
        self.runner = Runner(database, real.formation_id, cache, real.bucket, real.rules, real.match, real.clock)
        self._lookup = Lookup(database, real.formation_id, cache, real.bucket, real.clock.now)
        self.associator = Associator(self.runner, Resolver(self.runner, self._lookup))

    async def prepare(self, rows: Sequence[Row]) -> None:
        """Copy whoever a batch speaks of."""
        buckets = {bucket for row in rows for bucket in (*row.buckets, row.user_bucket) if bucket is not None}
        user_ids = {row.user.user_id for row in rows if isinstance(row.user, PublicId)}
        found = await self._real.read(lambda tx: _people_of(tx, buckets, user_ids))
        await self._database.transact(lambda connection: _copy(connection, found))

    async def close(self) -> None:
        """Close the copy."""
        await self._lookup.close()
        await self._database.close()


@asynccontextmanager
async def rehearsing(real: Runner) -> AsyncIterator[Rehearsal]:
    """Make a copy, and throw it away at the end."""
    folder = tempfile.mkdtemp(prefix="muxi-")
    try:
        database = SqliteDatabase(Path(folder) / "rehearsal.db", durable=False)
        await database.open()
        rehearsal = Rehearsal(real, database)
        try:
            await database.transact(lambda connection: _begin(connection, real))
            yield rehearsal
        finally:
            await rehearsal.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _begin(connection: Connection, real: Runner) -> None:
    connection.execute(
        insert(formations).values(
            formation_id=real.formation_id,
            created_at=real.clock.now(),
            key_check=real.bucket.check,
            next_key=_FIRST_KEY,
        )
    )


def _people_of(tx: Transaction, buckets: Collection[bytes], user_ids: Collection[str]) -> dict[Table, _Found]:
    """Return the rows of these buckets, and all rows of the people who have them or these public ids."""
    tx.find_member("")  # the transaction begins with what is read by name; what is read raw belongs to it then
    rows = tx.database.read_buckets(tx.connection, tx.formation_id, sorted(buckets))
    roots = {row.root_pk for row in rows if row.root_pk is not None}
    for part in _parts(sorted(user_ids)):
        statement = select(users.c.root_pk).where(tx.users_where(users.c.public_id.in_(part)))
        roots.update(tx.connection.execute(statement).scalars())
    found: dict[Table, _Found] = {users: [], identifiers: [], separations: []}
    members: list[int] = []
    for part in _parts(sorted(roots)):
        read = _read(tx, users, users.c.root_pk.in_(part))
        found[users] += read
        members += [row["pk"] for row in read]
    for part in _parts(members):
        found[identifiers] += _read(tx, identifiers, identifiers.c.user_pk.in_(part))
        apart = or_(separations.c.one_pk.in_(part), separations.c.other_pk.in_(part))
        found[separations] += _read(tx, separations, apart)
    for part in _parts(sorted(row.bucket for row in rows if row.user_pk is None)):  # of keys whose user is gone
        found[identifiers] += _read(tx, identifiers, identifiers.c.bucket.in_(part))
    return found


def _read(tx: Transaction, table: Table, condition: Any) -> _Found:
    statement = select(table).where(table.c.formation_id == tx.formation_id, condition)
    return [dict(row._mapping) for row in tx.connection.execute(statement)]


def _parts(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE)]


def _copy(connection: Connection, found: dict[Table, _Found]) -> None:
    # What was copied before, and what this dry run has changed since, stays as it is.
    connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    for table, rows in found.items():
        if rows:
            connection.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)
