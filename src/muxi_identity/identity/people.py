"""Users: make, read, list, delete."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, tuple_, update

from muxi_identity.errors import MergeConflictError, UserExistsError, UserNotFoundError
from muxi_identity.identity.history import Event, record
from muxi_identity.identity.transaction import Person, Transaction
from muxi_identity.models import DeleteResult, IdentifierRecord, UserPage, UserRecord, iso, iso_or_none
from muxi_identity.paging import check_limit, read_cursor, write_cursor
from muxi_identity.storage.errors import ConstraintViolated
from muxi_identity.storage.tables import OWNED_TABLES, history, identifiers, merges, users


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
    records = _records(tx, [root_pk])
    if not records:
        raise UserNotFoundError("The user was deleted.")
    found = records[0]
    if asked_by_merged_id:
        found["merged_into"] = found["muxi_user_id"]
    return found


def list_users(tx: Transaction, limit: int, cursor: str | None) -> UserPage:
    """Return a page of roots, oldest first, after ``cursor``.

    Raises:
        InvalidRequestError: The limit is out of range or the cursor is none of ours.
    """
    check_limit(limit)
    key = tx.bucket.fingerprint("cursors")
    page = (
        select(users.c.pk, users.c.created_at)
        .where(tx.users_where(users.c.parent_pk.is_(None)))
        .order_by(users.c.created_at, users.c.pk)
        .limit(limit + 1)
    )
    if cursor is not None:
        page = page.where(tuple_(users.c.created_at, users.c.pk) > tuple_(*read_cursor(key, "list_users", cursor)))
    rows = tx.connection.execute(page).all()
    records = _records(tx, [row.pk for row in rows[:limit]])
    last = rows[limit - 1] if len(rows) > limit else None
    return {
        "users": records,
        "count": len(records),
        "next_cursor": None if last is None else write_cursor(key, "list_users", last.created_at, last.pk),
    }


def _records(tx: Transaction, root_pks: Sequence[int]) -> list[UserRecord]:
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
        .where(tx.users_where(users.c.root_pk.in_(root_pks)), *_live(tx))
        .group_by(users.c.root_pk)
    )
    for root_pk, number in tx.connection.execute(counts):
        found[root_pk]["identifier_count"] = number
    return [found[root_pk] for root_pk in root_pks if root_pk in found]


def _live(tx: Transaction) -> list[Any]:
    return [
        identifiers.c.unlinked_at.is_(None),
        or_(identifiers.c.expires_at.is_(None), identifiers.c.expires_at > tx.now),
    ]


def identifiers_of(tx: Transaction, root_pk: int) -> list[IdentifierRecord]:
    """Return the live identifiers of a person, over all members, in linking order."""
    statement = (
        select(identifiers)
        .join(users, (users.c.formation_id == identifiers.c.formation_id) & (users.c.pk == identifiers.c.user_pk))
        .where(tx.users_where(users.c.root_pk == root_pk), *_live(tx))
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


def delete_user(tx: Transaction, root_pk: int, *, include_merged: bool) -> DeleteResult:
    """Delete a person: root, members, identifiers and every user-owned row.

    What stays: history rows, which hold ids alone (their free-text reasons go), and the tombstones of secrets, so
    that a key of somebody who was deleted never becomes a new user.

    Raises:
        MergeConflictError: Other users are merged into it and ``include_merged`` is false.
        RaceLost: Somebody wrote under the person meanwhile.
    """
    person = tx.lock_people([root_pk])[root_pk]
    merged = _merged_public_ids(tx, person)
    if merged and not include_merged:
        raise MergeConflictError(
            f"{person.public_id} is one person with {', '.join(merged)}; pass include_merged=True to delete them all.",
            user_id=person.public_id,
            merged_users=merged,
        )
    pks = person.member_pks
    tx.erased = True
    if tx.database.lock_rows:
        # Writes under the person lock the user first and its identifier next: taken in the same order, nobody
        # waits in a circle, and no row arrives between two of the statements below.
        tx.connection.execute(select(users.c.pk).where(tx.users_where(users.c.pk.in_(pks))).with_for_update())
    _fence_all(tx, pks, [person.public_id, *merged])
    deleted = 0
    for table in OWNED_TABLES:
        owned = (table.c.formation_id == tx.formation_id) & table.c.user_pk.in_(pks)
        deleted += tx.connection.execute(delete(table).where(owned)).rowcount
    theirs = (identifiers.c.formation_id == tx.formation_id) & identifiers.c.user_pk.in_(pks)
    tx.connection.execute(
        update(identifiers)
        .where(theirs, identifiers.c.secret)
        .values(
            user_pk=None,
            spelling="",
            metadata=None,
            source=None,
            unlinked_at=func.coalesce(identifiers.c.unlinked_at, tx.now),
        )
    )
    deleted += tx.connection.execute(delete(identifiers).where(theirs)).rowcount
    ledger = (merges.c.formation_id == tx.formation_id) & (
        merges.c.primary_pk.in_(pks) | merges.c.secondary_pk.in_(pks)
    )
    deleted += tx.connection.execute(delete(merges).where(ledger)).rowcount
    deleted += tx.connection.execute(delete(users).where(tx.users_where(users.c.pk.in_(pks)))).rowcount
    tx.connection.execute(
        update(history)
        .where(history.c.formation_id == tx.formation_id, history.c.user_id.in_([person.public_id, *merged]))
        .values(reason=None)
    )
    record(tx, Event.USER_DELETE, person.public_id)
    return {"muxi_user_id": person.public_id, "merged_users": merged, "rows_deleted": deleted}


def _merged_public_ids(tx: Transaction, person: Person) -> list[str]:
    statement = (
        select(users.c.public_id)
        .where(tx.users_where(users.c.root_pk == person.root_pk, users.c.pk != person.root_pk))
        .order_by(users.c.created_at, users.c.pk)
    )
    return list(tx.connection.execute(statement).scalars())


def _fence_all(tx: Transaction, member_pks: Sequence[int], public_ids: Sequence[str]) -> None:
    buckets = select(identifiers.c.bucket).where(
        identifiers.c.formation_id == tx.formation_id, identifiers.c.user_pk.in_(member_pks)
    )
    tx.fence.buckets(tx.connection.execute(buckets).scalars())
    tx.fence.buckets(public_ids)
    tx.fence.members(member_pks)
