"""Synopses inside a transaction: the revision of what they rest on, and the text kept with its basis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, select, update

from muxi_identity.context.person import members_of
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import synopses, users
from muxi_identity.storage.upserts import insert_into


class Kept(NamedTuple):
    """What is kept of a person's synopsis.

    ``basis`` names the members and their revisions as they are now, ``text`` what was made of them, None where that
    was made of something else.
    """

    root_pk: int
    public_id: str
    basis: str
    text: str | None
    built_at: int | None


def raise_revision(tx: Transaction, hit: Hit) -> None:
    """Say that what a synopsis rests on changes under the caller's member.

    Called in the transaction of the change and before it: whoever changes the same person then waits here, and not
    for each other's rows in a circle.
    """
    _raise(tx, [hit.member_pk])


def raise_revisions(tx: Transaction, hit: Hit) -> None:
    """Say it of all members of the caller's person: for an edit or a delete, which acts on the rows of all of them.

    The text that is kept goes: it may say what is being deleted.
    """
    members = members_of(tx, hit).order_by(users.c.pk)  # in one order, so that no two of them wait for each other
    _raise(tx, list(tx.connection.execute(members).scalars()), text=None, basis=None, built_at=None)


def _raise(tx: Transaction, member_pks: Sequence[int], **others: None) -> None:
    theirs = and_(synopses.c.formation_id == tx.formation_id, synopses.c.user_pk.in_(member_pks))
    values: dict[str, Any] = {"revision": synopses.c.revision + 1, **others}
    raised = set(
        tx.connection.execute(update(synopses).where(theirs).values(values).returning(synopses.c.user_pk)).scalars()
    )
    new = [member_pk for member_pk in member_pks if member_pk not in raised]
    if new:
        rows = [
            {"formation_id": tx.formation_id, "pk": pk, "user_pk": member_pk, "revision": 1}
            for pk, member_pk in zip(tx.new_keys(len(new)), new, strict=True)
        ]
        insert = insert_into(tx.database.dialect, synopses).values(rows)
        tx.connection.execute(insert.on_conflict_do_update(index_elements=["formation_id", "user_pk"], set_=values))


def basis_of(revisions: Iterable[tuple[int, int | None]]) -> str:
    """Return the basis of these members and their revisions (None: nothing was ever changed), in the order of keys."""
    return ",".join(f"{member_pk}:{revision or 0}" for member_pk, revision in revisions)


def read_kept(tx: Transaction, hit: Hit) -> Kept:
    """Return what is kept of the synopsis of the caller's person."""
    root = users.alias("root")
    statement = (
        select(users.c.pk, users.c.root_pk, root.c.public_id, synopses.c.revision)
        .add_columns(synopses.c.text, synopses.c.basis, synopses.c.built_at)
        .select_from(users)
        .join(root, and_(root.c.formation_id == users.c.formation_id, root.c.pk == users.c.root_pk))
        .outerjoin(synopses, and_(synopses.c.formation_id == users.c.formation_id, synopses.c.user_pk == users.c.pk))
        .where(tx.users_where(users.c.pk.in_(members_of(tx, hit))))
        .order_by(users.c.pk)
    )
    rows = tx.connection.execute(statement).all()
    basis = basis_of((row.pk, row.revision) for row in rows)
    (own,) = (row for row in rows if row.pk == row.root_pk)
    stands = own.basis == basis
    return Kept(own.pk, own.public_id, basis, own.text if stands else None, own.built_at if stands else None)


def keep(tx: Transaction, hit: Hit, kept: Kept, text: str) -> None:
    """Keep ``text``, which was made of what ``kept`` was read with, unless that has changed meanwhile.

    What was deleted meanwhile would come back into the database with it. Whoever deletes raises the revision of the
    root too, and so waits for this, or this for them.
    """
    (pk,) = tx.new_keys(1)
    insert = insert_into(tx.database.dialect, synopses).values(
        formation_id=tx.formation_id, pk=pk, user_pk=kept.root_pk, revision=0
    )
    held = {"revision": synopses.c.revision}  # nothing is changed, but the row is locked
    tx.connection.execute(insert.on_conflict_do_update(index_elements=["formation_id", "user_pk"], set_=held))
    if read_kept(tx, hit).basis == kept.basis:
        theirs = and_(synopses.c.formation_id == tx.formation_id, synopses.c.user_pk == kept.root_pk)
        tx.connection.execute(update(synopses).where(theirs).values(text=text, basis=kept.basis, built_at=tx.now))
