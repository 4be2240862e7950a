"""A rule: what is true of the rows at any time, as the statement that finds those of which it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

BROKEN, NOTICE = "broken", "notice"
HERE = "/*here*/"
"""Stands in a statement where the database does not see by itself that one formation is asked for."""
_AT_ONCE = 1_000  # rows of a statement whose rows are looked at one by one
_MOST_FORMATIONS = 1_000


class Finding(NamedTuple):
    """A rule that is broken: in which formation (None: the whole database), and by how many rows.

    ``level`` is "broken", or "notice" for what is no damage but should be known. ``about`` names parts of the schema,
    never what somebody stored.
    """

    formation_id: str | None
    rule: str
    rows: int
    meaning: str
    mend: str
    level: str = BROKEN
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``rows`` selects ``formation_id`` first, then what names the row that breaks it.

    ``broken``, where the database cannot say it, looks at each of the selected rows. ``dialect``: on this one alone.
    ``kept_by_schema``: a constraint keeps it as long as nobody takes the constraint away.
    """

    name: str
    rows: str
    meaning: str
    mend: str
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
            return self._one_by_one(connection, f"SELECT q.* FROM ({rows}) q{where}", given)  # noqa: S608 (constants)
        statement = (
            f"SELECT q.formation_id, count(*) FROM ({rows}) q{where} GROUP BY q.formation_id"  # noqa: S608 (the same)
            f" ORDER BY q.formation_id LIMIT {_MOST_FORMATIONS}"
        )
        return [self._finding(*row) for row in connection.execute(text(statement), given)]

    def _one_by_one(self, connection: Connection, statement: str, given: dict[str, Any]) -> list[Finding]:
        assert self.broken is not None
        counts: dict[str, int] = {}
        for row in connection.execute(text(statement).execution_options(yield_per=_AT_ONCE), given):
            if self.broken(row):
                counts[row.formation_id] = counts.get(row.formation_id, 0) + 1
        return [self._finding(*each) for each in sorted(counts.items())]

    def _finding(self, formation_id: str, rows: int) -> Finding:
        return Finding(formation_id, self.name, rows, self.meaning, self.mend, self.level)
