"""What must be true of a database at any time, asked of the database itself.

The schema's own constraints keep most of it. This is for operators: after a restore, after work by hand, when in doubt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, exists, func, not_, or_, select

from muxi_identity.storage.tables import (
    OWNED_TABLES,
    history,
    identifiers,
    merges,
    messages,
    sessions,
    users,
)


class Finding(NamedTuple):
    """A rule that is broken: in which formation, and by how many rows."""

    formation_id: str
    rule: str
    rows: int


def check(connection: Connection, now: int) -> list[Finding]:
    """Return every broken rule, of all formations. ``now`` in microseconds since 1970."""
    return [
        Finding(formation_id, rule, number)
        for rule, statement in _rules(now)
        for formation_id, number in connection.execute(statement)
    ]


def _rules(now: int) -> Iterator[tuple[str, Select[Any]]]:
    other = users.alias("other")
    same_formation = other.c.formation_id == users.c.formation_id
    root = exists().where(same_formation, other.c.pk == users.c.root_pk, other.c.root_pk == other.c.pk)
    yield "a user's root is a root", _count(users).where(not_(root))
    is_root, has_parent = users.c.root_pk == users.c.pk, users.c.parent_pk.is_not(None)
    yield (
        "a user without a parent is its own root, and no other is",
        _count(users).where(or_(and_(is_root, has_parent), and_(not_(is_root), not_(has_parent)))),
    )
    parent = exists().where(same_formation, other.c.pk == users.c.parent_pk, other.c.root_pk == users.c.root_pk)
    yield "a user has its parent's root", _count(users).where(has_parent, not_(parent))
    of_user = and_(
        merges.c.formation_id == users.c.formation_id,
        merges.c.undone_at.is_(None),
        merges.c.secondary_pk == users.c.pk,
        merges.c.primary_pk == users.c.parent_pk,
    )
    yield (
        "who was merged has one standing merge, into its parent",
        _count(users).where(has_parent, _number(merges, of_user) != 1),
    )
    yield (
        "a standing merge has made its user a member",
        _count(merges).where(merges.c.undone_at.is_(None), not_(exists().where(of_user))),
    )
    yield "an identifier is one person's", _twice(now)
    yield (
        "a user was created once",
        _count(users).where(
            _number(
                history,
                history.c.formation_id == users.c.formation_id,
                history.c.user_id == users.c.public_id,
                history.c.event == "user:create",
            )
            != 1
        ),
    )
    for table in OWNED_TABLES:
        theirs = and_(
            identifiers.c.formation_id == table.c.formation_id,
            identifiers.c.pk == table.c.identifier_pk,
            identifiers.c.user_pk == table.c.user_pk,
        )
        yield (
            f"{table.name}: a row lies under whom its identifier belongs to",
            _count(table).where(table.c.identifier_pk.is_not(None), not_(exists().where(theirs))),
        )
        owner = and_(users.c.formation_id == table.c.formation_id, users.c.pk == table.c.user_pk)
        yield f"{table.name}: a row has an owner", _count(table).where(not_(exists().where(owner)))
    in_session = and_(
        sessions.c.formation_id == messages.c.formation_id,
        sessions.c.pk == messages.c.session_pk,
        sessions.c.user_pk == messages.c.user_pk,
        func.coalesce(sessions.c.identifier_pk, 0) == func.coalesce(messages.c.identifier_pk, 0),
    )
    yield "a message is of whom its session is", _count(messages).where(not_(exists().where(in_session)))


def _count(table: Table) -> Select[Any]:
    column = table.c.formation_id
    return select(column, func.count()).group_by(column).order_by(column)


def _number(table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    return select(func.count()).select_from(table).where(*conditions).scalar_subquery()


def _twice(now: int) -> Select[Any]:
    key = (
        identifiers.c.formation_id,
        identifiers.c.type,
        identifiers.c.scope,
        identifiers.c.value,
        identifiers.c.bucket,
    )
    twice = (
        select(*key)
        .where(
            identifiers.c.unlinked_at.is_(None),
            or_(identifiers.c.expires_at.is_(None), identifiers.c.expires_at > now),
        )
        .group_by(*key)
        .having(func.count() > 1)
        .subquery()
    )
    return select(twice.c.formation_id, func.count()).group_by(twice.c.formation_id)
