"""Working memory inside a transaction: short items that expire, bounded for each member, folded when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import FromClause, Select, delete, func, literal_column, select
from sqlalchemy.sql import ColumnElement

from muxi_identity.context.person import members_of
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import WorkingItem, iso
from muxi_identity.storage.tables import working_memory
from muxi_identity.storage.upserts import insert_into

KINDS = ("fact", "topic", "summary")
MAX_CONTENT = 300  # characters


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
    insert = insert_into(tx.database.dialect, working_memory).values(rows)
    tx.connection.execute(
        insert.on_conflict_do_update(
            index_elements=[
                working_memory.c.formation_id,
                working_memory.c.user_pk,
                literal_column("coalesce(identifier_pk, 0)"),
                working_memory.c.kind,
                working_memory.c.content,
            ],
            set_={name: insert.excluded[name] for name in ("shareable", "created_at", "expires_at")},
        )
    )
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
    tx.erased = True
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
    beyond = (
        select(working_memory.c.pk)
        .where(_of_member(tx, hit), working_memory.c.expires_at > tx.now)
        .order_by(working_memory.c.created_at.desc(), working_memory.c.pk.desc())
        .offset(max_items)
    )
    tx.connection.execute(
        delete(working_memory).where(
            _of_member(tx, hit),
            (working_memory.c.expires_at <= tx.now) | working_memory.c.pk.in_(beyond),
        )
    )


def _of_member(tx: Transaction, hit: Hit) -> ColumnElement[bool]:
    return (working_memory.c.formation_id == tx.formation_id) & (working_memory.c.user_pk == hit.member_pk)
