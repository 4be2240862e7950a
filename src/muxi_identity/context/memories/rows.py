"""Memories inside a transaction: one row for a member, an identifier, a type and a key; folded when read."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Row,
    and_,
    case,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)

from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.memories.records import facts_of, shown_key
from muxi_identity.context.memories.search import IS_FACT, newest_memories, winner_of
from muxi_identity.context.person import members_of
from muxi_identity.context.synopsis.rows import raise_revision, raise_revisions
from muxi_identity.context.working.rows import clear_items, forget_items
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import memories, memory_digest, memory_words, owner_apart
from muxi_identity.storage.upserts import upsert

FACT = "fact"
MAX_FACTS = 200
"""How many facts a reader is given: the newest."""
_OWN_KEY = (
    memories.c.formation_id,
    owner_apart(memories),
    memories.c.type,
    memories.c.key,
    # A constant, as the index has it: a parameter would not be known for the same.
    func.coalesce(memories.c.identifier_pk, literal_column("0")),
)
_REPLACED = ("content", "value", "metadata", "words", "shareable", "updated_at")


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
        return memory_digest(self.content) if self.key is None else self.key


def memory_of(row: Row[Any]) -> NewMemory:
    """Return what a row says, for one that is to say something else."""
    metadata = None if row.metadata is None else json.loads(row.metadata)
    return NewMemory(row.content, row.type, shown_key(row.key), row.value, metadata, bool(row.shareable))


def new_memory_id() -> str:
    """Return a memory id that nobody has."""
    return f"mem_{secrets.token_hex(10)}"


def members_cte(tx: Transaction, hit: Hit) -> CTE:
    """Return the members of the caller's person for the statements of :mod:`.search`."""
    return members_of(tx, hit).cte("members")


def read_facts(tx: Transaction, hit: Hit, limit: int = MAX_FACTS) -> list[Fact]:
    """Return what is known of the person: newest first, one for each key, over all members.

    A later statement wins over an earlier one whichever member said it; nothing is overwritten, so that an unmerge
    gives each side back its own.
    """
    statement = newest_memories(tx.database.dialect, tx.formation_id, members_cte(tx, hit), limit, IS_FACT)
    return facts_of(tx.connection.execute(statement))


def add_memories(tx: Transaction, hit: Hit, new: Sequence[NewMemory]) -> list[str]:
    """Keep memories under the caller's member and identifier, in one statement, and return the id of each.

    One that this member and identifier have already (the same type and key) is replaced in place and keeps its id;
    of several such in ``new``, the last one counts.
    """
    kept = {(row.type, row.key): row.memory_id for row in keep_memories(tx, hit, new)}
    return [kept[each.type, each.own_key] for each in new]


def keep_memories(tx: Transaction, hit: Hit, new: Sequence[NewMemory]) -> Sequence[Row[Any]]:
    """Do as :func:`add_memories`, and return the rows as they are now, in no order."""
    different = {(each.type, each.own_key): each for each in new}
    if not different:
        return []
    raise_revision(tx, hit)
    keys = tx.new_keys(len(different))
    times = _times(tx, hit, [*different])
    rows = [
        {
            "formation_id": tx.formation_id,
            "pk": keys[number],
            "user_pk": hit.member_pk,
            "identifier_pk": hit.identifier_pk,
            "memory_id": new_memory_id(),
            "type": each.type,
            "key": key,
            "content": each.content,
            "value": each.value,
            "metadata": write_metadata(each.metadata),
            "words": memory_words(each.content, each.value, key),
            "shareable": each.shareable,
            "created_at": tx.now,
            "updated_at": times.get((each.type, key), tx.now),
        }
        # In one order, so that no two transactions wait for each other.
        for number, ((_, key), each) in enumerate(sorted(different.items()))
    ]
    statement = upsert(tx.database.dialect, memories, _OWN_KEY, _REPLACED).returning(*memories.c)
    return tx.connection.execute(statement, rows).all()


