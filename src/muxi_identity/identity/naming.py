"""Whom a call names, once its transaction runs: between the look-up and the lock the identifier may have moved."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, select

from muxi_identity.errors import UserNotFoundError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Member, Person, Transaction
from muxi_identity.storage.errors import RaceLost
from muxi_identity.storage.tables import identifiers, users


def member_now(tx: Transaction, hit: Hit) -> Member:
    """Return the member that ``hit`` means in this transaction.

    By key and not by public id: the root that the look-up found may answer for another person by now.

    Raises:
        UserNotFoundError: The user was deleted or the identifier unlinked meanwhile.
    """
    member = select(users.c.pk, users.c.root_pk)
    if hit.identifier_pk is None:
        member = member.where(tx.users_where(users.c.pk == hit.member_pk))
    else:
        member = member.join(
            identifiers, (identifiers.c.formation_id == users.c.formation_id) & (identifiers.c.user_pk == users.c.pk)
        ).where(
            tx.users_where(
                identifiers.c.pk == hit.identifier_pk,
                identifiers.c.unlinked_at.is_(None),
                or_(identifiers.c.expires_at.is_(None), identifiers.c.expires_at > tx.now),
            )
        )
    row = tx.connection.execute(member).one_or_none()
    if row is None:
        raise UserNotFoundError("The user was deleted, or the identifier unlinked, while the call was under way.")
    return Member(row.pk, row.root_pk)


def people_named(tx: Transaction, hits: Sequence[Hit], *, lock: bool = True) -> tuple[list[Member], dict[int, Person]]:
    """Return the members that ``hits`` mean, in their order, and their people by root, locked unless told otherwise.

    Raises:
        UserNotFoundError: One of them means nobody any more.
        RaceLost: One of them changed while the lock was waited for.
    """
    members = [member_now(tx, hit) for hit in hits]
    roots = [member.root_pk for member in members]
    if not lock:
        return members, tx.read_people(roots)
    people = tx.lock_people(roots)
    if [member_now(tx, hit) for hit in hits] != members:
        raise RaceLost
    return members, people
