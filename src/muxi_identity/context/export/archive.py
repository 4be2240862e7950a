"""The archive of a person, read in one snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Select, Table, func, select

from muxi_identity.context.export.columns import SHOWN
from muxi_identity.context.person import members_of
from muxi_identity.errors import TooLargeError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.people import get_user
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import UserArchive, iso, iso_or_none
from muxi_identity.storage.tables import (
    OWNED_TABLES,
    history,
    identifiers,
    merges,
    messages,
    sessions,
    task_runs,
    tasks,
    users,
)

FORMAT = "muxi-identity/person"
VERSION = 1
MAX_ROWS = 1_000_000
_BATCH = 1_000
_NESTED = {messages.name: (sessions.name, "session_pk", "messages"), task_runs.name: (tasks.name, "task_pk", "runs")}
"""Table -> the one whose rows hold its rows, by which column, and under which key."""


def build_archive(tx: Transaction, hit: Hit) -> UserArchive:
    """Return everything that is kept of the caller's person.

    The rows are fetched a thousand at a time, so that PostgreSQL's driver and the event loop get their turn between
    the batches; the archive itself is whole in memory.

    Raises:
        TooLargeError: The person has more than a million rows.
    """
    members = _members(tx, hit)
    _check_size(tx, members)
    public_ids = {pk: row.public_id for pk, row in members.items()}
    places, known = _identifiers(tx, public_ids)
    owned: dict[str, list[dict[str, Any]]] = {}
    by_key: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for table in sorted(OWNED_TABLES, key=lambda each: each.name in _NESTED):
        owned[table.name] = []
        for row in _rows(tx, table, members):
            record = {name: read(row[name]) for name, read in SHOWN[table.name].items()}
            record["user"] = public_ids[row["user_pk"]]
            record["identifier"] = places.get(row["identifier_pk"])
            if table in (sessions, tasks):
                by_key[table.name][row["pk"]] = record
                record["messages" if table is sessions else "runs"] = []
            nested = _NESTED.get(table.name)
            if nested is None:
                owned[table.name].append(record)
            else:
                parent, column, key = nested
                by_key[parent][row[column]][key].append(record)
    root_pk = next(row.root_pk for row in members.values())
    return {
        "format": FORMAT,
        "version": VERSION,
        "exported_at": iso(tx.now),
        "formation_id": tx.formation_id,
        "person": dict(get_user(tx, root_pk)),
        "users": [_user(row, public_ids) for row in members.values()],
        "identifiers": known,
        **{name.removeprefix("muxi_"): rows for name, rows in owned.items() if name not in _NESTED},  # type: ignore[typeddict-item]
        "merges": _merges(tx, public_ids),
        "history": _history(tx, public_ids, places),
    }


def _members(tx: Transaction, hit: Hit) -> dict[int, Any]:
    columns = (
        users.c.pk,
        users.c.public_id,
        users.c.root_pk,
        users.c.parent_pk,
        users.c.established_at,
        users.c.created_at,
    )
    statement = (
        select(*columns)
        .where(tx.users_where(users.c.pk.in_(members_of(tx, hit))))
        .order_by(users.c.created_at, users.c.pk)
    )
    return {row.pk: row for row in tx.connection.execute(statement)}


def _check_size(tx: Transaction, members: Mapping[int, Any]) -> None:
    number = sum(
        tx.connection.execute(
            select(func.count())
            .select_from(table)
            .where(table.c.formation_id == tx.formation_id, table.c.user_pk.in_(members))
        ).scalar_one()
        for table in OWNED_TABLES
    )
    if number > MAX_ROWS:
        raise TooLargeError(
            f"The person has {number} rows, and an archive holds at most {MAX_ROWS}; read them page by page instead.",
            limit=MAX_ROWS,
        )


def _rows(tx: Transaction, table: Table, members: Mapping[int, Any]) -> Iterator[Mapping[str, Any]]:
    shown = SHOWN[table.name]
    columns = [column for column in table.c if column.name in shown or column.name.endswith("pk")]
    order = [table.c.created_at] if "created_at" in table.c else []
    statement = (
        select(*columns)
        .where(table.c.formation_id == tx.formation_id, table.c.user_pk.in_(members))
        .order_by(*order, table.c.pk)
    )
    return _stream(tx, statement)


def _stream(tx: Transaction, statement: Select[Any]) -> Iterator[Mapping[str, Any]]:
    found = tx.connection.execute(statement.execution_options(yield_per=_BATCH))
    for row in found.mappings():
        yield dict(row)


def _user(row: Any, public_ids: Mapping[int, str]) -> dict[str, Any]:
    return {
        "user": row.public_id,
        "merged_into": None if row.parent_pk is None else public_ids[row.parent_pk],
        "established_at": iso_or_none(row.established_at),
        "created_at": iso(row.created_at),
    }


def _identifiers(tx: Transaction, public_ids: Mapping[int, str]) -> tuple[dict[int | None, int], list[dict[str, Any]]]:
    """Return the place of each identifier in the list, and the list: unlinked and expired ones too."""
    statement = (
        select(identifiers)
        .where(identifiers.c.formation_id == tx.formation_id, identifiers.c.user_pk.in_(public_ids))
        .order_by(identifiers.c.linked_at, identifiers.c.pk)
    )
    rows = tx.connection.execute(statement).all()
    places: dict[int | None, int] = {row.pk: place for place, row in enumerate(rows)}
    return places, [
        {
            "user": public_ids[row.user_pk],
            "identifier": row.spelling,
            "type": row.type,
            "scope": row.scope,
            "secret": row.secret,
            "metadata": SHOWN["muxi_memories"]["metadata"](row.metadata),
            "source": row.source,
            "linked_at": iso(row.linked_at),
            "verified_at": iso_or_none(row.verified_at),
            "expires_at": iso_or_none(row.expires_at),
            "unlinked_at": iso_or_none(row.unlinked_at),
        }
        for row in rows
    ]


def _merges(tx: Transaction, public_ids: Mapping[int, str]) -> list[dict[str, Any]]:
    primary, secondary = users.alias("first"), users.alias("second")
    statement = (
        select(merges, primary.c.public_id.label("primary_id"), secondary.c.public_id.label("secondary_id"))
        .join(primary, (primary.c.formation_id == merges.c.formation_id) & (primary.c.pk == merges.c.primary_pk))
        .join(
            secondary, (secondary.c.formation_id == merges.c.formation_id) & (secondary.c.pk == merges.c.secondary_pk)
        )
        .where(
            merges.c.formation_id == tx.formation_id,
            merges.c.primary_pk.in_(public_ids) | merges.c.secondary_pk.in_(public_ids),
        )
        .order_by(merges.c.merged_at, merges.c.merge_id)
    )
    return [
        {
            "merge_id": row.merge_id,
            "primary": row.primary_id,
            "secondary": row.secondary_id,
            "merged_at": iso(row.merged_at),
            "undone_at": iso_or_none(row.undone_at),
            "mode": row.mode,
            "actor": row.actor,
            "source": row.source,
            "reason": row.reason,
        }
        for row in tx.connection.execute(statement)
    ]


def _history(tx: Transaction, public_ids: Mapping[int, str], places: Mapping[int | None, int]) -> list[dict[str, Any]]:
    statement = (
        select(history)
        .where(history.c.formation_id == tx.formation_id, history.c.user_id.in_(public_ids.values()))
        .order_by(history.c.at, history.c.pk)
    )
    return [
        {
            "at": iso(row["at"]),
            "event": row["event"],
            "user": row["user_id"],
            "other_user": row["other_user_id"],
            "identifier": places.get(row["identifier_pk"]),
            "merge_id": row["merge_id"],
            "actor": row["actor"],
            "source": row["source"],
            "reason": row["reason"],
        }
        for row in _stream(tx, statement)
    ]
