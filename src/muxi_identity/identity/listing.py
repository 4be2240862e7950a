"""Lists of people: all of them, or those that a search finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

from sqlalchemy import ColumnElement, and_, exists, or_, select, tuple_

from muxi_identity.arguments import check_text, read_time
from muxi_identity.identity.people import live, user_records
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import UserPage
from muxi_identity.paging import check_limit, read_cursor, write_cursor
from muxi_identity.refusals import MAX_CHARACTERS, parse_type
from muxi_identity.storage.prefix_search import begins_with, plan_for_prefix
from muxi_identity.storage.tables import identifiers, users


@dataclass(frozen=True, slots=True)
class UserSearch:
    """Which people are wanted; what is None asks for nothing. One identifier must have both prefix and type."""

    prefix: str | None = None
    type: str | None = None
    created_from: int | None = None  # microseconds since 1970
    created_before: int | None = None

    @classmethod
    def read(cls, identifier: object, type: object, created_from: object, created_before: object) -> UserSearch:
        """Return the search for what a caller gave.

        Raises:
            InvalidRequestError: The prefix is blank, too long or cannot be stored, or a time is none.
            InvalidIdentifierError: The type cannot be one.
        """
        return cls(
            None if identifier is None else normalize("NFC", check_text("identifier", identifier, MAX_CHARACTERS)),
            None if type is None else parse_type(type),
            None if created_from is None else read_time("created_from", created_from),
            None if created_before is None else read_time("created_before", created_before),
        )


EVERYBODY = UserSearch()


def list_users(tx: Transaction, search: UserSearch, limit: int, cursor: str | None) -> UserPage:
    """Return a page of the people who ``search`` finds, oldest first, after ``cursor``.

    Raises:
        InvalidRequestError: The limit is out of range or the cursor is none of ours.
    """
    check_limit(limit)
    key = tx.bucket.fingerprint("cursors")
    page = (
        select(users.c.pk, users.c.created_at)
        .where(tx.users_where(users.c.parent_pk.is_(None), *_wanted(tx, search)))
        .order_by(users.c.created_at, users.c.pk)
        .limit(limit + 1)
    )
    if cursor is not None:
        page = page.where(tuple_(users.c.created_at, users.c.pk) > tuple_(*read_cursor(key, "list_users", cursor)))
    if search.prefix is not None:
        plan_for_prefix(tx.connection)
    rows = tx.connection.execute(page).all()
    records = user_records(tx, [row.pk for row in rows[:limit]])
    last = rows[limit - 1] if len(rows) > limit else None
    return {
        "users": records,
        "count": len(records),
        "next_cursor": None if last is None else write_cursor(key, "list_users", last.created_at, last.pk),
    }


def _wanted(tx: Transaction, search: UserSearch) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if search.created_from is not None:
        conditions.append(users.c.created_at >= search.created_from)
    if search.created_before is not None:
        conditions.append(users.c.created_at < search.created_before)
    if search.prefix is not None or search.type is not None:
        conditions.append(_has_identifier(tx, search))
    return conditions


def _has_identifier(tx: Transaction, search: UserSearch) -> ColumnElement[bool]:
    """Return whether a user, or who was merged into them, has such an identifier. A secret has no value to search."""
    member = users.alias("member")
    conditions: list[Any] = live(tx)
    if search.type is not None:
        conditions.append(identifiers.c.type == search.type)
    if search.prefix is not None:
        # E-mail addresses are kept in lower case, most others as they are written.
        forms = dict.fromkeys((search.prefix, search.prefix.lower()))
        conditions.append(or_(*(begins_with(tx.database.dialect, identifiers.c.value, form) for form in forms)))
    roots = (
        select(member.c.root_pk)
        .join(
            identifiers,
            and_(identifiers.c.formation_id == member.c.formation_id, identifiers.c.user_pk == member.c.pk),
        )
        .where(member.c.formation_id == tx.formation_id, *conditions)
    )
    if search.prefix is not None:
        # Few have it, and the index knows them: SQLite would else ask everybody in turn (10 us for each).
        return users.c.pk.in_(roots)
    return exists(roots.where(member.c.root_pk == users.c.pk))
