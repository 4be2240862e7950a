"""The merge itself: a pointer, not a migration.

The secondary's root gets the primary's root as parent, and its members the primary's root as root. Nothing that
belongs to anybody moves: reads go over all members of a root, writes go under the member that was written through.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sqlalchemy import case, insert, update

from muxi_identity.errors import MergeConflictError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.history import Event, record
from muxi_identity.identity.naming import people_named
from muxi_identity.identity.previewing import preview_merge
from muxi_identity.identity.separations import separated_at
from muxi_identity.identity.slots import check_limits, count_live
from muxi_identity.identity.transaction import Member, Person, Transaction
from muxi_identity.identity.tree import read_tree, standing_edges
from muxi_identity.models import MergeResult, iso, iso_or_none
from muxi_identity.storage.tables import merges, users

BY_HAND = "operator"


def merge(tx: Transaction, primary: Person, secondary: Person, *, mode: str) -> str:
    """Make ``secondary`` a member of ``primary``; both are locked. Return the merge's public id.

    ``mode`` is why it happened (``"absorb"``, ``"merge"``, ``"operator"``). The time does not depend on how much data
    there is. ``primary`` is brought up to date.
    """
    tx.fence.members(secondary.member_pks)
    tx.connection.execute(
        update(users)
        .where(tx.users_where(users.c.root_pk == secondary.root_pk))
        .values(
            root_pk=primary.root_pk,
            parent_pk=case((users.c.pk == secondary.root_pk, primary.root_pk), else_=users.c.parent_pk),
            version=users.c.version + 1,
        )
    )
    merge_id = f"mrg_{secrets.token_hex(10)}"
    tx.connection.execute(
        insert(merges).values(
            formation_id=tx.formation_id,
            merge_id=merge_id,
            primary_pk=primary.root_pk,
            secondary_pk=secondary.root_pk,
            merged_at=tx.now,
            mode=mode,
            actor=tx.change.actor,
            source=tx.change.source,
            reason=tx.change.reason,
        )
    )
    record(tx, Event.USER_MERGE, primary.public_id, other_user_id=secondary.public_id, merge_id=merge_id)
    primary.member_pks.extend(secondary.member_pks)
    primary.established |= secondary.established
    return merge_id


def merge_users(tx: Transaction, hits: Sequence[Hit], *, dry_run: bool) -> MergeResult:
    """Merge the person of the second hit into that of the first, or only say what that would do.

    Two that are one person already stay as they are, and are answered with the merge that made them so.

    Raises:
        MergeConflictError: Both mean one and the same user.
        IdentifierLimitError: The person would have too many identifiers (not in a dry run, which lists the limits).
        UserNotFoundError: One of them means nobody any more.
        RaceLost: One of them changed while the lock was waited for.
    """
    (first, second), people = people_named(tx, hits, lock=not dry_run)
    primary, secondary = people[first.root_pk], people[second.root_pk]
    if first.pk == second.pk:
        raise MergeConflictError(
            f"Both are {primary.public_id}: a user cannot be merged with itself.", user_id=primary.public_id
        )
    if primary is secondary:
        return _already(tx, primary, first, second, dry_run)
    taken_apart = separated_at(tx, primary, secondary)
    result: MergeResult = {
        "merge_id": None,
        "muxi_user_id": primary.public_id,
        "merged_user_id": secondary.public_id,
        "already_merged": False,
        "merged_at": None,
        "separated_at": iso_or_none(taken_apart),
        "dry_run": dry_run,
        "preview": None,
    }
    if dry_run:
        result["preview"] = preview_merge(tx, primary, secondary)
        return result
    held = count_live(tx, [*primary.member_pks, *secondary.member_pks])
    check_limits(tx.rules.max_per_user, {kind: tx.rules.rule(kind).max_per_user for kind in held}, held)
    result["merge_id"] = merge(tx, primary, secondary, mode=BY_HAND)
    result["merged_at"] = iso(tx.now)
    # Whoever merges by hand means the person to be one: no automatic rule merges it away.
    tx.touch([primary.root_pk], establish=primary.root_pk)
    return result


def _already(tx: Transaction, person: Person, first: Member, second: Member, dry_run: bool) -> MergeResult:
    tree = read_tree(tx, person.root_pk)
    # Of the merges between the two, all others stood before the last one: it is what made them one person.
    last = max(standing_edges(tx, tree.between(first.pk, second.pk)))
    return {
        "merge_id": last.merge_id,
        "muxi_user_id": person.public_id,
        "merged_user_id": tree.public_ids[last.secondary_pk],
        "already_merged": True,
        "merged_at": iso(last.merged_at),
        "separated_at": None,
        "dry_run": dry_run,
        "preview": None,
    }
