"""Deleting what is too old, a little with each row that is added."""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, Delete, delete, literal_column, select

_MOST: ColumnElement[int] = literal_column("100")


def delete_old(key: Column[bytes] | Column[str], at: Column[int], formation_id: str, before: int) -> Delete:
    """Return the statement that deletes the oldest rows of a formation, of those whose time ``at`` is ``before``.

    Not all at once: nobody who adds a row is to wait for a million to go. And the index of ``at`` is what is read, also
    where PostgreSQL plans without knowing how many are so old.
    """
    table = key.table
    here = table.c.formation_id == formation_id
    old = select(key).where(here, at < before).order_by(at).limit(_MOST)
    return delete(table).where(here, key.in_(old))
