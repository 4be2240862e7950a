"""The hot writes on SQLite, as ordinary statements over the driver: the file is locked while they run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from muxi_identity.storage.rows import Change, CreatedPerson, NewPerson
from muxi_identity.storage.statements import FIND_MEMBER_SQLITE


def insert_person(
    connection: sqlite3.Connection, formation_id: str, person: NewPerson, change: Change
) -> CreatedPerson | None:
    """Insert a user with its identifiers, if none of their buckets is in use."""
    if _any_taken(connection, formation_id, person):
        return None
    user_pk, created_pk = _draw_keys(connection, formation_id, 2)
    who = (change.actor, change.source, change.reason)
    connection.execute(
        "INSERT INTO muxi_users (formation_id, pk, public_id, root_pk, established_at, created_at)"
        " VALUES (?1, ?2, ?3, ?2, ?4, ?5)",
        (formation_id, user_pk, person.public_id, change.at if person.established else None, change.at),
    )
    connection.execute(
        _INSERT_EVENT,
        (formation_id, created_pk, change.at, "user:create", person.public_id, None, *who),
    )
    return _insert_identifiers(connection, formation_id, user_pk, person, change)


def extend_person(
    connection: sqlite3.Connection,
    formation_id: str,
    person: NewPerson,
    change: Change,
    limit: int,
    caps: Sequence[tuple[str, int]],
) -> tuple[CreatedPerson, str] | None:
    """Insert identifiers for a person that exists, if their buckets are free and the limits allow it."""
    if _any_taken(connection, formation_id, person):
        return None
    found = connection.execute(FIND_MEMBER_SQLITE, (formation_id, person.public_id)).fetchone()
    if found is None:
        return None
    _, user_pk, root_pk, root_public_id = found
    held = dict(connection.execute(_COUNT_LIVE, (formation_id, root_pk, change.at)).fetchall())
    if sum(held.values()) + len(person.identifiers) > limit or any(held.get(kind, 0) > most for kind, most in caps):
        return None
    connection.execute(
        "UPDATE muxi_users SET version = version + 1, established_at = coalesce(established_at, ?3)"
        " WHERE formation_id = ?1 AND pk = ?2",
        (formation_id, root_pk, change.at),
    )
    linked = _insert_identifiers(connection, formation_id, user_pk, replace(person, public_id=root_public_id), change)
    return linked, root_public_id


_COUNT_LIVE = """
SELECT i.type, count(*)
  FROM muxi_users m JOIN muxi_identifiers i ON i.formation_id = m.formation_id AND i.user_pk = m.pk
 WHERE m.formation_id = ?1 AND m.root_pk = ?2 AND i.unlinked_at IS NULL AND (i.expires_at IS NULL OR i.expires_at > ?3)
 GROUP BY i.type"""
_INSERT_EVENT = """
INSERT INTO muxi_history (formation_id, pk, at, event, user_id, identifier_pk, actor, source, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""


def _any_taken(connection: sqlite3.Connection, formation_id: str, person: NewPerson) -> bool:
    statement = "SELECT 1 FROM muxi_identifiers WHERE formation_id = ?1 AND bucket = ?2"
    return any(connection.execute(statement, (formation_id, new.bucket)).fetchone() for new in person.identifiers)


def _draw_keys(connection: sqlite3.Connection, formation_id: str, number: int) -> range:
    (end,) = connection.execute(
        "UPDATE muxi_formations SET next_key = next_key + ?2 WHERE formation_id = ?1 RETURNING next_key",
        (formation_id, number),
    ).fetchone()
    return range(end - number, end)


def _insert_identifiers(
    connection: sqlite3.Connection, formation_id: str, user_pk: int, person: NewPerson, change: Change
) -> CreatedPerson:
    number = len(person.identifiers)
    keys = _draw_keys(connection, formation_id, 2 * number)
    connection.executemany(
        "INSERT INTO muxi_identifiers (formation_id, pk, user_pk, bucket, slot, type, scope, value, spelling,"
        " secret, metadata, source, linked_at, verified_at, expires_at)"
        " VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(formation_id, pk, user_pk, new.bucket, new.type, new.scope, new.value, new.spelling, new.secret),
                *(new.metadata, change.source, change.at, new.verified_at, new.expires_at),
            )
            for pk, new in zip(keys, person.identifiers, strict=False)
        ],
    )
    who = (change.actor, change.source, change.reason)
    connection.executemany(
        _INSERT_EVENT,
        [
            (formation_id, history_pk, change.at, "identifier:link", person.public_id, pk, *who)
            for pk, history_pk in zip(keys[:number], keys[number:], strict=True)
        ],
    )
    return CreatedPerson(user_pk, list(keys[:number]))
