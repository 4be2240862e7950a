"""The merge itself: a pointer, not a migration.

The secondary's root gets the primary's root as parent, and its members the primary's root as root. Nothing that
belongs to anybody moves: reads go over all members of a root, writes go under the member that was written through.
"""

from __future__ import annotations

import secrets

from sqlalchemy import case, insert, update

from muxi_identity.identity.history import Event, record
from muxi_identity.identity.transaction import Person, Transaction
from muxi_identity.storage.tables import merges, users


def merge(tx: Transaction, primary: Person, secondary: Person, *, mode: str) -> str:
    """Make ``secondary`` a member of ``primary``; both are locked. Return the merge's public id.

    ``mode`` is why it happened (``"absorb"``, ``"merge"``, ``"promote"``). The time does not depend on how much data
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
