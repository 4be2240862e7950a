"""Undoing a merge: the one parent that it set is cleared, and whoever is below becomes a person again.

Right in any order and nesting: nothing that was recorded at the time of the merge is put back, and what was written
since lies under the member of the channel that it came through.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Row, case, exists, select, update

from muxi_identity.errors import MergeNotFoundError
from muxi_identity.identity.history import Event, record
from muxi_identity.identity.moving import drop_synopses
from muxi_identity.identity.previewing import summarise
from muxi_identity.identity.separations import separate
from muxi_identity.identity.transaction import Transaction
from muxi_identity.identity.tree import read_tree
from muxi_identity.models import UnmergeResult, iso
from muxi_identity.storage.errors import RaceLost
from muxi_identity.storage.tables import identifiers, merges, users


def unmerge_users(tx: Transaction, merge_id: str, *, dry_run: bool) -> UnmergeResult:
    """Undo a merge, or only say what that would do; one that is undone already stays so and is answered alike.

    The two are remembered as not the same person.

    Raises:
        MergeNotFoundError: There is none of this id, or one of its users was deleted.
        RaceLost: The person changed while the lock was waited for.
    """
    ledger = _read(tx, merge_id)
    roots = _roots(tx, ledger)
    if not dry_run and ledger.undone_at is None:
        tx.lock_people(roots)
        if _read(tx, merge_id) != ledger or _roots(tx, ledger) != roots:
            raise RaceLost
    public_ids = _public_ids(tx, [roots[0], ledger.secondary_pk])
    result: UnmergeResult = {
        "merge_id": merge_id,
        "muxi_user_id": public_ids[roots[0]],
        "separated_user_id": public_ids[ledger.secondary_pk],
        "already_undone": ledger.undone_at is not None,
        "undone_at": None if ledger.undone_at is None else iso(ledger.undone_at),
        "dry_run": dry_run,
        "preview": None,
    }
    if ledger.undone_at is not None:
        return result
    root_pk = roots[0]
    tree = read_tree(tx, root_pk)
    leaving = tree.below(ledger.secondary_pk)
    staying = [pk for pk in tree.parents if pk not in set(leaving)]
    if dry_run:
        result["preview"] = {
            "primary": summarise(tx, root_pk, staying),
            "secondary": summarise(tx, ledger.secondary_pk, leaving),
        }
        return result
    _clear_parent(tx, ledger.secondary_pk, leaving)
    tx.connection.execute(
        update(merges)
        .where(merges.c.formation_id == tx.formation_id, merges.c.merge_id == merge_id)
        .values(undone_at=tx.now)
    )
    _establish_if_linked(tx, ledger, leaving)
    separate(tx, [(ledger.primary_pk, ledger.secondary_pk)])
    drop_synopses(tx, [*staying, *leaving], root_pk)
    tx.touch([root_pk])
    record(
        tx,
        Event.USER_UNMERGE,
        result["muxi_user_id"],
        other_user_id=result["separated_user_id"],
        merge_id=merge_id,
    )
    result["undone_at"] = iso(tx.now)
    return result


def _read(tx: Transaction, merge_id: str) -> Row[tuple[object, ...]]:
    row = tx.connection.execute(
        select(merges).where(merges.c.formation_id == tx.formation_id, merges.c.merge_id == merge_id)
    ).one_or_none()
    if row is None:
        raise MergeNotFoundError(
            "There is no merge of that id in this formation; it is gone, too, once one of its users was deleted. "
            "get_user_history(user_id) names the merges of a person.",
            merge_id=merge_id,
        )
    return row


def _roots(tx: Transaction, ledger: Row[tuple[object, ...]]) -> list[int]:
    """Return the roots of the primary and of the secondary; they are one while the merge stands."""
    wanted = [ledger.primary_pk, ledger.secondary_pk]
    rows = tx.connection.execute(select(users.c.pk, users.c.root_pk).where(tx.users_where(users.c.pk.in_(wanted))))
    root_of = {row.pk: row.root_pk for row in rows}
    return [root_of[pk] for pk in wanted]


def _public_ids(tx: Transaction, pks: Sequence[int]) -> dict[int, str]:
    rows = tx.connection.execute(select(users.c.pk, users.c.public_id).where(tx.users_where(users.c.pk.in_(pks))))
    return {row.pk: row.public_id for row in rows}


def _clear_parent(tx: Transaction, top: int, below: Sequence[int]) -> None:
    tx.fence.members(below)
    tx.connection.execute(
        update(users)
        .where(tx.users_where(users.c.pk.in_(below)))
        .values(
            root_pk=top,
            parent_pk=case((users.c.pk == top, None), else_=users.c.parent_pk),
            version=users.c.version + 1,
        )
    )


def _establish_if_linked(tx: Transaction, ledger: Row[tuple[object, ...]], below: Sequence[int]) -> None:
    """Whoever was given an identifier while it was a part of another was linked on purpose: it is established."""
    linked = exists().where(
        identifiers.c.formation_id == tx.formation_id,
        identifiers.c.user_pk.in_(below),
        identifiers.c.linked_at > ledger.merged_at,
    )
    tx.connection.execute(
        update(users)
        .where(tx.users_where(users.c.pk == ledger.secondary_pk, users.c.established_at.is_(None), linked))
        .values(established_at=tx.now)
    )
