"""Erasing a person: everything that is kept of them goes, in one transaction, and a receipt stays."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Table, delete, func, select, update
from sqlalchemy.sql import ColumnElement

from muxi_identity.errors import MergeConflictError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.history import Event, record
from muxi_identity.identity.naming import people_named
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import DeleteResult
from muxi_identity.storage.tables import OWNED_TABLES, history, identifiers, merges, separations, users


def delete_user(tx: Transaction, hit: Hit, *, include_merged: bool) -> DeleteResult:
    """Delete the person that ``hit`` means: root, members, identifiers and every user-owned row.

    What stays: history rows, which hold ids alone (their free-text reasons go), with a receipt of ids and counts, and
    the tombstones of secrets, so that a key of somebody who was deleted never becomes a new user.

    Raises:
        UserNotFoundError: It means nobody any more.
        MergeConflictError: Other users are merged into it and ``include_merged`` is false.
        RaceLost: Somebody wrote under the person meanwhile.
    """
    (member,), people = people_named(tx, [hit])
    person = people[member.root_pk]
    merged = _merged_public_ids(tx, person.root_pk)
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
        tx.connection.execute(
            select(users.c.pk).where(tx.users_where(users.c.pk.in_(pks))).order_by(users.c.pk).with_for_update()
        )
    _fence_all(tx, pks, [person.public_id, *merged])
    _forget_reasons(tx, pks, [person.public_id, *merged])
    _scrub_elsewhere(tx, pks)
    counts: dict[str, int] = {}
    for table, which in _what_goes(tx, pks):
        if table is identifiers:
            _leave_tombstones(tx, pks)
        counts[_kind(table)] = tx.connection.execute(delete(table).where(which)).rowcount
    result = _deletion(person.public_id, merged, counts)
    record(tx, Event.USER_DELETE, person.public_id, details={"merged_users": merged, "counts": counts})
    return result


def _scrub_elsewhere(tx: Transaction, pks: Sequence[int]) -> None:
    """Remove the spellings of this person's identifiers from what others once were known by.

    Somebody may have written in under their address before it was proved, or have had their number before them. What
    was recorded through such an identifier keeps its row, which says nothing any more.
    """
    ours = identifiers.c.formation_id == tx.formation_id
    buckets = select(identifiers.c.bucket).where(ours, identifiers.c.user_pk.in_(pks))
    tx.connection.execute(
        update(identifiers)
        .where(
            ours,
            identifiers.c.bucket.in_(buckets),
            identifiers.c.unlinked_at.is_not(None),
            identifiers.c.user_pk.not_in(pks),
        )
        .values(value="", spelling="", metadata=None, source=None)
    )


def _leave_tombstones(tx: Transaction, pks: Sequence[int]) -> None:
    tx.connection.execute(
        update(identifiers)
        .where(identifiers.c.formation_id == tx.formation_id, identifiers.c.user_pk.in_(pks), identifiers.c.secret)
        .values(
            user_pk=None,
            spelling="",
            metadata=None,
            source=None,
            unlinked_at=func.coalesce(identifiers.c.unlinked_at, tx.now),
        )
    )


def _forget_reasons(tx: Transaction, member_pks: Sequence[int], public_ids: Sequence[str]) -> None:
    """Remove what was said of them in free text: also in the name of another, whose part they were at the time."""
    theirs = select(identifiers.c.pk).where(
        identifiers.c.formation_id == tx.formation_id, identifiers.c.user_pk.in_(member_pks)
    )
    for about in (
        history.c.user_id.in_(public_ids),
        history.c.other_user_id.in_(public_ids),
        history.c.identifier_pk.in_(theirs),
    ):
        tx.connection.execute(
            update(history).where(history.c.formation_id == tx.formation_id, about).values(reason=None)
        )


def count_what_goes(tx: Transaction, hit: Hit) -> DeleteResult:
    """Return what :func:`delete_user` would delete, and delete nothing.

    Raises:
        UserNotFoundError: It means nobody any more.
    """
    (member,), people = people_named(tx, [hit], lock=False)
    person = people[member.root_pk]
    pks = person.member_pks
    counts = {
        _kind(table): tx.connection.execute(select(func.count()).select_from(table).where(which)).scalar_one()
        for table, which in _what_goes(tx, pks)
    }
    return _deletion(person.public_id, _merged_public_ids(tx, person.root_pk), counts, dry_run=True)


def _what_goes(tx: Transaction, pks: Sequence[int]) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return each table that holds anything of these members with the condition on its rows, in an order to delete.

    Of secrets that are identifiers a tombstone stays.
    """
    owned = [(table, (table.c.formation_id == tx.formation_id) & table.c.user_pk.in_(pks)) for table in OWNED_TABLES]
    ours = identifiers.c.formation_id == tx.formation_id
    ledger = merges.c.formation_id == tx.formation_id
    apart = (separations.c.formation_id == tx.formation_id) & (
        separations.c.one_pk.in_(pks) | separations.c.other_pk.in_(pks)
    )
    return [
        *owned,
        (identifiers, ours & identifiers.c.user_pk.in_(pks) & ~identifiers.c.secret),
        (separations, apart),
        (merges, ledger & (merges.c.primary_pk.in_(pks) | merges.c.secondary_pk.in_(pks))),
        (users, tx.users_where(users.c.pk.in_(pks))),
    ]


def _kind(table: Table) -> str:
    return table.name.removeprefix("muxi_")


def _deletion(public_id: str, merged: list[str], counts: dict[str, int], *, dry_run: bool = False) -> DeleteResult:
    return {
        "muxi_user_id": public_id,
        "merged_users": merged,
        "rows_deleted": sum(counts.values()),
        "counts": counts,
        "dry_run": dry_run,
    }


def _merged_public_ids(tx: Transaction, root_pk: int) -> list[str]:
    statement = (
        select(users.c.public_id)
        .where(tx.users_where(users.c.root_pk == root_pk, users.c.pk != root_pk))
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
