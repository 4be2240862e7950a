"""Rows that follow an identifier: to another member in a split, to the identifier that takes its place in a succession.

Generic over the user-owned tables: a new one needs nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text, update

from muxi_identity.identity.previewing import is_counted, kind_of
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import OWNED_TABLES, identifiers, synopses
from muxi_identity.storage.upserts import insert_into


def move_identifiers(tx: Transaction, identifier_pks: Sequence[int], user_pk: int) -> dict[str, int]:
    """Give identifiers, with every row that was recorded through them, to another member. Return the rows by kind.

    The identifiers go first: a write that holds one of them is waited for, and the rows it leaves are seen by the
    statements that follow; one that comes later finds the identifier gone, and the guard refuses it.
    """
    _defer_foreign_keys(tx)
    tx.connection.execute(
        update(identifiers)
        .where(identifiers.c.formation_id == tx.formation_id, identifiers.c.pk.in_(sorted(identifier_pks)))
        .values(user_pk=user_pk)
    )
    return _update_rows(tx, identifier_pks, {"user_pk": user_pk})


def hand_on_rows(tx: Transaction, old_pk: int, new_pk: int) -> dict[str, int]:
    """Record what was recorded through one identifier as through another one of the same member."""
    return _update_rows(tx, [old_pk], {"identifier_pk": new_pk})


def _update_rows(tx: Transaction, identifier_pks: Sequence[int], values: dict[str, int]) -> dict[str, int]:
    moved: dict[str, int] = {}
    for table in OWNED_TABLES:
        number = tx.connection.execute(
            update(table)
            .where(table.c.formation_id == tx.formation_id, table.c.identifier_pk.in_(sorted(identifier_pks)))
            .values(**values)
        ).rowcount
        if number and is_counted(table):
            moved[kind_of(table)] = number
    return dict(sorted(moved.items()))


def drop_synopses(tx: Transaction, member_pks: Sequence[int], root_pk: int) -> None:
    """Drop what was made from the rows of these members together, and let none that is being made count.

    Its basis would no longer hold either, but then the words of one person would lie with another one until they were
    asked for. Whoever is just keeping a text under their root, ``root_pk``, is waited for: the row that it is kept in
    may not be there yet.
    """
    dropped = {"text": None, "basis": None, "built_at": None, "revision": synopses.c.revision + 1}
    (pk,) = tx.new_keys(1)
    own = insert_into(tx.database.dialect, synopses).values(
        formation_id=tx.formation_id, pk=pk, user_pk=root_pk, revision=1
    )
    tx.connection.execute(own.on_conflict_do_update(index_elements=["formation_id", "user_pk"], set_=dropped))
    others = [member_pk for member_pk in member_pks if member_pk != root_pk]
    tx.connection.execute(
        update(synopses)
        .where(synopses.c.formation_id == tx.formation_id, synopses.c.user_pk.in_(others))
        .values(dropped)
    )


def _defer_foreign_keys(tx: Transaction) -> None:
    # An identifier and its rows change their member in different statements.
    deferred = "PRAGMA defer_foreign_keys = ON" if tx.database.dialect == "sqlite" else "SET CONSTRAINTS ALL DEFERRED"
    tx.connection.execute(text(deferred))
