"""Pages of what belongs to a person: newest first, by a time and the row's key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from muxi_identity.identity.transaction import Transaction
from muxi_identity.paging import check_limit, read_cursor, write_cursor

R = TypeVar("R")
_KEY = "cursors"


def start_of(tx: Transaction, call: str, limit: int, cursor: str | None) -> tuple[int, int] | None:
    """Return the time and the key of the row that a page of ``call`` comes after; None for the first page.

    The page is whatever lies below it: ``tuple_(table.c.created_at, table.c.pk) < tuple_(*start)``, the newest first,
    ``limit + 1`` rows: :func:`end_of` takes the one too many for the sign that more follow.

    Raises:
        InvalidRequestError: The limit is out of range or the cursor is none that ``call`` gave.
    """
    check_limit(limit)
    return None if cursor is None else read_cursor(tx.bucket.fingerprint(_KEY), call, cursor)


def end_of(tx: Transaction, call: str, limit: int, rows: Sequence[R], *, at: str) -> tuple[Sequence[R], str | None]:
    """Return the page's own rows and the cursor of the next one, None where nothing follows.

    ``rows`` have a column ``pk`` and one named ``at``, by which they were ordered.
    """
    if len(rows) <= limit:
        return rows, None
    last: Any = rows[limit - 1]
    return rows[:limit], write_cursor(tx.bucket.fingerprint(_KEY), call, getattr(last, at), last.pk)
