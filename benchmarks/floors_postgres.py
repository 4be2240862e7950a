"""The floor on PostgreSQL: prepared asyncpg statements on a held connection, all keys given."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import asyncpg

from benchmarks.floors import AT, FORMATION, SOURCE, Floor, Rows, Talk, message_keys, talk_of

POOL = 10
_LOOK_UP = """
SELECT i.pk, i.user_pk, i.type, i.value, i.secret, i.expires_at, m.root_pk, r.public_id
  FROM muxi_identifiers i
  JOIN muxi_users m ON m.formation_id = i.formation_id AND m.pk = i.user_pk
  JOIN muxi_users r ON r.formation_id = m.formation_id AND r.pk = m.root_pk
 WHERE i.formation_id = $1 AND i.bucket = $2 AND i.unlinked_at IS NULL"""

_NEWEST = """
SELECT memory_id, type, key, content, value, metadata, shareable, created_at, updated_at FROM muxi_memories
 WHERE formation_id = $1 AND user_pk = $2 ORDER BY updated_at DESC, pk DESC LIMIT $3"""
_SESSION = """
INSERT INTO muxi_sessions (formation_id, user_pk, identifier_pk, pk, session_id, created_at, last_activity_at)
VALUES ($1, $2, $3, $4, 'bench', $5, $5)"""
_MESSAGES = """
INSERT INTO muxi_messages (formation_id, user_pk, identifier_pk, session_pk, pk, role, content, created_at)
VALUES ($1, $2, $3, $4, $5, 'user', $7, $8), ($1, $2, $3, $4, $6, 'assistant', $9, $8)"""


class PostgresFloor(Floor):
    """The bare statements; one for each number of identifiers, with the values spelt out."""

    def __init__(self, connection: asyncpg.Connection, pool: asyncpg.Pool, formation_id: str) -> None:
        self._connection = connection
        self._pool = pool
        self._formation_id = formation_id
        self._prepared: dict[str, Any] = {}

    @classmethod
    async def open(cls, url: str, formation_id: str) -> PostgresFloor:
        pool = await asyncpg.create_pool(url, min_size=0, max_size=POOL)  # the first block connects them
        return cls(await asyncpg.connect(url), pool, formation_id)

    async def look_up(self, bucket: bytes) -> None:
        await self._fetch(_LOOK_UP, self._formation_id, bucket)

    async def _fetch(self, statement: str, *arguments: Any) -> None:
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = await self._connection.prepare(statement)
        await prepared.fetch(*arguments)

    async def look_up_all(self, buckets: Sequence[bytes]) -> None:
        await asyncio.gather(*map(self._look_up_pooled, buckets))

    async def _look_up_pooled(self, bucket: bytes) -> None:
        async with self._pool.acquire() as connection:
            await connection.fetch(_LOOK_UP, self._formation_id, bucket)

    async def insert(self, rows: Rows) -> None:
        shape = f"{rows.new_user} {len(rows.identifiers)}"
        prepared = self._prepared.get(shape)
        if prepared is None:
            prepared = self._prepared[shape] = await self._connection.prepare(_insert_statement(rows))
        arguments = [FORMATION, rows.user_pk, rows.user_id, SOURCE, AT]
        for row in (*rows.identifiers, *rows.events):
            arguments += row
        await prepared.fetch(*arguments)

    async def newest_memories(self, user_pk: int, limit: int) -> None:
        await self._fetch(_NEWEST, self._formation_id, user_pk, limit)

    async def begin_session(self, rows: Rows) -> Talk:
        talk = talk_of(rows)
        await self._fetch(_SESSION, FORMATION, talk.user_pk, talk.identifier_pk, talk.session_pk, AT)
        return talk

    async def say(self, talk: Talk) -> None:
        common = (FORMATION, talk.user_pk, talk.identifier_pk, talk.session_pk)
        said = ("My budget is $5,000", AT, "Got it: your budget is $5,000.")
        await self._fetch(_MESSAGES, *common, *message_keys(), *said)

    async def close(self) -> None:
        await self._connection.close()
        await self._pool.close()


def _insert_statement(rows: Rows) -> str:
    """Return one statement that inserts rows of this shape, every value spelt out, and commits by itself."""
    numbers = itertools.count(6)

    def values(common: str, row: Sequence[object]) -> str:
        return f"({common}, {', '.join(f'${next(numbers)}' for _ in row)})"

    user = """
    INSERT INTO muxi_users (formation_id, pk, public_id, root_pk, established_at, created_at)
    VALUES ($1, $2, $3, $2, $5, $5)"""
    identifiers = f"""
    INSERT INTO muxi_identifiers (formation_id, user_pk, source, linked_at, slot, type, secret,
                                  pk, bucket, value, spelling)
    VALUES {", ".join(values("$1, $2, $4, $5, 0, 'email', false", row) for row in rows.identifiers)}"""
    history = f"""
    INSERT INTO muxi_history (formation_id, user_id, source, at, actor, pk, event, identifier_pk)
    VALUES {", ".join(values("$1, $3, $4, $5, 'embedded'", row) for row in rows.events)}"""
    first = f"new_user AS ({user}), " if rows.new_user else ""
    return f"WITH {first} linked AS ({identifiers}) {history}"
