"""The guard on every write under a person: the caller's identifier must still be its member's when it commits."""

from __future__ import annotations

from sqlalchemy import and_, or_, select
from sqlalchemy.sql import ColumnElement

from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.errors import GuardRefused
from muxi_identity.storage.tables import identifiers, users

# Made once: an alias copies every column that it has.
_root = users.alias("root")
_with_root = users.join(_root, (_root.c.formation_id == users.c.formation_id) & (_root.c.pk == users.c.root_pk))


def hold_theirs(tx: Transaction, hit: Hit, *, alone: bool = False) -> None:
    """Hold the caller's identifier under its member until the transaction ends.

    ``alone`` keeps other writers under the same identifier (under a public id, other holders that are alone) waiting
    until then: for what only one of them may begin. Whoever needs it asks for it at once: of two that held a share
    lock and then wanted more, each would wait for the other.

    The share lock meets an unlink, a split or a delete that is under way: whichever commits first, the other sees it.
    (The foreign key alone would let a write through an identifier that was unlinked meanwhile.) The user is locked
    before the identifier, as a delete does, so that nobody waits in a circle.

    Raises:
        GuardRefused: It is not, or no longer, that member's.
    """
    if not tx.database.lock_rows:  # nobody else writes meanwhile
        check_theirs(tx, hit)
        return
    by_public_id = hit.identifier_pk is None
    user = select(users.c.pk).where(tx.users_where(users.c.pk == hit.member_pk))
    held = user.with_for_update(read=not (alone and by_public_id), key_share=True)
    if tx.connection.execute(held).scalar() is None:
        raise GuardRefused
    if by_public_id:
        return
    identifier = select(identifiers.c.pk).where(_is_theirs(tx, hit))
    # FOR SHARE, or FOR NO KEY UPDATE: the foreign keys of rows that are written meanwhile wait for neither.
    held = identifier.with_for_update(read=not alone, key_share=alone)
    if tx.connection.execute(held).scalar() is None:
        raise GuardRefused


def check_theirs(tx: Transaction, hit: Hit) -> str:
    """Check, in the snapshot of a reading transaction, that the caller's identifier is its member's.

    A cached mapping may be wrong; what is read after this, in the same snapshot, is the right person's. Returns the
    person's public id: a merge by another process may have changed it.

    Raises:
        GuardRefused: It is not, or no longer, that member's.
    """
    statement = select(_root.c.public_id).select_from(_with_root)
    if hit.identifier_pk is not None:
        statement = statement.join(identifiers, _is_theirs(tx, hit))
    public_id: str | None = tx.connection.execute(statement.where(tx.users_where(users.c.pk == hit.member_pk))).scalar()
    if public_id is None:
        raise GuardRefused
    return public_id


def _is_theirs(tx: Transaction, hit: Hit) -> ColumnElement[bool]:
    return and_(
        identifiers.c.formation_id == tx.formation_id,
        identifiers.c.pk == hit.identifier_pk,
        identifiers.c.user_pk == hit.member_pk,
        identifiers.c.unlinked_at.is_(None),
        or_(identifiers.c.expires_at.is_(None), identifiers.c.expires_at > tx.now),
    )
