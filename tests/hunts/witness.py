"""The witness: the database itself writes down what happens in it.

Triggers note every change of an identity and every write under a person, in the transaction that makes it. So what the
witness holds is what was committed, whatever the caller was told: an error of unknown outcome needs no guess.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import asyncpg

from muxi_identity.config import FormationConfig
from muxi_identity.storage.tables import metadata

OWNED = ("memories", "messages", "preferences")
WATCHED = ("users", "identifiers", "history", *OWNED)


class Noted(NamedTuple):
    """One row as a transaction left it, or as it was when the transaction deleted it."""

    table: str
    verb: str
    row: dict[str, Any]


class Committed(NamedTuple):
    """One transaction. ``at`` is its commit by the machine's wall clock, in seconds; nobody saw it before.

    ``over``, where that is known: everybody who looks after it sees it.
    """

    at: float
    notes: list[Noted]
    over: float | None = None

    def by_clock_of(self, ahead: float) -> Committed:
        """Return the same by a clock that the wall clock is ``ahead`` of."""
        return Committed(self.at - ahead, self.notes, None if self.over is None else self.over - ahead)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the history says of it."""
        return [note.row for note in self.notes if note.table == "history" and note.verb == "INSERT"]


async def install(config: FormationConfig) -> None:
    """Set the witness up in the database of ``config``, whose schema is there."""
    if config.database.path is not None:
        connection = sqlite3.connect(config.database.path)
        try:
            connection.executescript("\n".join(_sqlite_statements()))
        finally:
            connection.close()
        return
    admin = await connect(config)
    try:
        await admin.execute("\n".join(_postgres_statements()))
    finally:
        await admin.close()


async def connect(config: FormationConfig) -> asyncpg.Connection:
    """Return a connection to the PostgreSQL of ``config``, around every proxy."""
    assert config.database.url is not None
    return await asyncpg.connect(config.database.url.reveal())


async def testify(config: FormationConfig) -> list[Committed]:
    """Return what was committed, in the order of the commits."""
    if config.database.path is not None:
        return _read_sqlite(config)
    admin = await connect(config)
    try:
        rows = await admin.fetch(
            "SELECT kind, row, xid, extract(epoch FROM pg_xact_commit_timestamp(xid))::float8 AS at"
            " FROM hunt_witness WHERE row ->> 'formation_id' = $1 ORDER BY at, xid::text::int8, seq",
            config.id,
        )
    finally:
        await admin.close()
    found: dict[int, Committed] = {}
    for row in rows:
        found.setdefault(row["xid"], Committed(row["at"], [])).notes.append(_noted(row["kind"], row["row"]))
    return list(found.values())


def _postgres_statements() -> Iterator[str]:
    yield """
        CREATE TABLE hunt_witness (seq bigserial PRIMARY KEY, xid xid NOT NULL, kind text NOT NULL, row jsonb NOT NULL);
        CREATE FUNCTION hunt_note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO hunt_witness (xid, kind, row) VALUES (
                pg_current_xact_id()::xid, TG_TABLE_NAME || ' ' || TG_OP,
                CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END);
            RETURN NULL;
        END $$;"""
    for name in WATCHED:
        yield (
            f"CREATE TRIGGER hunt_{name} AFTER INSERT OR UPDATE OR DELETE ON muxi_{name}"
            " FOR EACH ROW EXECUTE FUNCTION hunt_note();"
        )


def _sqlite_statements() -> Iterator[str]:
    yield "CREATE TABLE hunt_witness (seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, kind TEXT, row TEXT);"
    for name in WATCHED:
        columns = [column.name for column in metadata.tables[f"muxi_{name}"].columns if column.name != "bucket"]
        for verb in ("INSERT", "UPDATE", "DELETE"):
            state = "OLD" if verb == "DELETE" else "NEW"
            row = ", ".join(f"'{column}', {state}.{column}" for column in columns)
            yield (
                f"CREATE TRIGGER hunt_{name}_{verb} AFTER {verb} ON muxi_{name} BEGIN"
                " INSERT INTO hunt_witness (at, kind, row) VALUES"
                f" ((julianday('now') - 2440587.5) * 86400.0, 'muxi_{name} {verb}', json_object({row})); END;"
            )


def _read_sqlite(config: FormationConfig) -> list[Committed]:
    connection = sqlite3.connect(config.database.path)
    try:
        rows = connection.execute("SELECT at, kind, row FROM hunt_witness ORDER BY seq").fetchall()
    finally:
        connection.close()
    found: list[Committed] = []
    open_: Committed | None = None
    for at, kind, row in rows:
        note = _noted(kind, row)
        if note.row["formation_id"] != config.id or (note.table == "history" and note.verb != "INSERT"):
            continue
        # There is one writer at a time, and a transaction that changes an identity writes its history last: whoever
        # writes next began when that one was there for everybody.
        if open_ is not None and open_.events and note.table != "history":
            found.append(open_._replace(over=at))
            open_ = None
        if note.table in OWNED:
            found.append(Committed(at, [note]))
            continue
        # Not committed before the last of its rows was written.
        open_ = Committed(at, [*(open_.notes if open_ else []), note])
    return found if open_ is None else [*found, open_]


def _noted(kind: str, row: str) -> Noted:
    table, verb = kind.split(" ")
    return Noted(table.removeprefix("muxi_"), verb, json.loads(row))
