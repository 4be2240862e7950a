"""SQLite keeps in any cell whatever it is given: what no cell of ours can hold, and how to read on all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import Column, Connection, LargeBinary, Table, Text, text

from muxi_identity.storage.checks.rule import MOST_KEYS, MOST_SHOWN, Finding, quoted
from muxi_identity.storage.tables import metadata

CELLS = "cell-kind"
_AT_ONCE = 1_000
_MEANING = (
    "Cells hold what their column cannot: text that is no UTF-8 or has a NUL in it, or a value of another kind. "
    "Whoever reads them gets an error."
)
_MEND = (
    "Restore the rows from a back-up. Where there is none, give the cells a value of their kind; check again then, "
    "since what they said is gone."
)


@contextmanager
def reading_anything(connection: Connection) -> Iterator[None]:
    """Read text that is no UTF-8, too, with a mark in place of what cannot be decoded."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        yield  # PostgreSQL keeps none
        return
    before = driver.text_factory
    driver.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        yield
    finally:
        driver.text_factory = before


def cell_findings(connection: Connection, formation_id: str | None = None) -> list[Finding]:
    """Return the cells that hold what they cannot, by formation and column."""
    if connection.dialect.name != "sqlite":
        return []
    return [finding for table in metadata.sorted_tables for finding in _of_table(connection, table, formation_id)]


class _Cell(NamedTuple):
    """One cell: the row by its key and by its number in the file, the column, and whether it is of another kind."""

    formation_id: str
    key: str
    rowid: int
    column: Column[object]
    other_kind: bool


def _of_table(connection: Connection, table: Table, formation_id: str | None) -> Iterator[Finding]:
    # Of whole columns of good cells, nothing leaves the database.
    odd = ", ".join(f"{_odd(column)} AS c{number}" for number, column in enumerate(table.columns))
    keys = [column.name for column in table.primary_key if column.name != "formation_id"]
    shown = ", ".join(["rowid AS at", "formation_id", *keys])
    any_odd = " OR ".join(f"c{number} IS NOT NULL" for number in range(len(table.columns)))
    here = "" if formation_id is None else " WHERE formation_id = :formation_id"
    statement = f"SELECT * FROM (SELECT {shown}, {odd} FROM {table.name}{here}) WHERE {any_odd}"
    rows = connection.execute(
        text(statement).execution_options(yield_per=_AT_ONCE),
        {} if formation_id is None else {"formation_id": formation_id},
    )
    counts: dict[tuple[str, str, bool], int] = {}
    first: dict[tuple[str, str, bool], list[_Cell]] = {}
    for row in rows:
        key = ", ".join(f"{name} {getattr(row, name)}" for name in keys if isinstance(getattr(row, name), int))
        for number, column in enumerate(table.columns):
            found = getattr(row, f"c{number}")
            if found is None or (isinstance(found, bytes) and _is_text(found)):
                continue
            cell = _Cell(str(row.formation_id), key or f"row {row.at}", row.at, column, isinstance(found, str))
            group = (cell.formation_id, column.name, cell.other_kind)
            counts[group] = counts.get(group, 0) + 1
            kept = first.setdefault(group, [])
            if len(kept) < MOST_KEYS:
                kept.append(cell)
    for group, number in sorted(counts.items()):
        yield _finding(table, number, first[group])


def _odd(column: Column[object]) -> str:
    """Return an expression that is NULL for a cell that surely is as it must be, and else what there is to look at."""
    name, kind = f'"{column.name}"', _kind(column)
    wrong = f"WHEN typeof({name}) NOT IN ('{kind}', 'null') THEN 'kind'"
    if kind != "text":
        return f"CASE {wrong} END"
    # Anything but ASCII, or a NUL, at which both GLOB and length() end.
    long = f"{name} GLOB '*[^' || char(1) || '-' || char(127) || ']*' OR length(CAST({name} AS BLOB)) <> length({name})"
    return f"CASE {wrong} WHEN {long} THEN CAST({name} AS BLOB) END"


def _kind(column: Column[object]) -> str:
    if isinstance(column.type, Text):
        return "text"
    return "blob" if isinstance(column.type, LargeBinary) else "integer"


def _is_text(raw: bytes) -> bool:
    try:
        return "\0" not in raw.decode()
    except UnicodeDecodeError:
        return False


def _finding(table: Table, number: int, cells: list[_Cell]) -> Finding:
    column = cells[0].column
    rows = f"rowid IN ({', '.join(quoted(cell.rowid) for cell in cells)})"
    statements: tuple[str, ...] = ()
    if column.name != "formation_id" and column not in table.primary_key.columns.values():
        if cells[0].other_kind:
            value = f'CAST("{column.name}" AS {_kind(column).upper()})'
        else:
            value = "NULL" if column.nullable else "''"
        statements = (f'UPDATE {table.name} SET "{column.name}" = {value} WHERE {rows}',)
    return Finding(
        cells[0].formation_id,
        CELLS,
        number,
        _MEANING,
        _MEND,
        about=f"{table.name}.{column.name}",
        keys=tuple(cell.key for cell in cells[:MOST_SHOWN]),
        statements=statements,
    )
