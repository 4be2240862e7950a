"""Persistent facts: one row a statement, under the member that said it; folded when read."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, func, insert, select

from muxi_identity.context.facts import Fact
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import memories, users

FACT = "fact"


def read_facts(tx: Transaction, hit: Hit) -> list[Fact]:
    """Return what is known of the person: newest first, one for each key, over all members.

    The statement derives root and members itself, from the caller's member: it is right even where a cached root is
    not. A later statement wins over an earlier one whichever member said it; nothing is overwritten, so that an
    unmerge gives each side back its own.
    """
    own = select(users.c.root_pk).where(tx.users_where(users.c.pk == hit.member_pk)).scalar_subquery()
    members = select(users.c.pk).where(tx.users_where(users.c.root_pk == own))
    newest_first = (memories.c.created_at.desc(), memories.c.pk.desc())
    said = (
        select(
            memories.c.key,
            memories.c.content,
            memories.c.value,
            memories.c.created_at,
            memories.c.pk,
            func.row_number().over(partition_by=memories.c.key, order_by=newest_first).label("place"),
        )
        .where(
            and_(
                memories.c.formation_id == tx.formation_id,
                memories.c.user_pk.in_(members),
                memories.c.type == FACT,
            )
        )
        .subquery()
    )
    statement = (
        select(said.c.key, said.c.content, said.c.value)
        .where(said.c.place == 1, said.c.value.is_not(None))
        .order_by(said.c.created_at.desc(), said.c.pk.desc())
    )
    return [Fact(row.key, row.content, row.value) for row in tx.connection.execute(statement)]


def add_facts(tx: Transaction, hit: Hit, facts: Sequence[Fact]) -> None:
    """Add statements under the caller's member, recorded through its identifier."""
    if not facts:
        return
    keys = tx.new_keys(len(facts))
    tx.connection.execute(
        insert(memories),
        [
            {
                "formation_id": tx.formation_id,
                "pk": pk,
                "user_pk": hit.member_pk,
                "identifier_pk": hit.identifier_pk,
                "type": FACT,
                "key": fact.key,
                "content": fact.content,
                "value": fact.value,
                "created_at": tx.now,
            }
            for pk, fact in zip(keys, facts, strict=True)
        ],
    )
