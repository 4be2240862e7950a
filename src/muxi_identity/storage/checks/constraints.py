"""The schema's own keys and checks, asked of the rows.

A constraint that stands cannot be broken. But one may have been dropped, restored as not valid, switched off for a
restore, or rest on a damaged index.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects import sqlite

from muxi_identity.storage.checks.mending import CHECKS, mend_foreign, mend_required
from muxi_identity.storage.checks.naming import named, own
from muxi_identity.storage.checks.rule import Rule
from muxi_identity.storage.tables import identifiers, metadata, users

_DAMAGED = "Find out how the constraint came to be missing or its index damaged; put it back after the rows are mended."


def constraint_rules() -> Iterator[Rule]:
    """Return a rule for every constraint of every table, under the constraint's own name."""
    for table in metadata.sorted_tables:
        yield from _unique(table)
        for constraint in sorted(table.foreign_key_constraints, key=lambda each: str(each.name)):
            yield _foreign(table, constraint)
        yield from _checks(table)
        yield _required(table)
        yield from _booleans(table)


def _unique(table: Table) -> Iterator[Rule]:
    for constraint in sorted(table.constraints, key=lambda each: str(each.name)):
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
            yield from _key(table, str(constraint.name), [_quoted(column) for column in constraint.columns])
    for index in sorted(table.indexes, key=lambda each: str(each.name)):
        if index.unique:
            yield from _key(table, str(index.name), _expressions(index))


def _expressions(index: Index) -> list[str]:
    # Both databases read this form of them.
    dialect, inline = sqlite.dialect(), {"literal_binds": True}
    return [
        each if isinstance(each, str) else str(each.compile(dialect=dialect, compile_kwargs=inline))
        for each in index.expressions
    ]


def _key(table: Table, name: str, parts: list[str]) -> Iterator[Rule]:
    key = ", ".join(parts)
    there = " AND ".join(f"{part} IS NOT NULL" for part in parts)
    shown = ", ".join(part.rpartition(".")[2].replace('"', "") for part in parts)
    every = ", ".join(_quoted(column) for column in table.columns)
    for dialect, place in (("sqlite", "rowid"), ("postgresql", "ctid")):
        yield Rule(
            name,
            f"SELECT {parts[0]} AS formation_id, count(*) AS number FROM {table.name} WHERE {there}"
            f" GROUP BY {key} HAVING count(*) > 1",
            f"Several rows of {table.name} have one key, of which there may be one each ({shown}).",
            "Delete those that say the same as another one. Of the rest, which are shown, keep the row that is right; "
            f"then REINDEX TABLE {table.name} where its index was damaged. {_DAMAGED}",
            (
                f"DELETE FROM {table.name} WHERE {{those}} AND {place} NOT IN"
                f" (SELECT min({place}) FROM {table.name} WHERE {{those}} GROUP BY {every})",
                f"SELECT {place}, * FROM {table.name} WHERE {{those}} AND ({key}) IN"
                f" (SELECT {key} FROM {table.name} WHERE {there} GROUP BY {key} HAVING count(*) > 1)",
            ),
            dialect=dialect,
            kept_by_schema=True,
        )


def _foreign(table: Table, constraint: ForeignKeyConstraint) -> Rule:
    target = constraint.referred_table
    pairs = [(element.parent.name, element.column.name) for element in constraint.elements]
    given = " AND ".join(f"c.{ours} IS NOT NULL" for ours, _ in pairs)
    same = " AND ".join(f"x.{theirs} = c.{ours}" for ours, theirs in pairs)
    provenance = target is identifiers
    # Where the owner is gone as well, the key on the owner says so.
    owner = (
        f" AND EXISTS (SELECT 1 FROM {users.name} o WHERE o.formation_id = c.formation_id AND o.pk = c.user_pk)"
        if provenance
        else ""
    )
    if provenance:
        meaning = (
            f"Rows of {table.name} lie under one user and were recorded through an identifier of another: one "
            "person's words may be read by another."
        )
        mend = (
            "Whoever has the identifier said it: give the rows to them. Where the history (event identifier:move) says "
            "that the user is right, set their identifier_pk to NULL instead, as where the identifier is gone."
        )
    else:
        meaning = f"Rows of {table.name} name a row of {target.name} that is not there ({constraint.name})."
        mend = f"Restore that row from a back-up. Where nobody misses it, those of {table.name} are of no use either."
    return Rule(
        str(constraint.name),
        f"SELECT {named(table, 'c')} FROM {table.name} c WHERE {given}{owner}"
        f" AND NOT EXISTS (SELECT 1 FROM {target.name} x WHERE {same})",
        meaning,
        f"{mend} {_DAMAGED}",
        mend_foreign(constraint),
        own=own(table),
        kept_by_schema=True,
    )


def _checks(table: Table) -> Iterator[Rule]:
    for constraint in sorted(table.constraints, key=lambda each: str(each.name)):
        if isinstance(constraint, CheckConstraint) and not getattr(constraint, "_type_bound", False):
            condition = str(constraint.sqltext)
            yield Rule(
                str(constraint.name),
                f"SELECT {named(table, 'c')} FROM {table.name} c WHERE NOT ({condition})",
                f"Rows of {table.name} break the check {constraint.name}: {condition}.",
                f"See what wrote them. Restore them from a back-up, or set what the check asks for. {_DAMAGED}",
                CHECKS[str(constraint.name)],
                own=own(table),
                kept_by_schema=True,
            )


def _required(table: Table) -> Rule:
    missing = " OR ".join(f"{_quoted(column)} IS NULL" for column in table.columns if not column.nullable)
    return Rule(
        f"nn_{table.name.removeprefix('muxi_')}",
        f"SELECT {named(table, 'c')} FROM {table.name} c WHERE {missing}",
        f"Rows of {table.name} lack a value that every row must have.",
        f"Restore the rows from a back-up. Else fill in what can be known. Of the rest, which are shown, complete what "
        f"somebody misses, and delete what is of no use. {_DAMAGED}",
        mend_required(table),
        own=own(table),
        kept_by_schema=True,
    )


def _booleans(table: Table) -> Iterator[Rule]:
    for column in table.columns:
        if isinstance(column.type, Boolean):
            careful = int(column.name == "secret")
            yield Rule(
                f"bool_{table.name.removeprefix('muxi_')}_{column.name}",
                f"SELECT {named(table, 'c')} FROM {table.name} c WHERE {_quoted(column)} NOT IN (0, 1)",
                f"{table.name}.{column.name} is neither true nor false in some rows.",
                f"Set it to what shows less to others. {_DAMAGED}",
                (f"UPDATE {table.name} SET {column.name} = {careful} WHERE {{those}}",),
                own=own(table),
                dialect="sqlite",
                kept_by_schema=True,
            )


def _quoted(column: Column[object]) -> str:
    return f'"{column.name}"'
