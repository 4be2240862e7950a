"""Inserting identifiers: the slots that make creation race-free, and the limits.

``(formation, bucket, slot)`` is unique, and a new row takes the slot after the highest. Of two transactions that read
the same bucket and insert into it, one is refused and starts again, now seeing the other's row. A unique key on the
identifier itself could not do this: an untyped and a typed spelling of it are different rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import func, insert, select

from muxi_identity.errors import IdentifierLimitError, InvalidRequestError
from muxi_identity.identifiers import Identifier
from muxi_identity.identity.history import Event, record
from muxi_identity.identity.transaction import Member, Transaction
from muxi_identity.models import microseconds
from muxi_identity.storage.rows import NewIdentifier
from muxi_identity.storage.tables import identifiers as table


def new_identifier(identifier: Identifier, bucket: bytes, now: int, verified: bool) -> NewIdentifier:
    """Return the row of an identifier that is linked now.

    Raises:
        InvalidRequestError: It has expired already.
    """
    expires_at = None if identifier.expires_at is None else microseconds(identifier.expires_at)
    if expires_at is not None and expires_at <= now:
        # Not quoted: passed bare, it may be a key.
        raise InvalidRequestError("expires_at of an identifier has passed; give it a time to come.")
    return NewIdentifier(
        bucket=bucket,
        type=identifier.type,
        scope=identifier.scope,
        value=identifier.value,
        spelling=identifier.spelling,
        secret=identifier.secret,
        metadata=None if identifier.metadata is None else json.dumps(identifier.metadata, sort_keys=True),
        verified_at=now if verified or identifier.verified else None,
        expires_at=expires_at,
    )


def insert_identifiers(tx: Transaction, new: Sequence[NewIdentifier], owner: Member, user_id: str) -> list[int]:
    """Insert rows under ``owner``, each at the next slot of its bucket, and return their keys.

    ``user_id`` is who the history names.

    The buckets were read by ``tx.bucket_rows`` before.

    Raises:
        RaceLost: Somebody inserted into one of the buckets meanwhile.
    """
    if not new:
        return []
    slots = tx.take_slots([row.bucket for row in new])
    keys = tx.new_keys(len(new))
    values = [
        {
            "formation_id": tx.formation_id,
            "pk": pk,
            "user_pk": owner.pk,
            "slot": slot,
            "source": tx.change.source,
            "linked_at": tx.now,
            **row._asdict(),
        }
        for pk, slot, row in zip(keys, slots, new, strict=True)
    ]
    # In bucket order: two links of the same identifiers in another order would wait for each other for ever.
    tx.connection.execute(insert(table), sorted(values, key=lambda value: (value["bucket"], value["slot"])))
    for pk in keys:
        record(tx, Event.IDENTIFIER_LINK, user_id, identifier_pk=pk)
    return keys


def count_live(tx: Transaction, member_pks: Sequence[int]) -> dict[str | None, int]:
    """Return how many live identifiers these members have, by type."""
    statement = (
        select(table.c.type, func.count())
        .where(
            table.c.formation_id == tx.formation_id,
            table.c.user_pk.in_(member_pks),
            table.c.unlinked_at.is_(None),
            table.c.expires_at.is_(None) | (table.c.expires_at > tx.now),
        )
        .group_by(table.c.type)
    )
    return {row[0]: row[1] for row in tx.connection.execute(statement)}


def passed_limits(
    limit: int, caps: Mapping[str | None, int | None], held: Mapping[str | None, int]
) -> list[tuple[str | None, int, int]]:
    """Return the limits that a person with ``held`` passes: the type (None: all identifiers), the limit, the number."""
    passed: list[tuple[str | None, int, int]] = []
    number = sum(held.values())
    if number > limit:
        passed.append((None, limit, number))
    for kind, number in held.items():
        cap = caps.get(kind)
        if cap is not None and number > cap:
            passed.append((kind, cap, number))
    return passed


def check_limits(limit: int, caps: Mapping[str | None, int | None], held: Mapping[str | None, int]) -> None:
    """Check what a person would hold against ``limit`` for all, and ``caps`` for each type.

    Raises:
        IdentifierLimitError: Naming the first limit that is passed.
    """
    for kind, most, _number in passed_limits(limit, caps, held):
        if kind is None:
            message = f"A person may have {most} identifiers; unlink some, or raise identity.max_identifiers_per_user."
        else:
            message = (
                f"A person may have {most} identifier(s) of type {kind}; unlink one, or raise "
                f"identity.types.{kind}.max_per_user."
            )
        raise IdentifierLimitError(message, limit=most, type=kind)
