"""What a merge would bring together, and an unmerge take apart: counted and compared, nothing written.

Its time grows with what is counted. The merge itself does not look at any of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Column, Select, Subquery, Table, and_, func, or_, select, true

from muxi_identity.identity.slots import count_live, passed_limits
from muxi_identity.identity.transaction import Person, Transaction
from muxi_identity.models import (
    EqualKey,
    IdentifierName,
    KeyedValue,
    MergePreview,
    PassedLimit,
    PersonSummary,
    iso,
)
from muxi_identity.storage.tables import OWNED_TABLES, identifiers, link_codes, memories, synopses, users

MOST_LISTED: Final = 100
_MOST_CHARACTERS: Final = 200
# The kinds of which the newest row of a key is what is read, with what may be shown of it.
_KEYED: Final = {"preferences": "value", "memories": "content", "credentials": "preview"}
# Made from other rows, or gone in minutes: nothing that anybody would miss.
_UNCOUNTED: Final = {synopses.name, link_codes.name}


def kind_of(table: Table) -> str:
    """Return what the rows of a user-owned table are called in results."""
    return table.name.removeprefix("muxi_")


def is_counted(table: Table) -> bool:
    """Tell whether the rows of a user-owned table are what people have, and not what was made for a while."""
    return table.name not in _UNCOUNTED


def count_rows(tx: Transaction, column: str, keys: Sequence[int]) -> dict[str, int]:
    """Count the user-owned rows whose ``column`` (``"user_pk"`` or ``"identifier_pk"``) is one of ``keys``, by kind.

    What :func:`is_counted` leaves out is left out, and so are kinds without any.
    """
    counts: dict[str, int] = {}
    for table in OWNED_TABLES:
        if not is_counted(table):
            continue
        number = tx.connection.execute(
            select(func.count()).where(table.c.formation_id == tx.formation_id, table.c[column].in_(keys))
        ).scalar_one()
        if number:
            counts[kind_of(table)] = number
    return dict(sorted(counts.items()))


def summarise(tx: Transaction, root_pk: int, member_pks: Sequence[int]) -> PersonSummary:
    """Return what there is of a person who has these members, ``root_pk`` answering for them."""
    members = tx.connection.execute(
        select(users.c.pk, users.c.public_id, users.c.created_at, users.c.established_at)
        .where(tx.users_where(users.c.pk.in_(member_pks)))
        .order_by(users.c.created_at, users.c.pk)
    ).all()
    (root,) = [row for row in members if row.pk == root_pk]
    theirs = (
        identifiers.c.formation_id == tx.formation_id,
        identifiers.c.user_pk.in_(member_pks),
        identifiers.c.unlinked_at.is_(None),
        or_(identifiers.c.expires_at.is_(None), identifiers.c.expires_at > tx.now),
    )
    listed = tx.connection.execute(
        select(identifiers.c.spelling, identifiers.c.type)
        .where(*theirs)
        .order_by(identifiers.c.linked_at, identifiers.c.pk)
        .limit(MOST_LISTED)
    )
    names: list[IdentifierName] = [{"identifier": row.spelling, "type": row.type} for row in listed]
    number = len(names)
    if number == MOST_LISTED:
        number = tx.connection.execute(select(func.count()).select_from(identifiers).where(*theirs)).scalar_one()
    return {
        "muxi_user_id": root.public_id,
        "merged_users": [row.public_id for row in members if row.pk != root_pk],
        "established": any(row.established_at is not None for row in members),
        "created_at": iso(root.created_at),
        "identifiers": names,
        "identifier_count": number,
        "rows": count_rows(tx, "user_pk", member_pks),
    }


def preview_merge(tx: Transaction, primary: Person, secondary: Person) -> MergePreview:
    """Return what merging ``secondary`` into ``primary`` would bring together; both are locked."""
    equal, number = _equal_keys(tx, primary.member_pks, secondary.member_pks)
    held = count_live(tx, [*primary.member_pks, *secondary.member_pks])
    caps = {kind: tx.rules.rule(kind).max_per_user for kind in held}
    limits: list[PassedLimit] = [
        {"type": kind, "limit": most, "count": count}
        for kind, most, count in passed_limits(tx.rules.max_per_user, caps, held)
    ]
    return {
        "primary": summarise(tx, primary.root_pk, primary.member_pks),
        "secondary": summarise(tx, secondary.root_pk, secondary.member_pks),
        "equal_keys": equal,
        "equal_key_count": number,
        "passed_limits": limits,
    }


def _equal_keys(tx: Transaction, primary: Sequence[int], secondary: Sequence[int]) -> tuple[list[EqualKey], int]:
    listed: list[EqualKey] = []
    total = 0
    for table in OWNED_TABLES:
        shown = _KEYED.get(kind_of(table))
        if shown is None:
            continue
        names = [column.name for column in _key_columns(table)]
        one, other = (_newest(tx, table, names, shown, members) for members in (primary, secondary))
        both = and_(*(one.c[name] == other.c[name] for name in names))
        number = tx.connection.execute(select(func.count()).select_from(one.join(other, both))).scalar_one()
        total += number
        room = MOST_LISTED - len(listed)
        if number and room:
            listed += [
                _equal_key(kind_of(table), len(names), row)
                for row in tx.connection.execute(_pairs(one, other, both, names).limit(room))
            ]
    return listed, total


def _key_columns(table: Table) -> list[Column[Any]]:
    (index,) = [index for index in table.indexes if index.name == f"uq_{kind_of(table)}_key"]
    own = {"formation_id", "user_pk", "identifier_pk"}
    return [each for each in index.expressions if isinstance(each, Column) and each.name not in own]


def _newest(tx: Transaction, table: Table, names: Sequence[str], shown: str, members: Sequence[int]) -> Subquery:
    """Select what is read of each key of some members: its newest row."""
    place = func.row_number().over(
        partition_by=[table.c[name] for name in names], order_by=(table.c.updated_at.desc(), table.c.pk.desc())
    )
    rows = (
        select(
            *(table.c[name] for name in names),
            func.substr(table.c[shown], 1, _MOST_CHARACTERS).label("shown"),
            table.c.updated_at,
            table.c.pk,
            place.label("place"),
        )
        .where(
            table.c.formation_id == tx.formation_id,
            table.c.user_pk.in_(members),
            # A memory about nothing in particular is its own key: the same words say the same, nothing is to choose.
            table.c.value.is_not(None) if table is memories else true(),
        )
        .subquery()
    )
    return select(rows).where(rows.c.place == 1).subquery()


def _pairs(one: Subquery, other: Subquery, both: Any, names: Sequence[str]) -> Select[Any]:
    return (
        select(
            *(one.c[name] for name in names),
            one.c.shown,
            one.c.updated_at,
            one.c.pk,
            other.c.shown.label("other_shown"),
            other.c.updated_at.label("other_updated_at"),
            other.c.pk.label("other_pk"),
        )
        .select_from(one.join(other, both))
        .order_by(*(one.c[name] for name in names))
    )


def _equal_key(kind: str, width: int, row: Any) -> EqualKey:
    key, (shown, updated_at, pk, other_shown, other_updated_at, other_pk) = row[:width], row[width:]
    sides: list[KeyedValue] = [
        {"value": shown, "updated_at": iso(updated_at)},
        {"value": other_shown, "updated_at": iso(other_updated_at)},
    ]
    return {
        "kind": kind,
        "key": list(key),
        "wins": "primary" if (updated_at, pk) > (other_updated_at, other_pk) else "secondary",
        "primary": sides[0],
        "secondary": sides[1],
    }
