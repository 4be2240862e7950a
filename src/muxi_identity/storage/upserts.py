"""INSERT that says what to do with a row that is there: the same on both databases, but each has its own class."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_into(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT into ``table`` that has ``on_conflict_do_update`` and ``on_conflict_do_nothing``."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@lru_cache(maxsize=64)
def upsert(
    dialect: str, table: Table, own_key: tuple[Any, ...], replaced: tuple[str, ...]
) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that puts the columns ``replaced`` of a row of the same ``own_key`` in place of the old ones.

    To be executed with a list of rows. Made once for each table: to make it takes longer than to run it.
    """
    insert = insert_into(dialect, table)
    return insert.on_conflict_do_update(
        index_elements=list(own_key), set_={name: insert.excluded[name] for name in replaced}
    )
