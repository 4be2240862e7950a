"""Working memory inside a transaction: short items that expire, bounded for each member, folded when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import FromClause, Select, delete, func, literal_column, select, tuple_
from sqlalchemy.sql import ColumnElement

from muxi_identity.context.person import members_of
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import WorkingItem, iso
from muxi_identity.storage.tables import working_memory
from muxi_identity.storage.upserts import upsert

KINDS = ("fact", "topic", "summary")
MAX_CONTENT = 300  # characters
_OWN_KEY = (
    working_memory.c.formation_id,
    working_memory.c.user_pk,
    # A constant, as the index has it: a parameter would not be known for the same.
    func.coalesce(working_memory.c.identifier_pk, literal_column("0")),
    working_memory.c.kind,
    working_memory.c.content,
)
_REFRESHED = ("shareable", "created_at", "expires_at")


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be kept: ``kind`` is one of :data:`KINDS`; ``content`` has at most :data:`MAX_CONTENT` characters."""

    content: str
    kind: str = "topic"
    shareable: bool = False


def shorten(text: str) -> str:
    """Return ``text`` on one line, cut to what an item may hold."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_CONTENT else f"{line[: MAX_CONTENT - 3].rstrip()}..."


def add_items(tx: Transaction, hit: Hit, items: Sequence[NewItem], *, ttl: float, max_items: int) -> None:
    """Keep items for ``ttl`` seconds under the caller's member and identifier.

    The same again is the newest, and lasts from now on. What has expired goes, and what the member has beyond its
    ``max_items`` newest.
    """
    new = {(item.kind, item.content): item for item in items}
    if not new:
        return
    # In one order: two turns that keep the same items in another one would wait for each other.
    keys = sorted(new)
    expires_at = tx.now + int(ttl * 1e6)
    rows = [
        {
            "formation_id": tx.formation_id,
            "pk": pk,
            "user_pk": hit.member_pk,
            "identifier_pk": hit.identifier_pk,
            "kind": kind,
            "content": content,
            "shareable": new[kind, content].shareable,
            "created_at": tx.now,
            "expires_at": expires_at,
        }
        for pk, (kind, content) in zip(tx.new_keys(len(keys)), keys, strict=True)
    ]
    tx.connection.execute(upsert(tx.database.dialect, working_memory, _OWN_KEY, _REFRESHED), rows)
    _trim(tx, hit, max_items)


def read_items(tx: Transaction, hit: Hit, limit: int) -> list[WorkingItem]:
    """Return the person's newest items that have not expired, equal ones of several channels once."""
    members = members_of(tx, hit).subquery()
    statement = live_items(members, tx.formation_id, tx.now, limit)
    return [item_of(row) for row in tx.connection.execute(statement)]


def live_items(members: FromClause, formation_id: Any, now: Any, limit: Any, *, shared: bool = False) -> Select[Any]:
    """Return the statement for the newest live items of ``members`` (a column ``pk``), folded.

    ``formation_id``, ``now`` and ``limit`` are values or parameters. ``shared``: only what is shareable. Of equal items
    the newest counts, before it is asked whether it is shareable: what was last said in private stays private.
    """
    table = working_memory
    live = (
        select(
            table.c.kind,
            table.c.content,
            table.c.shareable,
            table.c.created_at,
            table.c.expires_at,
            table.c.pk,
            func.row_number()
            .over(partition_by=(table.c.kind, table.c.content), order_by=(table.c.created_at.desc(), table.c.pk.desc()))
            .label("place"),
        )
        .select_from(members.join(table, table.c.user_pk == members.c.pk))
        .where(table.c.formation_id == formation_id, table.c.expires_at > now)
        .subquery()
    )
    folded = select(live.c.kind, live.c.content, live.c.shareable, live.c.created_at, live.c.expires_at).where(
        live.c.place == 1
    )
    if shared:
        folded = folded.where(live.c.shareable)
    return folded.order_by(live.c.created_at.desc(), live.c.pk.desc()).limit(limit)


def item_of(row: Any) -> WorkingItem:
    """Return an item as it is shown."""
    return {
        "kind": row.kind,
        "content": row.content,
        "shareable": bool(row.shareable),
        "created_at": iso(row.created_at),
        "expires_at": iso(row.expires_at),
    }


def clear_items(tx: Transaction, hit: Hit) -> int:
    """Delete the items of the whole person, and return how many rows went."""
    gone = tx.connection.execute(
        delete(working_memory).where(
            working_memory.c.formation_id == tx.formation_id, working_memory.c.user_pk.in_(members_of(tx, hit))
        )
    ).rowcount
    tx.erased |= gone > 0
    return gone


def forget_items(tx: Transaction, hit: Hit, contents: Iterable[str]) -> None:
    """Delete the items of the whole person that say one of ``contents``, as a turn keeps them."""
    kept = {shorten(content) for content in contents}
    if kept:
        tx.connection.execute(
            delete(working_memory).where(
                working_memory.c.formation_id == tx.formation_id,
                working_memory.c.user_pk.in_(members_of(tx, hit)),
                working_memory.c.content.in_(kept),
            )
        )


def _trim(tx: Transaction, hit: Hit, max_items: int) -> None:
    table = working_memory
    beyond = (
        select(table.c.pk, table.c.created_at)
        .where(_of_member(tx, hit), table.c.expires_at > tx.now)
        .order_by(table.c.created_at.desc(), table.c.pk.desc())
        .offset(max_items)
    )
    # What another transaction holds is left to it: two that kept items and waited for what the other one trims would
    # wait in a circle. The time is compared too, since what was kept again meanwhile is among the newest.
    gone = (
        select(table.c.pk)
        .where(
            _of_member(tx, hit),
            (table.c.expires_at <= tx.now) | tuple_(table.c.pk, table.c.created_at).in_(beyond),
        )
        .with_for_update(skip_locked=True)
    )
    tx.connection.execute(delete(table).where(table.c.formation_id == tx.formation_id, table.c.pk.in_(gone)))


def _of_member(tx: Transaction, hit: Hit) -> ColumnElement[bool]:
    return (working_memory.c.formation_id == tx.formation_id) & (working_memory.c.user_pk == hit.member_pk)
