"""The floor on SQLite: ``sqlite3`` in place, on one connection with the settings that ours has."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from benchmarks.floors import AT, FORMATION, SOURCE, Floor, Rows, Talk, message_keys, talk_of

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

_NEWEST = """
SELECT memory_id, type, key, content, value, metadata, shareable, created_at, updated_at FROM muxi_memories
 WHERE formation_id = ?1 AND user_pk = ?2 ORDER BY updated_at DESC, pk DESC LIMIT ?3"""
_SESSION = """
INSERT INTO muxi_sessions (formation_id, user_pk, identifier_pk, pk, session_id, created_at, last_activity_at)
VALUES (?, ?, ?, ?, 'bench', ?, ?)"""
_MESSAGE = """
INSERT INTO muxi_messages (formation_id, user_pk, identifier_pk, session_pk, pk, role, content, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""


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

    async def newest_memories(self, user_pk: int, limit: int) -> None:
        self._connection.execute(_NEWEST, (self._formation_id, user_pk, limit)).fetchall()

    async def begin_session(self, rows: Rows) -> Talk:
        talk = talk_of(rows)
        self._connection.execute(_SESSION, (FORMATION, talk.user_pk, talk.identifier_pk, talk.session_pk, AT, AT))
        return talk

    async def say(self, talk: Talk) -> None:
        asked, answered = message_keys()
        common = (FORMATION, talk.user_pk, talk.identifier_pk, talk.session_pk)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(_MESSAGE, (*common, asked, "user", "My budget is $5,000", AT))
        self._connection.execute(_MESSAGE, (*common, answered, "assistant", "Got it: your budget is $5,000.", AT))
        self._connection.execute("COMMIT")

    async def close(self) -> None:
        self._connection.close()
