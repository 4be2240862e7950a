"""Memories inside a transaction: one row for a member, an identifier, a type and a key; folded when read."""

from __future__ import annotations

import hashlib
import json
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, delete, func, insert, select, tuple_, update

from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.person import members_of
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import memories

FACT = "fact"


@dataclass(frozen=True, slots=True)
class NewMemory:
    """A memory to be kept. ``key`` is the attribute that it is about, None where it is about none."""

    content: str
    type: str = "note"
    key: str | None = None
    value: str | None = None
    metadata: Mapping[str, Any] | None = None
    shareable: bool = False

    @property
    def own_key(self) -> str:
        """What makes it the same as another of its type: its attribute, else its folded content."""
        if self.key is not None:
            return self.key
        folded = " ".join(unicodedata.normalize("NFKC", self.content).casefold().split())
        return f"#{hashlib.sha256(folded.encode()).hexdigest()[:32]}"


def new_memory_id() -> str:
    """Return a memory id that nobody has."""
    return f"mem_{secrets.token_hex(10)}"


def read_facts(tx: Transaction, hit: Hit) -> list[Fact]:
    """Return what is known of the person: newest first, one for each key, over all members.

    A later statement wins over an earlier one whichever member said it; nothing is overwritten, so that an unmerge
    gives each side back its own.
    """
    newest_first = (memories.c.updated_at.desc(), memories.c.pk.desc())
    said = (
        select(
            memories.c.key,
            memories.c.content,
            memories.c.value,
            memories.c.updated_at,
            memories.c.pk,
            func.row_number().over(partition_by=memories.c.key, order_by=newest_first).label("place"),
        )
        .where(
            and_(
                memories.c.formation_id == tx.formation_id,
                memories.c.user_pk.in_(members_of(tx, hit)),
                memories.c.type == FACT,
            )
        )
        .subquery()
    )
    statement = (
        select(said.c.key, said.c.content, said.c.value)
        .where(said.c.place == 1)
        .order_by(said.c.updated_at.desc(), said.c.pk.desc())
    )
    return [Fact(row.key, row.content, row.value) for row in tx.connection.execute(statement)]


def add_memories(tx: Transaction, hit: Hit, new: Sequence[NewMemory]) -> list[str]:
    """Keep memories under the caller's member and identifier, and return their ids.

    One that this member and identifier have already (the same type and key) is replaced in place and keeps its id.
    """
    ids = []
    for each in {(one.type, one.own_key): one for one in new}.values():
        values: dict[str, Any] = {
            "content": each.content,
            "value": each.value,
            "metadata": None if each.metadata is None else json.dumps(each.metadata),
            "shareable": each.shareable,
            "updated_at": tx.now,
        }
        own = and_(
            memories.c.formation_id == tx.formation_id,
            memories.c.user_pk == hit.member_pk,
            func.coalesce(memories.c.identifier_pk, 0) == (hit.identifier_pk or 0),
            memories.c.type == each.type,
            memories.c.key == each.own_key,
        )
        known = tx.connection.execute(update(memories).where(own).values(values).returning(memories.c.memory_id))
        memory_id = known.scalar()
        if memory_id is None:
            memory_id = new_memory_id()
            (pk,) = tx.new_keys(1)
            tx.connection.execute(
                insert(memories).values(
                    formation_id=tx.formation_id,
                    pk=pk,
                    user_pk=hit.member_pk,
                    identifier_pk=hit.identifier_pk,
                    memory_id=memory_id,
                    type=each.type,
                    key=each.own_key,
                    created_at=tx.now,
                    **values,
                )
            )
        ids.append(memory_id)
    return ids


def forget_keys(tx: Transaction, hit: Hit, keys: Sequence[tuple[str, str]]) -> int:
    """Delete what is known under these types and keys, in all members, and return how many rows went."""
    if not keys:
        return 0
    return tx.connection.execute(
        delete(memories).where(
            memories.c.formation_id == tx.formation_id,
            memories.c.user_pk.in_(members_of(tx, hit)),
            tuple_(memories.c.type, memories.c.key).in_(keys),
        )
    ).rowcount
