"""Search for the beginning of a text, by an index in the order of code points."""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, Connection, and_, text

# Until the transaction ends, and not at all on servers that have no such setting.
_PLAN_FOR_THIS = text(
    "SELECT set_config(name, 'force_custom_plan', true) FROM pg_settings WHERE name = 'plan_cache_mode'"
)


def plan_for_prefix(connection: Connection) -> None:
    """Have PostgreSQL plan the rest of the transaction for what it is given: a range's ends tell how much it holds."""
    if connection.dialect.name == "postgresql":
        connection.execute(_PLAN_FOR_THIS)


def begins_with(dialect: str, column: Column[str], prefix: str) -> ColumnElement[bool]:
    """Return whether ``column`` begins with ``prefix``, which is not empty.

    A range and not LIKE: nothing in it is a pattern, and the index serves it also when the statement was prepared.
    PostgreSQL orders by code points only where it is told to, here and by the operator class of the index.
    """
    at_least, below = ("~>=~", "~<~") if dialect == "postgresql" else (">=", "<")
    beyond = _beyond(prefix)
    started = column.bool_op(at_least)(prefix)
    return started if beyond is None else and_(started, column.bool_op(below)(beyond))


def _beyond(prefix: str) -> str | None:
    """Return the first text after all that begin with ``prefix``; None: there is none."""
    rest = prefix.rstrip("\U0010ffff")
    if not rest:
        return None
    following = ord(rest[-1]) + 1
    return rest[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are no characters
