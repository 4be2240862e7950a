"""Millions of people who are there before anything is measured: COPY, or a connection that waits for no disk.

The rows are those that :mod:`benchmarks.seeding` makes, with their real buckets; what is left out is the care: a crash
while this loads costs the database, and no key is checked.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg

from benchmarks.places import Place
from benchmarks.seeding import given, public_id
from muxi_identity.identifiers import parse_identifier

SERVER = {
    "shared_buffers": "4GB",
    "max_wal_size": "32GB",
    "checkpoint_timeout": "1h",
    # A table that was emptied in the same transaction is then filled without being written twice.
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
"""Settings of a server that millions are loaded into."""

_BATCH = 50_000
_FIRST_KEY = 1 << 20
_KEYS = 4  # of each person: user, identifier, two history rows
_BEGAN = 1_700_000_000_000_000
_USERS = ("formation_id", "pk", "public_id", "root_pk", "created_at")
_IDENTIFIERS = (
    "formation_id",
    "pk",
    "user_pk",
    "bucket",
    "slot",
    "type",
    "value",
    "spelling",
    "secret",
    "linked_at",
)
_HISTORY = ("formation_id", "pk", "at", "event", "user_id", "identifier_pk", "actor")
_TABLES = (("muxi_users", _USERS), ("muxi_identifiers", _IDENTIFIERS), ("muxi_history", _HISTORY))
Batch = tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[tuple[Any, ...]]]


async def load(place: Place, number: int) -> None:
    """Fill the empty formation of ``place`` with ``number`` users of an identifier and two history rows each.

    Clients that are open keep plans for empty tables: open another one afterwards.
    """
    last_key = _FIRST_KEY + _KEYS * number
    if place.config.database.provider == "sqlite":
        assert place.config.database.path is not None
        with contextlib.closing(sqlite3.connect(place.config.database.path)) as connection:
            _load_sqlite(connection, place, number, last_key)
        return
    assert place.config.database.url is not None
    server = await asyncpg.connect(place.config.database.url.reveal())
    try:
        async with server.transaction():
            await server.execute("SET LOCAL session_replication_role = replica")
            await server.execute("TRUNCATE muxi_users, muxi_identifiers, muxi_history CASCADE")
            for batch in _batches(place, number):
                for (table, columns), rows in zip(_TABLES, batch, strict=True):
                    await server.copy_records_to_table(table, records=rows, columns=columns)
            await server.execute("SELECT setval('muxi_keys', $1::bigint)", last_key)
        await server.execute("VACUUM (ANALYZE)")
    finally:
        await server.close()


def _load_sqlite(connection: sqlite3.Connection, place: Place, number: int, last_key: int) -> None:
    connection.isolation_level = None
    for setting in ("synchronous = OFF", "foreign_keys = OFF", "cache_size = -4000000"):
        connection.execute(f"PRAGMA {setting}")
    for batch in _batches(place, number):
        connection.execute("BEGIN IMMEDIATE")
        for (table, columns), rows in zip(_TABLES, batch, strict=True):
            values = ", ".join("?" for _ in columns)
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})", rows)
        connection.execute("COMMIT")
    connection.execute("UPDATE muxi_formations SET next_key = ? WHERE formation_id = ?", (last_key, place.config.id))
    connection.execute("ANALYZE")


def _batches(place: Place, number: int) -> Iterator[Batch]:
    for first in range(0, number, _BATCH):
        yield _batch(place, range(first, min(number, first + _BATCH)))


def _batch(place: Place, wanted: Sequence[int]) -> Batch:
    formation_id = place.config.id
    people: list[tuple[Any, ...]] = []
    names: list[tuple[Any, ...]] = []
    events: list[tuple[Any, ...]] = []
    keys = itertools.count(_FIRST_KEY + _KEYS * wanted[0])
    for number in wanted:
        parsed = parse_identifier(given(number))
        user_id, at = public_id(number), _BEGAN + number
        user, identifier = next(keys), next(keys)
        people.append((formation_id, user, user_id, user, at))
        bucket = place.bucket(parsed.fold)
        names.append((formation_id, identifier, user, bucket, 0, parsed.type, parsed.value, parsed.spelling, False, at))
        events.append((formation_id, next(keys), at, "user:create", user_id, None, "seed"))
        events.append((formation_id, next(keys), at, "identifier:link", user_id, identifier, "seed"))
    return people, names, events
