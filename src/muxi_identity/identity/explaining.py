"""Explaining: why two identifiers mean one person, or why they do not, as a path of dated events."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, or_, select

from muxi_identity.identifiers import Identifier, same_value
from muxi_identity.identity.history import Event
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.matching import choose
from muxi_identity.identity.resolving import unknown
from muxi_identity.identity.telling import step, tell
from muxi_identity.identity.transaction import Member, Transaction
from muxi_identity.models import ExplainedStep, Explanation
from muxi_identity.storage.tables import history, identifiers, merges, users

_MOST_MERGES: Final = 10_000  # looked at for one explanation


class Span(NamedTuple):
    """A member that an identifier meant, from when until when (microseconds)."""

    member_pk: int
    since: float
    until: float


@dataclass(slots=True)
class Side:
    """One of the two: what it is called, the member that it means now, and the rows of it that ever meant anybody."""

    shown: str
    member: Member | None
    own: list[int] = field(default_factory=list)
    """The identifier's key, and those under which it was unlinked before."""
    spans: list[Span] = field(default_factory=list)
    """Which members it meant and when, the present one last."""


def explain(tx: Transaction, a: Reference, b: Reference) -> Explanation:
    """Say why ``a`` and ``b`` mean one person, or why they do not and whether they once did.

    Raises:
        UserNotFoundError: One of them never meant anybody.
        AmbiguousIdentifierError: One is untyped, and several people have it.
    """
    sides = (_side(tx, a), _side(tx, b))
    ledger = _ledger_around(tx, [pk for side in sides for pk in _members_of(side)])
    public_ids = _public_ids(tx, [*_users_of(ledger), *(pk for side in sides for pk in _members_of(side))])
    roots = [None if side.member is None else public_ids[side.member.root_pk] for side in sides]
    same = roots[0] is not None and roots[0] == roots[1]
    path, together = _path(ledger, sides, now=same)
    steps = [
        *_created(tx, sides, public_ids),
        *_identifier_steps(tx, sides),
        *_merge_steps(tx, path, public_ids),
    ]
    apart = _taken_apart(tx, sides, public_ids)
    were_same = not same and bool(together or apart)
    ordered = _in_order([*steps, *apart])
    return {
        "same": same,
        "were_same": were_same,
        "a": roots[0],
        "b": roots[1],
        "steps": ordered,
        "text": tell([side.shown for side in sides], roots, were_same, ordered),
    }


def _side(tx: Transaction, reference: Reference) -> Side:
    if not isinstance(reference, Identifier):
        member = tx.find_member(reference.user_id)
        if member is None:
            raise unknown(reference)
        return Side(reference.user_id, member, spans=[Span(member.pk, -math.inf, math.inf)])
    bucket = tx.bucket(reference.fold)
    choice = choose(tx.bucket_rows([bucket])[bucket], reference, tx.now)
    live = None if choice is None else choice.row
    ended = [row for row in _ended(tx, bucket) if _was(row, reference)]
    if live is None and not ended:
        raise unknown(reference)
    hidden = live.secret if live is not None else ended[-1].secret
    shown = (live.spelling if live is not None else ended[-1].spelling) if hidden else reference.shown
    side = Side(shown, None, own=[row.pk for row in ended])
    side.spans = [Span(row.user_pk, row.linked_at, _end(row)) for row in ended]
    if live is not None and live.user_pk is not None and live.root_pk is not None:
        side.member = Member(live.user_pk, live.root_pk)
        side.own.append(live.pk)
        side.spans.append(Span(live.user_pk, -math.inf, math.inf))
    return side


def _end(row: Row[Any]) -> int:
    ends: list[int] = [at for at in (row.unlinked_at, row.expires_at) if at is not None]
    return min(ends)


def _ended(tx: Transaction, bucket: bytes) -> Sequence[Row[Any]]:
    return tx.connection.execute(
        select(identifiers)
        .where(
            identifiers.c.formation_id == tx.formation_id,
            identifiers.c.bucket == bucket,
            identifiers.c.user_pk.is_not(None),
            identifiers.c.unlinked_at.is_not(None) | (identifiers.c.expires_at <= tx.now),
        )
        .order_by(identifiers.c.linked_at, identifiers.c.pk)
    ).all()


def _was(row: Row[Any], reference: Identifier) -> bool:
    if not reference.guessed and (row.type != reference.type or reference.scope not in (None, row.scope)):
        return False
    return bool(row.secret) or same_value(reference.spelling, row.type, row.value)


def _members_of(side: Side) -> list[int]:
    return [*(span.member_pk for span in side.spans), *([side.member.root_pk] if side.member else [])]


# Who was merged with whom


def _ledger_around(tx: Transaction, members: Iterable[int]) -> list[Row[Any]]:
    """Return every merge, undone ones too, that leads from these users to others, by time."""
    found: dict[str, Row[Any]] = {}
    seen: set[int] = set()
    fresh = set(members)
    while fresh and len(found) < _MOST_MERGES:
        rows = tx.connection.execute(
            select(merges)
            .where(
                merges.c.formation_id == tx.formation_id,
                or_(merges.c.primary_pk.in_(fresh), merges.c.secondary_pk.in_(fresh)),
            )
            .order_by(merges.c.merged_at, merges.c.merge_id)
            .limit(_MOST_MERGES)
        ).all()
        found.update({row.merge_id: row for row in rows})
        seen |= fresh
        fresh = set(_users_of(rows)) - seen
    return sorted(found.values(), key=lambda row: (row.merged_at, row.merge_id))


