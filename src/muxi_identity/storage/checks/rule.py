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
PLACE = "{place}"
"""Stands in the rows of a rule for where the database keeps a row: it tells apart what callers choose the keys of."""
BEGIN, COMMIT = "BEGIN", "COMMIT"
MOST_SHOWN = 20
MOST_KEYS = 500
"""Of rows that only a program can tell for broken, so many are named in the statements that mend them."""
_AT_ONCE = 1_000  # rows of a statement whose rows are looked at one by one
_MOST_FORMATIONS = 1_000
_COUNTED = "number"
_Keys = dict[str, list[Any]]
"""What names rows: columns, and of each what it is in the first of the rows."""


class Finding(NamedTuple):
    """A rule that is broken: in which formation (None: the whole database), and by how many rows.

    ``level`` is "broken", or "notice" for what is no damage but should be known. ``about`` names parts of the schema,
    and ``keys`` the first of the rows by their own keys: never what somebody stored. ``statements`` are what mends it
    in SQL, to be run in their order, those of one transaction between BEGIN and COMMIT.
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

    ``statements`` mend it, in one transaction: :data:`THOSE` stands for the condition that is true of the rows that
    break it, ``{formation}`` for their formation, and ``{now}`` for the time of the check. ``own``: the columns,
    selected as well, that tell rows apart where the shown one does not. ``broken``, where the database cannot say it,
    looks at each of the selected rows; one that it cannot read is broken. Its rows are named by what they show, and by
    :data:`PLACE` (as ``place``) where that is not theirs alone. ``dialect``: on this one alone. ``kept_by_schema``: a
    constraint keeps it as long as nobody takes the constraint away.
    """

    name: str
    rows: str
    meaning: str
    mend: str
    statements: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    broken: Callable[[Row[Any]], bool] | None = None
    dialect: str | None = None
    kept_by_schema: bool = False
    level: str = BROKEN

    def findings(self, connection: Connection, now: int, formation_id: str | None = None) -> list[Finding]:
        """Return what is broken, by formation; of ``formation_id`` alone where it is given."""
        dialect = connection.dialect.name
        where = "" if formation_id is None else " WHERE q.formation_id = :formation_id"
        here = "" if formation_id is None else "AND u.formation_id = :formation_id"
        rows = self.rows.replace(HERE, here).replace(PLACE, _SHOWN_PLACE[dialect])
        given: dict[str, Any] = {} if formation_id is None else {"formation_id": formation_id}
        if ":now" in rows:
            given["now"] = now
        if self.broken is not None:
            found = _count_broken(self.broken, _stream(connection, f"SELECT q.* FROM ({rows}) q{where}", given))
            return [self._finding(dialect, now, *each) for each in found]
        statement = (
            f"SELECT q.formation_id, count(*) FROM ({rows}) q{where} GROUP BY q.formation_id"
            f" ORDER BY q.formation_id LIMIT {_MOST_FORMATIONS}"
        )
        counted = connection.execute(text(statement), given).all()
        first = f"SELECT q.* FROM ({rows}) q WHERE q.formation_id = :formation_id ORDER BY 2 LIMIT {MOST_SHOWN}"
        return [
            self._finding(
                dialect,
                now,
                where_broken,
                number,
                _keys(connection.execute(text(first), {**given, "formation_id": where_broken})),
            )
            for where_broken, number in counted
        ]

    def _finding(self, dialect: str, now: int, formation_id: str | None, rows: int, keys: _Keys) -> Finding:
        shown = list(keys.items())[:1]  # the place tells nobody anything
        statements: tuple[str, ...] = ()
        if formation_id is not None:  # nothing can be said of rows that are in no formation
            given = {"those": self._those(dialect, now, formation_id, rows, keys)}
            given |= {"formation": quoted(formation_id), "now": str(now)}
            statements = in_one(fill_in(each, dialect, given) for each in self.statements)
        return Finding(
            formation_id,
            self.name,
            rows,
            self.meaning,
            self.mend,
            self.level,
            keys=tuple(f"{name} {key}" for name, found in shown for key in found[:MOST_SHOWN]),
            statements=statements,
        )

    def _those(self, dialect: str, now: int, formation_id: str, rows: int, keys: _Keys) -> str:
        here = f"formation_id = {quoted(formation_id)}"
        if not keys:
            return here
        shown, found = next(iter(keys.items()))
        if self.broken is None and (self.own or rows > len(found)):
            # By what is wrong with them, asked again: the keys are too many, or callers choose them.
            own = ", ".join(("formation_id", *(self.own or (shown,))))
            return f"({own}) IN (SELECT {own} FROM ({_line(self.rows, now)}) b WHERE b.{here})"
        names = {name: _PLACES[dialect] if name == _PLACE else name for name in keys}
        listed = (f"{names[name]} IN ({', '.join(map(quoted, found))})" for name, found in keys.items())
        return " AND ".join((here, *listed))


