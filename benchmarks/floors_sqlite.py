"""The floor on SQLite: ``sqlite3`` in place, on one connection with the settings that ours has."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from benchmarks.floors import AT, FORMATION, SOURCE, Floor, Rows

_LOOK_UP = """
SELECT i.pk, i.user_pk, i.type, i.value, i.secret, i.expires_at, m.root_pk, r.public_id
  FROM muxi_identifiers i
  JOIN muxi_users m ON m.formation_id = i.formation_id AND m.pk = i.user_pk
  JOIN muxi_users r ON r.formation_id = m.formation_id AND r.pk = m.root_pk
 WHERE i.formation_id = ?1 AND i.bucket = ?2 AND i.unlinked_at IS NULL"""
_USER = """
INSERT INTO muxi_users (formation_id, pk, public_id, root_pk, established_at, created_at)
VALUES (?1, ?2, ?3, ?2, ?4, ?4)"""
_IDENTIFIER = """
INSERT INTO muxi_identifiers (formation_id, user_pk, source, linked_at, pk, bucket, value, spelling, slot, type, secret)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 'email', 0)"""
_EVENT = """
INSERT INTO muxi_history (formation_id, user_id, source, at, pk, event, identifier_pk, actor)
VALUES (?, ?, ?, ?, ?, ?, ?, 'embedded')"""


class SqliteFloor(Floor):
    """The bare statements, run in place."""

    def __init__(self, path: Path, formation_id: str) -> None:
        self._formation_id = formation_id
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            self._connection.execute(f"PRAGMA {setting}")

    async def look_up(self, bucket: bytes) -> None:
        self._connection.execute(_LOOK_UP, (self._formation_id, bucket)).fetchall()

    async def look_up_all(self, buckets: Sequence[bytes]) -> None:
        for bucket in buckets:
            self._connection.execute(_LOOK_UP, (self._formation_id, bucket)).fetchall()

    async def insert(self, rows: Rows) -> None:
        execute, many = self._connection.execute, self._connection.executemany
        execute("BEGIN IMMEDIATE")
        if rows.new_user:
            execute(_USER, (FORMATION, rows.user_pk, rows.user_id, AT))
        many(_IDENTIFIER, [(FORMATION, rows.user_pk, SOURCE, AT, *row) for row in rows.identifiers])
        many(_EVENT, [(FORMATION, rows.user_id, SOURCE, AT, *row) for row in rows.events])
        execute("COMMIT")

    async def close(self) -> None:
        self._connection.close()