def _times(tx: Transaction, hit: Hit, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return when those of ``names`` are said that the person has already from now or later: just after that.

    What is said last is what is known, also where the clocks of two machines disagree or one was put back.
    """
    statement = (
        select(memories.c.type, memories.c.key, func.max(memories.c.updated_at))
        .where(
            _theirs(tx, hit),
            memories.c.updated_at >= tx.now,
            tuple_(memories.c.type, memories.c.key).in_(names),
        )
        .group_by(memories.c.type, memories.c.key)
    )
    return {(kind, key): at + 1 for kind, key, at in tx.connection.execute(statement)}


def write_metadata(metadata: Mapping[str, Any] | None) -> str | None:
    """Return metadata as it is kept."""
    return json.dumps(dict(metadata), ensure_ascii=False) if metadata else None


def find_memory(tx: Transaction, hit: Hit, memory_id: str) -> Row[Any] | None:
    """Return the row that stands for a memory of the person: the newest of its type and key. None where they have none.

    So the id of one that a newer one of another identifier supersedes answers with what counts now.
    """
    members = members_cte(tx, hit)
    named = (
        select(memories.c.type, memories.c.key)
        .where(_theirs(tx, hit), memories.c.memory_id == memory_id)
        .subquery("named")
    )
    winner = winner_of(tx.database.dialect, tx.formation_id, members, named)
    standing = (memories.c.formation_id == tx.formation_id) & (memories.c.pk == winner)
    return tx.connection.execute(select(memories).select_from(named.join(memories, standing))).one_or_none()


def change_memory(tx: Transaction, hit: Hit, standing: Row[Any], changed: NewMemory) -> Row[Any]:
    """Let the memory that ``standing`` stands for say what ``changed`` does, in all members, and return its row.

    Every row of its type and key is changed, so that none of them brings the old words back after an unmerge. Where
    one would then be the same as another of its own member and identifier, that one goes. ``standing`` was read after
    the revisions were raised: nobody has changed it since.
    """
    tx.erased = True
    if changed.content != standing.content:
        forget_items(tx, hit, [standing.content])
    same = and_(_theirs(tx, hit), memories.c.type == standing.type, memories.c.key == standing.key)
    key = changed.own_key
    if (changed.type, key) != (standing.type, standing.key):
        rival = memories.alias("rival")
        comes = exists().where(
            rival.c.formation_id == tx.formation_id,
            rival.c.user_pk == memories.c.user_pk,
            rival.c.type == standing.type,
            rival.c.key == standing.key,
            func.coalesce(rival.c.identifier_pk, 0) == func.coalesce(memories.c.identifier_pk, 0),
        )
        taken = and_(_theirs(tx, hit), memories.c.type == changed.type, memories.c.key == key)
        tx.connection.execute(delete(memories).where(taken, comes.correlate(memories)))
    tx.connection.execute(
        update(memories)
        .where(same)
        .values(
            type=changed.type,
            key=key,
            content=changed.content,
            value=changed.value,
            metadata=write_metadata(changed.metadata),
            words=memory_words(changed.content, changed.value, key),
            shareable=changed.shareable,
            # The one that stands stays the newest: its id is the one that the caller knows.
            updated_at=case((memories.c.pk == standing.pk, tx.now), else_=tx.now - 1),
        )
    )
    own = and_(memories.c.formation_id == tx.formation_id, memories.c.pk == standing.pk)
    return tx.connection.execute(select(memories).where(own)).one()


def forget_memory(tx: Transaction, hit: Hit, standing: Row[Any]) -> None:
    """Delete every row of the type and key of ``standing``, in all members; it was read as for a change."""
    _forget(tx, hit, and_(memories.c.type == standing.type, memories.c.key == standing.key))


def forget_keys(tx: Transaction, hit: Hit, keys: Sequence[tuple[str, str]]) -> int:
    """Delete what is known under these types and keys, in all members, and return how many rows went.

    Of the type :data:`FACT`, all that says something of the key goes, whatever type it was added with.
    """
    if not keys:
        return 0
    facts = [key for kind, key in keys if kind == FACT]
    return _forget(tx, hit, or_(tuple_(memories.c.type, memories.c.key).in_(keys), IS_FACT & memories.c.key.in_(facts)))


def forget_all(tx: Transaction, hit: Hit) -> int:
    """Delete every memory of the person, in all members, and return how many rows went. Working memory goes with it."""
    clear_items(tx, hit)
    return len(_delete(tx, hit))


def _forget(tx: Transaction, hit: Hit, *conditions: ColumnElement[bool]) -> int:
    gone = _delete(tx, hit, *conditions)
    forget_items(tx, hit, gone)  # what is forgotten must not come back as what went on lately
    return len(gone)


def _delete(tx: Transaction, hit: Hit, *conditions: ColumnElement[bool]) -> Sequence[str]:
    raise_revisions(tx, hit)
    rows = delete(memories).where(_theirs(tx, hit), *conditions).returning(memories.c.content)
    gone = tx.connection.execute(rows).scalars().all()
    tx.erased |= bool(gone)
    return gone


def _theirs(tx: Transaction, hit: Hit) -> ColumnElement[bool]:
    return and_(memories.c.formation_id == tx.formation_id, memories.c.user_pk.in_(members_of(tx, hit)))