def _stream(connection: Connection, statement: str, given: Mapping[str, Any]) -> Iterator[Row[Any]]:
    yield from connection.execute(text(statement).execution_options(yield_per=_AT_ONCE), given)


def _count_broken(
    broken: Callable[[Row[Any]], bool], rows: Iterable[Row[Any]]
) -> Iterator[tuple[str | None, int, _Keys]]:
    counts: dict[str, int] = {}
    keys: dict[str, _Keys] = {}
    for row in rows:
        if _is_broken(broken, row):
            counts[row.formation_id] = counts.get(row.formation_id, 0) + 1
            names = [row._fields[1], *(name for name in row._fields[2:] if name == _PLACE)]
            kept = keys.setdefault(row.formation_id, {name: [] for name in names})
            if counts[row.formation_id] <= MOST_KEYS:
                for name, found in kept.items():
                    found.append(getattr(row, name))
    for formation_id in sorted(counts, key=str):
        yield formation_id, counts[formation_id], keys[formation_id]


def _is_broken(broken: Callable[[Row[Any]], bool], row: Row[Any]) -> bool:
    try:
        return broken(row)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return True  # by hand anything can be written: a number for a text, brackets without end


def _keys(rows: Any) -> _Keys:
    name = list(rows.keys())[1]
    found = [row[1] for row in rows]
    return {} if name == _COUNTED else {name: found}


def quoted(value: object) -> str:
    """Return a key as a statement has it."""
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def in_one(statements: Iterable[str]) -> tuple[str, ...]:
    """Return statements in one transaction: all of them are done, or none."""
    every = tuple(each for each in statements if each)
    return every if len(every) < 2 else (BEGIN, *every, COMMIT)


def fill_in(statement: str, dialect: str, given: Mapping[str, str]) -> str:
    """Return a statement on one line with what it stands for: what the databases spell differently, then ``given``."""
    line = _put(" ".join(statement.split()), {name: forms[dialect] for name, forms in _SPELT.items()})
    return _put(line, given)


def _put(line: str, every: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: every.get(found[1], found[0]), line)


_PLACE = "place"
_PLACES = {"sqlite": "rowid", "postgresql": "ctid"}
_SHOWN_PLACE = {"sqlite": "rowid", "postgresql": "ctid::text"}
_SPELT = {
    "place": _PLACES,
    # 16 bytes that are nobody's.
    "bytes16": {"sqlite": "randomblob(16)", "postgresql": "decode(md5(random()::text), 'hex')"},
    # A new key for each row of a SELECT from a table ``t``.
    "key": {
        "sqlite": "(SELECT f.next_key FROM muxi_formations f WHERE f.formation_id = t.formation_id) - 1"
        " + row_number() OVER (PARTITION BY t.formation_id)",
        "postgresql": "nextval('muxi_keys')",
    },
    "greatest": {"sqlite": "max", "postgresql": "greatest"},
    "keys_drawn": {
        "sqlite": "UPDATE muxi_formations SET next_key = max(next_key, coalesce((SELECT max(h.pk) + 1"
        " FROM muxi_history h WHERE h.formation_id = muxi_formations.formation_id), 0))"
        " WHERE formation_id = {formation}",
        "postgresql": "",
    },
}
KEYS_DRAWN = "{keys_drawn}"
"""The statement behind one whose ``{key}`` gave keys to new rows of muxi_history: however many they were."""


def _line(rows: str, now: int) -> str:
    return " ".join(rows.replace(HERE, "").split()).replace(":now", str(now))
