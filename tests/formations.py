"""What integration tests share: a clock of their own, clients that go by it, and dumps of every table."""

from __future__ import annotations

import sqlite3
from typing import Any

import asyncpg
import pytest

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.client.lifecycle import Lifecycle
from muxi_identity.config import FormationConfig
from muxi_identity.formation import Clock
from muxi_identity.identity import cache
from muxi_identity.identity.coherence import listener, listening, polling
from muxi_identity.storage.postgres import _tell_if_writable
from muxi_identity.storage.tables import metadata

Dump = dict[str, list[tuple[Any, ...]]]


class Time:
    """A clock that stands still but for a millisecond at each reading, and for what ``advance`` adds."""

    def __init__(self) -> None:
        self.at = 1_800_000_000_000_000

    def __call__(self) -> int:
        self.at += 1_000
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += int(seconds * 1e6)

    def monotonic(self) -> float:
        return self.at / 1e6

    def govern_caches(self, patch: pytest.MonkeyPatch) -> None:
        """Let cached entries grow old by this clock too, instead of by the machine's."""
        for module in (cache, listener, listening, polling):
            patch.setattr(module, "monotonic", self.monotonic)


def client_of(config: FormationConfig, time: Time | None = None) -> AsyncFormationClient:
    """Make a client; it opens with its first call."""
    client = AsyncFormationClient(config)
    if time is not None:
        client._lifecycle = Lifecycle(config, responder=None, clock=Clock(time))
    return client


async def dump(config: FormationConfig, *, formation_only: bool = True) -> Dump:
    """Return every row of every table, in order: of this formation, or of the whole database."""
    where = "WHERE formation_id = {}" if formation_only else ""
    arguments = (config.id,) if formation_only else ()
    # By name: the schema may keep columns of its own for what a database searches by.
    tables = {
        name: ", ".join(f'"{column.name}"' for column in table.columns)
        for name, table in sorted(metadata.tables.items())
    }
    database = config.database
    if database.path is not None:
        connection = sqlite3.connect(database.path)
        try:
            connection.execute("BEGIN")
            found = {
                name: connection.execute(f"SELECT {columns} FROM {name} {where.format('?')}", arguments).fetchall()
                for name, columns in tables.items()
            }
        finally:
            connection.close()
    else:
        assert database.url is not None
        reader = await asyncpg.connect(database.url.reveal())
        try:
            async with reader.transaction(isolation="repeatable_read"):
                found = {
                    name: [
                        tuple(row)
                        for row in await reader.fetch(f"SELECT {columns} FROM {name} {where.format('$1')}", *arguments)
                    ]
                    for name, columns in tables.items()
                }
        finally:
            await reader.close()
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def rows_of(found: Dump, table: str) -> list[dict[str, Any]]:
    """Return the rows of one table of a dump as dictionaries."""
    names = [column.name for column in metadata.tables[table].columns]
    return [dict(zip(names, row, strict=True)) for row in found[table]]


def is_heartbeat(work: object) -> bool:
    """Tell whether what a database is to do is only a listener's heartbeat: those come when they like."""
    return getattr(work, "func", None) is _tell_if_writable
