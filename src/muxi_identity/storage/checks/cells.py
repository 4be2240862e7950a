"""SQLite keeps in any cell whatever it is given: what no cell of ours can hold, and how to read on all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import Column, Connection, LargeBinary, Table, Text, text

from muxi_identity.storage.checks.rule import MOST_SHOWN, Finding, quoted
from muxi_identity.storage.tables import metadata

CELLS = "cell-kind"
_AT_ONCE = 1_000
_MEANING = (
    "Cells hold what their column cannot: text that is no UTF-8 or has a NUL in it, or a value of another kind. "
    "Whoever reads them gets an error."
)
_OTHER_KIND = (
    "Restore the rows from a back-up. Where there is none, give the cells a value of their kind: what says the same in "
    "it is turned into it, the rest a person must read."
)
_NUL = "Restore the rows from a back-up. Where there is none, take the NULs out; the rest of the text stays."
_NO_TEXT = (
    "Restore the rows from a back-up. Where there is none, have a program read what is left of the text and write that "
    "(in Python: sqlite3 with text_factory = lambda raw: raw.decode('utf-8', 'replace')), or write it anew by hand."
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
    """One cell: the row by its key, the column, and how it is to be mended."""

    formation_id: str
    key: str
    column: Column[object]
    mend: str


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
    counts: dict[tuple[str, str, str], int] = {}
    first: dict[tuple[str, str, str], list[_Cell]] = {}
    for row in rows:
        key = ", ".join(f"{name} {getattr(row, name)}" for name in keys if isinstance(getattr(row, name), int))
        for number, column in enumerate(table.columns):
            found = getattr(row, f"c{number}")
            mend = None if found is None else _mend(found)
            if mend is None:
                continue
            cell = _Cell(str(row.formation_id), key or f"row {row.at}", column, mend)
            group = (cell.formation_id, column.name, mend)
            counts[group] = counts.get(group, 0) + 1
            kept = first.setdefault(group, [])
            if len(kept) < MOST_SHOWN:
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


def _mend(found: bytes | str) -> str | None:
    if isinstance(found, str):
        return _OTHER_KIND
    try:
        return _NUL if "\0" in found.decode() else None
    except UnicodeDecodeError:
        return _NO_TEXT


def _finding(table: Table, number: int, cells: list[_Cell]) -> Finding:
    formation_id, _, column, mend = cells[0]
    of_keys = column.name == "formation_id" or column in table.primary_key.columns.values()
    return Finding(
        formation_id,
        CELLS,
        number,
        _MEANING,
        mend,
        about=f"{table.name}.{column.name}",
        keys=tuple(cell.key for cell in cells),
        statements=() if of_keys else tuple(_statements(table, column, formation_id, mend)),
    )


def _statements(table: Table, column: Column[object], formation_id: str, mend: str) -> Iterator[str]:
    """Nothing that a cell says is taken off: what cannot be made readable so, words say what to do about."""
    name, kind = f'"{column.name}"', _kind(column)
    here = f"UPDATE {table.name} SET {name} = {{0}} WHERE formation_id = {quoted(formation_id)} AND {{1}}"
    if mend == _OTHER_KIND:
        same = f" AND CAST(CAST({name} AS INTEGER) AS TEXT) = {name}" if kind == "integer" else ""
        yield here.format(f"CAST({name} AS {kind.upper()})", f"typeof({name}) NOT IN ('{kind}', 'null'){same}")
    elif mend == _NUL:
        # Functions on text end at a NUL, those on bytes do not.
        at = "instr(rest, x'00')"
        without = (
            f"(WITH RECURSIVE parts (said, rest) AS (SELECT '', CAST({name} AS BLOB) UNION ALL"
            f" SELECT said || CAST(substr(rest, 1, {at} - 1) AS TEXT), substr(rest, {at} + 1) FROM parts"
            f" WHERE {at} > 0)"
            f" SELECT said || CAST(rest AS TEXT) FROM parts WHERE {at} = 0)"
        )
        yield here.format(without, f"typeof({name}) = 'text' AND instr(CAST({name} AS BLOB), x'00') > 0")
