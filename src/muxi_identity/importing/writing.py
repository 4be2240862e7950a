"""Writing new people by the thousand: every row of a table at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muxi_identity.identity.history import Event
from muxi_identity.identity.people import new_public_id
from muxi_identity.identity.slots import new_identifier
from muxi_identity.identity.transaction import Transaction
from muxi_identity.importing.sorting import NewPerson
from muxi_identity.storage.tables import history, identifiers, users

_USERS = ("formation_id", "pk", "public_id", "root_pk", "established_at", "created_at")
_IDENTIFIERS = (
    *("formation_id", "pk", "user_pk", "bucket", "slot", "type", "scope", "value", "spelling", "secret"),
    *("metadata", "source", "linked_at", "verified_at", "expires_at"),
)
_HISTORY = ("formation_id", "pk", "at", "event", "user_id", "identifier_pk", "actor", "source", "reason")
_Rows = list[tuple[Any, ...]]


def write_people(tx: Transaction, people: Sequence[NewPerson], first: int) -> int:
    """Write users with their identifiers and their history; return how many identifiers.

    ``first`` is the position of the batch's first row: rows go by times that follow each other, a microsecond apart,
    so that of two users the one whose row came first is the older one, as if they had been linked one by one.

    Raises:
        RaceLost: Somebody took one of the buckets meanwhile; they are new to nobody any more.
        ConstraintViolated: Somebody took one of the chosen public ids meanwhile.
    """
    number = sum(len(person.items) for person in people)
    if not people:
        return 0
    keys = iter(tx.new_keys(2 * len(people) + 2 * number))
    formation_id, change = tx.formation_id, tx.change
    by = (change.actor, change.source, change.reason)
    user_rows: _Rows = []
    identifier_rows: _Rows = []
    history_rows: _Rows = []
    for person in people:
        at = tx.now + person.row.position - first
        user_pk, user_id = next(keys), person.user_id or new_public_id()
        user_rows.append((formation_id, user_pk, user_id, user_pk, at, at))
        history_rows.append((formation_id, next(keys), at, Event.USER_CREATE.value, user_id, None, *by))
        for item in person.items:
            pk = next(keys)
            row = new_identifier(item.identifier, item.bucket, at, person.row.verified)
            identifier_rows.append(
                (
                    *(
                        formation_id,
                        pk,
                        user_pk,
                        row.bucket,
                        0,
                        row.type,
                        row.scope,
                        row.value,
                        row.spelling,
                        row.secret,
                    ),
                    *(row.metadata, change.source, at, row.verified_at, row.expires_at),
                )
            )
            history_rows.append((formation_id, next(keys), at, Event.IDENTIFIER_LINK.value, user_id, pk, *by))
    # In bucket order: two imports of the same people in another order would wait for each other for ever.
    identifier_rows.sort(key=lambda row: row[3])
    insert = tx.database.insert_rows
    insert(tx.connection, users, _USERS, user_rows)
    insert(tx.connection, identifiers, _IDENTIFIERS, identifier_rows)
    insert(tx.connection, history, _HISTORY, history_rows)
    return number
