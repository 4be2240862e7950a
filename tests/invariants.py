"""What is true of a formation's tables after any operation, however it raced, failed or was cancelled."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Collection
from typing import Any

import asyncpg
from sqlalchemy import Connection

from muxi_identity.config import FormationConfig
from muxi_identity.context.inspection import inspect_formation
from muxi_identity.identity.keys import key_file
from muxi_identity.storage.checks import BROKEN, Finding, check_rows
from muxi_identity.storage.opening import make_database
from muxi_identity.storage.tables import metadata

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


async def check_invariants(
    config: FormationConfig, *, now: int | None = None, rules: Collection[str] | None = None
) -> Tables:
    """Ask every rule that rows must keep, and return what was read. ``now`` in microseconds, for a test's own clock.

    The rules are those of ``muxi db check``: each has a planted fault in tests/integration/test_checks.py. ``rules``
    names those that are asked where a test writes rows that mean nothing.
    """
    found = await check_formation(config, time.time_ns() // 1000 if now is None else now)
    broken = [each for each in found if each.level == BROKEN and (rules is None or each.rule in rules)]
    assert not broken, broken
    return await read_tables(config)


async def check_formation(config: FormationConfig, now: int) -> list[Finding]:
    """Return what is wrong with the formation's rows, but for what constraints keep."""
    database = make_database(config.database)
    await database.open(upgrade=False)
    try:

        def work(connection: Connection) -> list[Finding]:
            found = check_rows(connection, now, config.id, constraints=False)
            secret = _secret(config)
            return found if secret is None else found + inspect_formation(connection, config, secret, now)

        findings: list[Finding] = await database.read(work)
        return findings
    finally:
        await database.close()


def _secret(config: FormationConfig) -> str | None:
    if config.secret_key is not None:
        return config.secret_key.reveal()
    assert config.database.path is not None
    path = key_file(config.database.path)
    return path.read_text().strip() if path.exists() else None


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
