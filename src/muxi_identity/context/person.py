"""The whole person, in SQL: reads and explicit edits go over all members of the caller's root.

The statements derive root and members themselves, from the caller's member: they are right even where a cached root
is not.
"""

from __future__ import annotations

from sqlalchemy import Select, select

from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import users


def root_of(tx: Transaction, hit: Hit) -> Select[int]:
    """Return the statement that finds the root of the caller's member."""
    return select(users.c.root_pk).where(tx.users_where(users.c.pk == hit.member_pk))


def members_of(tx: Transaction, hit: Hit) -> Select[int]:
    """Return the statement that finds all members of the caller's person; for ``column.in_(...)``."""
    return select(users.c.pk).where(tx.users_where(users.c.root_pk == root_of(tx, hit).scalar_subquery()))
