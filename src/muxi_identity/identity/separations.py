"""Pairs of users that somebody took apart: no automatic rule merges their people again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import delete, insert, select

from muxi_identity.identity.transaction import Person, Transaction
from muxi_identity.storage.tables import separations

Pair = frozenset[int]


def separate(tx: Transaction, pairs: Iterable[tuple[int, int]]) -> None:
    """Remember pairs of users as not the same person; their people are locked. One that is known is dated anew."""
    for one, other in sorted({(min(pair), max(pair)) for pair in pairs}):
        tx.connection.execute(
            delete(separations).where(
                separations.c.formation_id == tx.formation_id,
                separations.c.one_pk == one,
                separations.c.other_pk == other,
            )
        )
        tx.connection.execute(
            insert(separations).values(formation_id=tx.formation_id, one_pk=one, other_pk=other, separated_at=tx.now)
        )


def separated_at(tx: Transaction, one: Person, other: Person) -> int | None:
    """Return when these two were last taken apart, None where they never were."""
    return _between(tx, [one, other]).get(frozenset({one.root_pk, other.root_pk}))


def separated_pairs(tx: Transaction, people: Collection[Person]) -> frozenset[Pair]:
    """Return which of these people, by root, were taken apart from which."""
    return frozenset(_between(tx, people)) if len(people) > 1 else frozenset()


def _between(tx: Transaction, people: Collection[Person]) -> dict[Pair, int]:
    root_of = {pk: person.root_pk for person in people for pk in person.member_pks}
    # From the smaller side: of one whom many were merged into, only what concerns the others is read.
    largest = max(people, key=lambda person: len(person.member_pks))
    asked = [pk for person in people if person is not largest for pk in person.member_pks]
    found: dict[Pair, int] = {}
    for one, other, at in _of(tx, asked):
        roots = frozenset({root_of.get(one), root_of.get(other)})
        if len(roots) == 2 and None not in roots:
            pair = frozenset(pk for pk in roots if pk is not None)
            found[pair] = max(at, found.get(pair, at))
    return found


def _of(tx: Transaction, user_pks: Sequence[int]) -> list[tuple[int, int, int]]:
    rows: list[tuple[int, int, int]] = []
    for column in (separations.c.one_pk, separations.c.other_pk):  # each by an index of its own
        statement = select(separations.c.one_pk, separations.c.other_pk, separations.c.separated_at).where(
            separations.c.formation_id == tx.formation_id, column.in_(user_pks)
        )
        rows += [(row.one_pk, row.other_pk, row.separated_at) for row in tx.connection.execute(statement)]
    return rows
