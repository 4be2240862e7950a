"""Everybody in the shape that an import takes, page by page. Keys are left out: nothing of them is kept to hand out."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row, or_, select

from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import PersonPage, PersonRow, iso
from muxi_identity.paging import check_limit, read_cursor, write_cursor
from muxi_identity.storage.tables import identifiers, users

_KIND = "export_users"


def list_people(tx: Transaction, limit: int, cursor: str | None) -> PersonPage:
    """Return a page of people with the identifiers of all users merged into them, after ``cursor``.

    Raises:
        InvalidRequestError: The limit is out of range or the cursor is none of ours.
    """
    check_limit(limit)
    key = tx.bucket.fingerprint("cursors")
    page = (
        select(users.c.pk, users.c.public_id)
        .where(tx.users_where(users.c.parent_pk.is_(None)))
        .order_by(users.c.pk)
        .limit(limit + 1)
    )
    if cursor is not None:
        after, _ = read_cursor(key, _KIND, cursor)
        page = page.where(users.c.pk > after)
    roots = tx.connection.execute(page).all()
    people: dict[int, PersonRow] = {root.pk: {"user_id": root.public_id, "identifiers": []} for root in roots[:limit]}
    statement = (
        select(users.c.root_pk, identifiers)
        .join(users, (users.c.formation_id == identifiers.c.formation_id) & (users.c.pk == identifiers.c.user_pk))
        .where(
            tx.users_where(users.c.root_pk.in_(people)),
            identifiers.c.unlinked_at.is_(None),
            or_(identifiers.c.expires_at.is_(None), identifiers.c.expires_at > tx.now),
            identifiers.c.secret.is_(False),
        )
        .order_by(identifiers.c.linked_at, identifiers.c.pk)
    )
    for row in tx.connection.execute(statement):
        people[row.root_pk]["identifiers"].append(_shown(row))
    more = len(roots) > limit
    return {
        "people": list(people.values()),
        "count": len(people),
        "next_cursor": write_cursor(key, _KIND, roots[limit - 1].pk, 0) if more else None,
    }


def _shown(row: Row[Any]) -> dict[str, Any]:
    """Return an identifier without what it has not: a line for each person stays short."""
    given: dict[str, Any] = {"identifier": row.spelling}
    if row.type is not None:
        given["type"] = row.type
    if row.scope is not None:
        given["scope"] = row.scope
    if row.verified_at is not None:
        given["verified"] = True
    if row.expires_at is not None:
        given["expires_at"] = iso(row.expires_at)
    if row.metadata is not None:
        given["metadata"] = json.loads(row.metadata)
    return given
