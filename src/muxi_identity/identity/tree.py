"""The tree of a person: which user was merged into which, as the parents say it and the ledger dates it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Row, select

from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import merges, users


class Edge(NamedTuple):
    """A merge that stands, in the order in which merges are compared: by time."""

    merged_at: int
    merge_id: str
    secondary_pk: int
    primary_pk: int


class Tree:
    """The members of one person with their parents; the root's is None."""

    def __init__(self, parents: dict[int, int | None], public_ids: dict[int, str]) -> None:
        self.parents = parents
        self.public_ids = public_ids

    def ancestors(self, pk: int) -> list[int]:
        """Return ``pk``, its parent, and so on up to the root."""
        line = [pk]
        while (parent := self.parents[line[-1]]) is not None:
            line.append(parent)
        return line

    def below(self, top: int) -> list[int]:
        """Return ``top`` with every member that was merged into it, directly or not."""
        children: dict[int | None, list[int]] = {}
        for pk, parent in self.parents.items():
            children.setdefault(parent, []).append(pk)
        found = [top]
        for pk in found:
            found.extend(children.get(pk, ()))
        return found

    def between(self, one: int, other: int) -> list[int]:
        """Return the members whose edges to their parents lead from ``one`` to ``other``, from the first to the
        last."""
        up, down = self.ancestors(one), self.ancestors(other)
        while up and down and up[-1] == down[-1]:
            up.pop()
            down.pop()
        return [*up, *reversed(down)]


def read_tree(tx: Transaction, root_pk: int) -> Tree:
    """Read the tree of a root."""
    rows = tx.connection.execute(
        select(users.c.pk, users.c.parent_pk, users.c.public_id)
        .where(tx.users_where(users.c.root_pk == root_pk))
        .order_by(users.c.created_at, users.c.pk)
    ).all()
    return Tree({row.pk: row.parent_pk for row in rows}, {row.pk: row.public_id for row in rows})


def standing_edges(tx: Transaction, secondary_pks: Sequence[int]) -> list[Edge]:
    """Return the merges that made these members part of their parents, in the order of ``secondary_pks``."""
    rows = tx.connection.execute(
        select(merges).where(
            merges.c.formation_id == tx.formation_id,
            merges.c.secondary_pk.in_(secondary_pks),
            merges.c.undone_at.is_(None),
        )
    ).all()
    by_secondary = {row.secondary_pk: row for row in rows}
    return [_edge(by_secondary[pk]) for pk in secondary_pks]


def _edge(row: Row[tuple[object, ...]]) -> Edge:
    return Edge(row.merged_at, row.merge_id, row.secondary_pk, row.primary_pk)
