"""Several selects that are read together: in one round trip where a round trip costs, in one snapshot everywhere."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import asyncpg


class GatheredRow(SimpleNamespace):
    """A row of a part: its columns are attributes. SQLite's truth values are 0 and 1, and there are no bytes."""


Found = dict[str, list[GatheredRow]]
"""The rows of each part, in order."""


class OneStatement(NamedTuple):
    """A statement for PostgreSQL, and the names of its arguments in their order."""

    text: str
    names: list[str]
    constants: Mapping[str, Any]


class Gathering:
    """The selects of one trip by name, with ``bindparam`` for what changes from trip to trip.

    They may share common table expressions. Written once; what is sent is made at the first use and kept. The columns
    hold what JSON has.
    """

    def __init__(self, parts: Mapping[str, Select[Any]]) -> None:
        self.parts = dict(parts)

    @cached_property
    def one_statement(self) -> OneStatement:
        """All parts as one statement that returns one row: a column of JSON for each part."""
        columns = []
        for name, part in self.parts.items():
            rows = part.subquery(f"{name}_rows")
            columns.append(select(func.json_agg(rows.table_valued())).scalar_subquery().label(name))
        compiled = select(*columns).compile(
            dialect=asyncpg.dialect(),  # type: ignore[no-untyped-call]
            compile_kwargs={"render_postcompile": True},
        )
        return OneStatement(str(compiled), list(compiled.positiontup or ()), compiled.params)

    @cached_property
    def single_statements(self) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """The text of each part for SQLite, and its constant arguments."""
        dialect = sqlite.dialect(paramstyle="named")
        return {
            name: (str(compiled), compiled.params)
            for name, part in self.parts.items()
            for compiled in [part.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})]
        }

    def arguments(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the arguments of :attr:`one_statement`."""
        statement = self.one_statement
        return [parameters[name] if name in parameters else statement.constants[name] for name in statement.names]

    def read_row(self, row: Mapping[str, str | None]) -> Found:
        """Return what :attr:`one_statement` brought."""
        return {name: json.loads(row[name] or "[]", object_hook=_row) for name in self.parts}

    def read_from(self, connection: sqlite3.Connection, parameters: Mapping[str, Any]) -> Found:
        """Read one part after the other, within the transaction that ``connection`` is in."""
        found: Found = {}
        for name, (text, constants) in self.single_statements.items():
            cursor = connection.execute(text, {**constants, **parameters})
            columns = [column[0] for column in cursor.description]
            found[name] = [GatheredRow(**dict(zip(columns, row, strict=True))) for row in cursor]
        return found


def _row(columns: dict[str, Any]) -> GatheredRow:
    return GatheredRow(**columns)