def _users_of(ledger: Iterable[Row[Any]]) -> list[int]:
    return [pk for row in ledger for pk in (row.primary_pk, row.secondary_pk)]


def _path(ledger: Sequence[Row[Any]], sides: Sequence[Side], *, now: bool) -> tuple[list[Row[Any]], bool]:
    """Return the merges that lead from one side to the other, and whether the two were ever joined.

    ``now``: those that stand. Else those of the last moment at which the two were one person.
    """
    one, other = (side.spans for side in sides)
    if now:
        standing = [row for row in ledger if row.undone_at is None]
        return _find_path(standing, one[-1].member_pk, other[-1].member_pk) or [], True
    moments = {float(row.merged_at) for row in ledger} | {span.since for span in (*one, *other)}
    for moment in sorted(moments, reverse=True):
        standing = [
            row for row in ledger if row.merged_at <= moment and (row.undone_at is None or row.undone_at > moment)
        ]
        for first, second in product(one, other):
            if max(first.since, second.since) <= moment < min(first.until, second.until):
                path = _find_path(standing, first.member_pk, second.member_pk)
                if path is not None:
                    return path, True
    return [], False


def _find_path(standing: Sequence[Row[Any]], first: int, second: int) -> list[Row[Any]] | None:
    """Return the merges on the way from one member to the other, None where there is no way."""
    by_secondary = {row.secondary_pk: row for row in standing}

    def line(pk: int) -> list[Row[Any]]:
        up: list[Row[Any]] = []
        # Clocks of several machines differ: at a moment of the past the arrows may seem to go in a circle.
        while pk in by_secondary and len(up) < len(standing):
            up.append(by_secondary[pk])
            pk = up[-1].primary_pk
        return up

    one, other = line(first), line(second)
    top = [up[-1].primary_pk if up else pk for up, pk in ((one, first), (other, second))]
    if top[0] != top[1]:
        return None
    while one and other and one[-1] is other[-1]:
        one.pop()
        other.pop()
    return [*one, *other]


# What is told


def _created(tx: Transaction, sides: Sequence[Side], public_ids: dict[int, str]) -> list[ExplainedStep]:
    members = {side.member.pk for side in sides if side.member is not None}
    rows = _events(tx, history.c.user_id.in_([public_ids[pk] for pk in members]), Event.USER_CREATE)
    # A public id that was deleted may have been chosen again: the last one made is the one that is there.
    last = {row.user_id: row for row in rows}
    return [step(row, None) for row in last.values()]


def _identifier_steps(tx: Transaction, sides: Sequence[Side]) -> list[ExplainedStep]:
    steps: list[ExplainedStep] = []
    for side in sides:
        kinds = (Event.IDENTIFIER_LINK, Event.IDENTIFIER_UNLINK, Event.IDENTIFIER_MOVE, Event.IDENTIFIER_REPLACE)
        rows = _events(tx, history.c.identifier_pk.in_(side.own), *kinds)
        steps += [step(row, side.shown) for row in rows]
    return steps


def _merge_steps(tx: Transaction, path: Sequence[Row[Any]], public_ids: dict[int, str]) -> list[ExplainedStep]:
    if not path:
        return []
    names = [public_ids[row.secondary_pk] for row in path]
    # When it was undone, its primary may have been a part of somebody else, whom the history names then.
    primaries = {row.merge_id: public_ids[row.primary_pk] for row in path}
    rows = _events(tx, history.c.other_user_id.in_(names), Event.USER_MERGE, Event.USER_UNMERGE)
    return [step(row, None, user=primaries[row.merge_id]) for row in rows if row.merge_id in primaries]


def _taken_apart(tx: Transaction, sides: Sequence[Side], public_ids: dict[int, str]) -> list[ExplainedStep]:
    """Return the splits that left one side with one person and the other with another."""
    one, other = sides
    if one.member is None or other.member is None or one.member.root_pk == other.member.root_pk:
        return []
    names = [_names_of(tx, side.member.root_pk) for side in sides if side.member is not None]
    rows = _events(tx, history.c.other_user_id.in_(names[0] | names[1]), Event.USER_SPLIT)
    return [
        step(row, None)
        for row in rows
        if (row.user_id in names[0] and row.other_user_id in names[1])
        or (row.user_id in names[1] and row.other_user_id in names[0])
    ]


def _names_of(tx: Transaction, root_pk: int) -> set[str]:
    return set(
        tx.connection.execute(select(users.c.public_id).where(tx.users_where(users.c.root_pk == root_pk))).scalars()
    )


def _events(tx: Transaction, condition: Any, *kinds: Event) -> Sequence[Row[Any]]:
    return tx.connection.execute(
        select(history)
        .where(
            history.c.formation_id == tx.formation_id,
            condition,
            history.c.event.in_([kind.value for kind in kinds]),
        )
        .order_by(history.c.at, history.c.pk)
    ).all()


def _public_ids(tx: Transaction, pks: Iterable[int]) -> dict[int, str]:
    rows = tx.connection.execute(select(users.c.pk, users.c.public_id).where(tx.users_where(users.c.pk.in_(set(pks)))))
    return {row.pk: row.public_id for row in rows}


def _in_order(steps: Iterable[ExplainedStep]) -> list[ExplainedStep]:
    # What two sides have in common is told once. Sorting is stable: events of one moment stay as they were recorded.
    distinct = {(each["event"], each["at"], each["text"]): each for each in steps}
    return sorted(distinct.values(), key=lambda each: each["at"])
