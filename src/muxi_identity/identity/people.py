"""Users: make and read."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, insert, or_, select

from muxi_identity.errors import UserExistsError, UserNotFoundError
from muxi_identity.identity.history import Event, record
from muxi_identity.identity.transaction import Person, Transaction
from muxi_identity.models import IdentifierRecord, UserRecord, iso, iso_or_none
from muxi_identity.storage.errors import ConstraintViolated
from muxi_identity.storage.tables import identifiers, users


def new_public_id() -> str:
    """Return a public id that nobody has: 80 random bits."""
    return f"usr_{secrets.token_hex(10)}"


def new_user(tx: Transaction, *, established: bool, user_id: str | None = None) -> Person:
    """Insert a user of its own root and record it.

    Raises:
        UserExistsError: ``user_id`` is taken.
    """
    public_id = user_id or new_public_id()
    (pk,) = tx.new_keys(1)
    taken = user_id is not None and tx.find_member(user_id) is not None
    if taken:
        raise user_exists(public_id)
    tx.connection.execute(
        insert(users).values(
            formation_id=tx.formation_id,
            pk=pk,
            public_id=public_id,
            root_pk=pk,
            created_at=tx.now,
            established_at=tx.now if established else None,
        )
    )
    record(tx, Event.USER_CREATE, public_id)
    return Person(pk, public_id, tx.now, established=established, verified=False, member_pks=[pk])


def user_exists(user_id: str) -> UserExistsError:
    """Return the error for a public id that is taken."""
    return UserExistsError(f"There is a user {user_id} already; choose another id or leave it out.", user_id=user_id)


def is_taken_id(error: ConstraintViolated) -> bool:
    """Tell whether ``error`` means that somebody else was given the same public id just now."""
    return error.constraint == "uq_users_public_id"


def get_user(tx: Transaction, root_pk: int, *, asked_by_merged_id: bool = False) -> UserRecord:
    """Return the record of the person of a root.

    Raises:
        UserNotFoundError: It is gone.
    """
    records = user_records(tx, [root_pk])
    if not records:
        raise UserNotFoundError("The user was deleted.")
    found = records[0]
    if asked_by_merged_id:
        found["merged_into"] = found["muxi_user_id"]
    return found


def user_records(tx: Transaction, root_pks: Sequence[int]) -> list[UserRecord]:
    """Return the records of the people of these roots, in this order, without those that are gone."""
    members = (
        select(users.c.pk, users.c.root_pk, users.c.public_id, users.c.created_at, users.c.established_at)
        .where(tx.users_where(users.c.root_pk.in_(root_pks)))
        .order_by(users.c.created_at, users.c.pk)
    )
    found: dict[int, UserRecord] = {}
    rows = tx.connection.execute(members).all()
    for row in rows:
        if row.pk == row.root_pk:
            found[row.pk] = {
                "muxi_user_id": row.public_id,
                "merged_into": None,
                "merged_users": [],
                "established": False,
                "created_at": iso(row.created_at),
                "identifier_count": 0,
            }
    for row in rows:
        one = found[row.root_pk]
        one["established"] |= row.established_at is not None
        if row.pk != row.root_pk:
            one["merged_users"].append(row.public_id)
    counts = (
        select(users.c.root_pk, func.count())
        .join(identifiers, (identifiers.c.formation_id == users.c.formation_id) & (identifiers.c.user_pk == users.c.pk))
        .where(tx.users_where(users.c.root_pk.in_(root_pks)), *live(tx))
        .group_by(users.c.root_pk)
    )
    for root_pk, number in tx.connection.execute(counts):
        found[root_pk]["identifier_count"] = number
    return [found[root_pk] for root_pk in root_pks if root_pk in found]


def live(tx: Transaction) -> list[Any]:
    """Return the conditions under which an identifier counts: linked, and not expired."""
    return [
        identifiers.c.unlinked_at.is_(None),
        or_(identifiers.c.expires_at.is_(None), identifiers.c.expires_at > tx.now),
    ]


def identifiers_of(tx: Transaction, root_pk: int) -> list[IdentifierRecord]:
    """Return the live identifiers of a person, over all members, in linking order."""
    statement = (
        select(identifiers)
        .join(users, (users.c.formation_id == identifiers.c.formation_id) & (users.c.pk == identifiers.c.user_pk))
        .where(tx.users_where(users.c.root_pk == root_pk), *live(tx))
        .order_by(identifiers.c.linked_at, identifiers.c.pk)
    )
    return [
        {
            "identifier": row.spelling,
            "type": row.type,
            "scope": row.scope,
            "verified": row.verified_at is not None,
            "verified_at": iso_or_none(row.verified_at),
            "source": row.source,
            "expires_at": iso_or_none(row.expires_at),
            "created_at": iso(row.linked_at),
            "metadata": None if row.metadata is None else json.loads(row.metadata),
        }
        for row in tx.connection.execute(statement)
    ]
