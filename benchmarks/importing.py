"""A file of people with three identifiers each, beside a bare COPY (SQLite: executemany) of the rows that it made."""

from __future__ import annotations

import itertools
import json
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.blocks import Block, compare, timed
from benchmarks.floors import FORMATION
from benchmarks.places import Place
from benchmarks.results import Row, Target

PEOPLE = 100_000
QUICK_PEOPLE = 300
ROUNDS = 3
_TABLES = ("muxi_users", "muxi_identifiers", "muxi_history")
_numbers = itertools.count()
Copied = list[tuple[str, list[str], list[tuple[Any, ...]]]]


async def measure(place: Place, blocks: int) -> list[Row]:
    """``import_users`` of a file that nobody of is known, in an otherwise filled formation."""
    people = PEOPLE if blocks > 2 else QUICK_PEOPLE
    with tempfile.TemporaryDirectory(prefix="muxi-bench-") as folder:
        made: list[str] = []
        rounds = ROUNDS if blocks > 2 else 1
        found = await compare(_ours(place, people, Path(folder), made), _floor(place, people, made), rounds, warm_up=0)
    note = f"{'COPY' if place.database == 'postgres' else 'executemany'} of the same {people * 8:,} rows, commit"
    return [Row.of(f"import of {people:,} people", place.database, found, Target("ratio", 0.4, True), note, rates=True)]


def _ours(place: Place, people: int, folder: Path, made: list[str]) -> Block:
    async def block() -> list[float]:
        name = f"i{next(_numbers)}"
        path = folder / f"{name}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number in range(people):
                who = f"{name}-{number}"
                row = [f"{who}@example.com", [f"U-{who}", "slack"], [who, "github"]]
                file.write(json.dumps({"identifiers": row}) + "\n")
        made.append(name)
        return [await timed(lambda: place.client.import_users(path, source=name))]

    return block


def _floor(place: Place, people: int, made: list[str]) -> Block:
    """The rows of the last import, under another formation, in one transaction; read before the time is taken."""

    async def block() -> list[float]:
        if not made:  # the floor's turn comes first: rows like those that come
            await _ours(place, people, Path(tempfile.gettempdir()), made)()
        write = _copy if place.database == "postgres" else _execute
        return [await write(place, made.pop())]

    return block


async def _copy(place: Place, name: str) -> float:
    assert place.config.database.url is not None
    connection = await asyncpg.connect(place.config.database.url.reveal())
    try:
        tables: Copied = []
        for table in _TABLES:
            found = await connection.fetch(_rows_of(table, "$1"), name)
            columns = list(found[0].keys())
            tables.append((table, columns, _under_another_formation(columns, found)))

        async def write() -> None:
            async with connection.transaction():
                for table, columns, rows in tables:
                    await connection.copy_records_to_table(table, columns=columns, records=rows)

        return await timed(write)
    finally:
        await connection.close()


async def _execute(place: Place, name: str) -> float:
    connection = sqlite3.connect(str(place.config.database.path), isolation_level=None)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        tables: Copied = []
        for table in _TABLES:
            cursor = connection.execute(_rows_of(table, "?1"), (name,))
            columns = [column[0] for column in cursor.description]
            tables.append((table, columns, _under_another_formation(columns, cursor.fetchall())))

        async def write() -> None:
            connection.execute("BEGIN IMMEDIATE")
            for table, columns, rows in tables:
                values = ", ".join("?" * len(columns))
                connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})", rows)
            connection.execute("COMMIT")

        return await timed(write)
    finally:
        connection.close()


def _rows_of(table: str, name: str) -> str:
    """Return the statement for the rows of a table that the import of this source made."""
    events = "SELECT * FROM muxi_history WHERE source = {0}"
    if table == "muxi_users":
        return f"SELECT u.* FROM muxi_users u JOIN ({events} AND event = 'user:create') h".format(name) + (
            " ON h.formation_id = u.formation_id AND h.user_id = u.public_id"
        )
    return f"SELECT * FROM {table} WHERE source = {name}"


def _under_another_formation(columns: Sequence[str], rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    place = list(columns).index("formation_id")
    return [(*row[:place], FORMATION, *row[place + 1 :]) for row in map(tuple, rows)]
