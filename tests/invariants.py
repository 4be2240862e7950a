"""What is true of a formation's tables after any operation, however it raced, failed or was cancelled.

Everything is read in one snapshot, and checked here in plain Python: nothing of the library is asked.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import asyncpg

from muxi_identity.config import FormationConfig
from muxi_identity.storage.tables import OWNED_TABLES, metadata

Row = dict[str, Any]
Tables = dict[str, list[Row]]
"""Table name without its prefix -> rows, in the order of their primary key."""


async def read_tables(config: FormationConfig) -> Tables:
    """Read every row of the formation, in one snapshot."""
    if config.database.provider == "sqlite":
        return _read_sqlite(config)
    assert config.database.url is not None
    connection = await asyncpg.connect(config.database.url.reveal())
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return {
                short: [dict(row) for row in await connection.fetch(statement.format("$1"), config.id)]
                for short, statement in _statements()
            }
    finally:
        await connection.close()


async def check_invariants(config: FormationConfig, *, now: int | None = None) -> Tables:
    """Check everything below, and return what was read. ``now`` in microseconds, for a clock of the test's own."""
    tables = await read_tables(config)
    _check_keys(tables)
    _check_users(tables)
    _check_identifiers(tables, time.time_ns() // 1000 if now is None else now)
    _check_owned_rows(tables)
    _check_merges(tables)
    _check_history(tables)
    return tables


def check_invariants_now(config: FormationConfig) -> Tables:
    """:func:`check_invariants` for a test without an event loop."""
    return asyncio.run(check_invariants(config))


def live(tables: Tables, now: int | None = None) -> list[Row]:
    """Return the identifiers that mean somebody."""
    at = time.time_ns() // 1000 if now is None else now
    return [
        row
        for row in tables["identifiers"]
        if row["unlinked_at"] is None and (row["expires_at"] is None or row["expires_at"] > at)
    ]


def events(tables: Tables, name: str) -> list[Row]:
    """Return the history's events of one kind, in order."""
    return [row for row in tables["history"] if row["event"] == name]


def _statements() -> list[tuple[str, str]]:
    return [
        (
            table.name.removeprefix("muxi_"),
            f"SELECT * FROM {table.name} WHERE formation_id = {{}}"
            f" ORDER BY {', '.join(column.name for column in table.primary_key)}",
        )
        for table in metadata.sorted_tables
    ]


def _read_sqlite(config: FormationConfig) -> Tables:
    connection = sqlite3.connect(f"file:{config.database.path}?mode=ro", uri=True, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("BEGIN")
        return {
            short: [dict(row) for row in connection.execute(statement.format("?"), (config.id,))]
            for short, statement in _statements()
        }
    finally:
        connection.close()


def _unique(values: Iterable[Any], what: str) -> None:
    twice = [value for value, number in Counter(values).items() if number > 1]
    assert not twice, f"{what} not unique: {twice}"


def _check_keys(tables: Tables) -> None:
    """A key is never given twice, in no table: a cache elsewhere may still know it."""
    keys = [row["pk"] for rows in tables.values() for row in rows if "pk" in row]
    _unique(keys, "keys")


def _check_users(tables: Tables) -> None:
    users = {row["pk"]: row for row in tables["users"]}
    for user in users.values():
        root = users.get(user["root_pk"])
        assert root is not None, f"root of {user} is gone"
        assert root["root_pk"] == root["pk"], f"root of {user} is no root: {root}"
        assert (user["parent_pk"] is None) == (user["root_pk"] == user["pk"]), f"half a root: {user}"
        top, steps = user, 0
        while top["parent_pk"] is not None:
            top, steps = users[top["parent_pk"]], steps + 1
            assert steps <= len(users), f"the parents of {user} go in a circle"
        assert top["pk"] == user["root_pk"], f"the parents of {user} lead to {top}"
    _unique((row["public_id"] for row in users.values()), "public ids")


def _check_identifiers(tables: Tables, now: int) -> None:
    users = {row["pk"] for row in tables["users"]}
    _unique(((row["bucket"], row["slot"]) for row in tables["identifiers"]), "bucket slots")
    for row in tables["identifiers"]:
        if row["user_pk"] is None:
            assert row["secret"], f"nobody's: {row}"
            assert row["unlinked_at"] is not None, f"nobody's: {row}"
        else:
            assert row["user_pk"] in users, f"owner of {row} is gone"
    # Of a secret the value is not kept: its bucket stands for it.
    _unique(
        ((row["type"], row["scope"], row["bucket"] if row["secret"] else row["value"]) for row in live(tables, now)),
        "live identifiers",
    )


def _check_owned_rows(tables: Tables) -> None:
    users = {row["pk"] for row in tables["users"]}
    owner_of = {row["pk"]: row["user_pk"] for row in tables["identifiers"]}
    for table in OWNED_TABLES:
        for row in tables[table.name.removeprefix("muxi_")]:
            assert row["user_pk"] in users, f"{table.name}: owner of {row} is gone"
            if row["identifier_pk"] is not None:
                assert owner_of.get(row["identifier_pk"]) == row["user_pk"], f"{table.name}: another's: {row}"
    sessions = {row["pk"]: row for row in tables["sessions"]}
    for message in tables["messages"]:
        session = sessions[message["session_pk"]]
        for name in ("user_pk", "identifier_pk"):
            assert message[name] == session[name], f"{message} lies in another's session {session}"


def _check_merges(tables: Tables) -> None:
    standing = [row for row in tables["merges"] if row["undone_at"] is None]
    _unique((row["secondary_pk"] for row in standing), "standing merges of one user")
    by_ledger = {row["secondary_pk"]: row["primary_pk"] for row in standing}
    by_parent = {row["pk"]: row["parent_pk"] for row in tables["users"] if row["parent_pk"] is not None}
    assert by_ledger == by_parent, "the ledger and the parents do not agree"
    users = {row["pk"] for row in tables["users"]}
    apart = {frozenset({row["one_pk"], row["other_pk"]}) for row in tables["separations"]}
    for row in tables["separations"]:
        assert {row["one_pk"], row["other_pk"]} <= users, f"of somebody who is gone: {row}"
    for row in tables["merges"]:
        if row["undone_at"] is not None:
            assert frozenset({row["primary_pk"], row["secondary_pk"]}) in apart, f"undone and not remembered: {row}"


def _check_history(tables: Tables) -> None:
    created = Counter(row["user_id"] for row in events(tables, "user:create"))
    for user in tables["users"]:
        assert created[user["public_id"]] == 1, f"{created[user['public_id']]} create events of {user}"
    linked = Counter(row["identifier_pk"] for row in events(tables, "identifier:link"))
    unlinked = Counter(row["identifier_pk"] for row in events(tables, "identifier:unlink"))
    for row in tables["identifiers"]:
        if row["user_pk"] is None:
            continue  # its user was deleted: the delete event speaks for it
        assert linked[row["pk"]] == 1, f"{linked[row['pk']]} link events of {row}"
        assert unlinked[row["pk"]] == (row["unlinked_at"] is not None), f"unlink events of {row}"
    merged = Counter(row["merge_id"] for row in events(tables, "user:merge"))
    for merge in tables["merges"]:
        assert merged[merge["merge_id"]] == 1, f"merge events of {merge}"
    undone = Counter(row["merge_id"] for row in events(tables, "user:unmerge"))
    for merge in tables["merges"]:
        assert undone[merge["merge_id"]] == (merge["undone_at"] is not None), f"unmerge events of {merge}"
