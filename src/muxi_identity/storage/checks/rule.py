"""A rule: what is true of the rows at any time, as the statement that finds those of which it is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

BROKEN, NOTICE = "broken", "notice"
HERE = "/*here*/"
"""Stands in a statement where the database does not see by itself that one formation is asked for."""
THOSE = "{those}"
"""Stands in a statement that mends for the condition that is true of the rows in question."""
MOST_SHOWN = 20
MOST_KEYS = 500
"""Of rows that only a program can tell for broken, so many are named in the statements that mend them."""
_AT_ONCE = 1_000  # rows of a statement whose rows are looked at one by one
_MOST_FORMATIONS = 1_000
_COUNTED = "number"


class Finding(NamedTuple):
    """A rule that is broken: in which formation (None: the whole database), and by how many rows.

    ``level`` is "broken", or "notice" for what is no damage but should be known. ``about`` names parts of the schema,
    and ``keys`` the first of the rows by their own keys: never what somebody stored. ``statements`` are what mends it
    in SQL, to be run in their order.
    """

    formation_id: str | None
    rule: str
    rows: int
    meaning: str
    mend: str
    level: str = BROKEN
    about: str | None = None
    keys: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``rows`` selects ``formation_id`` first, then the key of the row that breaks it: a key of ours, not a
    name that callers choose. A count in its place is of rows that break it together.

    ``statements`` mend it: :data:`THOSE` stands for the condition that is true of the rows that break it,
    ``{rows}`` for ``rows``, and ``{now}`` for the time of the check. ``broken``, where the database cannot say it,
    looks at each of the selected rows; one that it cannot read is broken. ``dialect``: on this one alone.
    ``kept_by_schema``: a constraint keeps it as long as nobody takes the constraint away.
    """

    name: str
    rows: str
    meaning: str
    mend: str
    statements: tuple[str, ...] = ()
    broken: Callable[[Row[Any]], bool] | None = None
    dialect: str | None = None
    kept_by_schema: bool = False
    level: str = BROKEN

    def findings(self, connection: Connection, now: int, formation_id: str | None = None) -> list[Finding]:
        """Return what is broken, by formation; of ``formation_id`` alone where it is given."""
        where = "" if formation_id is None else " WHERE q.formation_id = :formation_id"
        here = "" if formation_id is None else "AND u.formation_id = :formation_id"
        rows = self.rows.replace(HERE, here)
        given: dict[str, Any] = {} if formation_id is None else {"formation_id": formation_id}
        if ":now" in rows:
            given["now"] = now
        if self.broken is not None:
            found = _count_broken(self.broken, _stream(connection, f"SELECT q.* FROM ({rows}) q{where}", given))
            return [self._finding(connection.dialect.name, now, *each) for each in found]
        statement = (
            f"SELECT q.formation_id, count(*) FROM ({rows}) q{where} GROUP BY q.formation_id"
            f" ORDER BY q.formation_id LIMIT {_MOST_FORMATIONS}"
        )
        counted = connection.execute(text(statement), given).all()
        first = f"SELECT q.* FROM ({rows}) q WHERE q.formation_id = :formation_id ORDER BY 2 LIMIT {MOST_SHOWN}"
        return [
            self._finding(
                connection.dialect.name,
                now,
                where_broken,
                number,
                _keys(connection.execute(text(first), {**given, "formation_id": where_broken})),
            )
            for where_broken, number in counted
        ]

    def _finding(
        self, dialect: str, now: int, formation_id: str, rows: int, keys: tuple[str, list[Any]] | None
    ) -> Finding:
        given = {"those": self._those(now, formation_id, rows, keys), "rows": _line(self.rows, now), "now": str(now)}
        return Finding(
            formation_id,
            self.name,
            rows,
            self.meaning,
            self.mend,
            self.level,
            keys=() if keys is None else tuple(f"{keys[0]} {key}" for key in keys[1][:MOST_SHOWN]),
            statements=tuple(fill_in(each, dialect, given) for each in self.statements),
        )

    def _those(self, now: int, formation_id: str, rows: int, keys: tuple[str, list[Any]] | None) -> str:
        here = f"formation_id = {quoted(formation_id)}"
        if keys is None:
            return here
        name, found = keys
        if rows > len(found) and self.broken is None:
            every = f"SELECT {name} FROM ({_line(self.rows, now)}) b WHERE b.{here}"
            return f"{here} AND {name} IN ({every})"
        return f"{here} AND {name} IN ({', '.join(quoted(key) for key in found)})"


def _stream(connection: Connection, statement: str, given: Mapping[str, Any]) -> Iterator[Row[Any]]:
    yield from connection.execute(text(statement).execution_options(yield_per=_AT_ONCE), given)


def _count_broken(
    broken: Callable[[Row[Any]], bool], rows: Iterable[Row[Any]]
) -> Iterator[tuple[str, int, tuple[str, list[Any]]]]:
    counts: dict[str, int] = {}
    keys: dict[str, list[Any]] = {}
    name = ""
    for row in rows:
        if _is_broken(broken, row):
            name = row._fields[1]
            counts[row.formation_id] = counts.get(row.formation_id, 0) + 1
            kept = keys.setdefault(row.formation_id, [])
            if len(kept) < MOST_KEYS:
                kept.append(tuple(row)[1])
    for formation_id in sorted(counts):
        yield formation_id, counts[formation_id], (name, keys[formation_id])


def _is_broken(broken: Callable[[Row[Any]], bool], row: Row[Any]) -> bool:
    try:
        return broken(row)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return True  # by hand anything can be written: a number for a text, brackets without end


def _keys(rows: Any) -> tuple[str, list[Any]] | None:
    name = list(rows.keys())[1]
    found = [row[1] for row in rows]
    return None if name == _COUNTED else (name, found)


def quoted(value: object) -> str:
    """Return a key as a statement has it."""
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def fill_in(statement: str, dialect: str, given: Mapping[str, str]) -> str:
    """Return a statement on one line with what it stands for: ``given``, and what the databases spell differently."""
    own = {name: forms[dialect] for name, forms in _SPELT.items()}
    every = {**own, **given}
    return re.sub(r"\{(\w+)\}", lambda found: every[found[1]], " ".join(statement.split()))


_SPELT = {
    # 16 bytes that are nobody's.
    "bytes16": {"sqlite": "randomblob(16)", "postgresql": "decode(md5(random()::text), 'hex')"},
    # A new key for each row of a SELECT. On SQLite next_key was raised by a thousand before.
    "key": {
        "sqlite": "(SELECT f.next_key FROM muxi_formations f WHERE f.formation_id = t.formation_id)"
        " - row_number() OVER (PARTITION BY t.formation_id)",
        "postgresql": "nextval('muxi_keys')",
    },
    "greatest": {"sqlite": "max", "postgresql": "greatest"},
    "keys": {
        "sqlite": "UPDATE muxi_formations SET next_key = next_key + 1000",
        "postgresql": "SELECT nextval('muxi_keys')",
    },
}
NEW_KEYS = "{keys}"
"""A statement before one whose ``{key}`` gives new keys to at most a thousand rows of a table ``t``."""


def _line(rows: str, now: int) -> str:
    return " ".join(rows.replace(HERE, "").split()).replace(":now", str(now))
