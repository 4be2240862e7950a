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
            yield _key(table, str(constraint.name), [_quoted(column) for column in constraint.columns])
    for index in sorted(table.indexes, key=lambda each: str(each.name)):
        if index.unique:
            yield _key(table, str(index.name), _expressions(index))


def _expressions(index: Index) -> list[str]:
    # Both databases read this form of them.
    dialect, inline = sqlite.dialect(), {"literal_binds": True}
    return [
        each if isinstance(each, str) else str(each.compile(dialect=dialect, compile_kwargs=inline))
        for each in index.expressions
    ]


def _key(table: Table, name: str, parts: list[str]) -> Rule:
    key = ", ".join(parts)
    there = " AND ".join(f"{part} IS NOT NULL" for part in parts)
    shown = ", ".join(part.rpartition(".")[2].replace('"', "") for part in parts)
    return Rule(
        name,
        f"SELECT {parts[0]} AS formation_id, count(*) AS number FROM {table.name} WHERE {there}"  # noqa: S608
        f" GROUP BY {key} HAVING count(*) > 1",
        f"Several rows of {table.name} have one key, of which there may be one each ({shown}).",
        f"Keep the row that is right and delete the others, then REINDEX {table.name}. {_DAMAGED}",
        kept_by_schema=True,
    )


def _foreign(table: Table, constraint: ForeignKeyConstraint) -> Rule:
    target = constraint.referred_table
    pairs = [(element.parent.name, element.column.name) for element in constraint.elements]
    named = " AND ".join(f"c.{own} IS NOT NULL" for own, _ in pairs)
    same = " AND ".join(f"x.{theirs} = c.{own}" for own, theirs in pairs)
    provenance = target is identifiers
    # Where the owner is gone as well, the key on the owner says so.
    owner = (
        f" AND EXISTS (SELECT 1 FROM {users.name} o WHERE o.formation_id = c.formation_id AND o.pk = c.user_pk)"  # noqa: S608
        if provenance
        else ""
    )
    if provenance:
        meaning = (
            f"Rows of {table.name} lie under one user and were recorded through an identifier of another: one "
            "person's words may be read by another."
        )
        mend = (
            "The history (event identifier:move) says when the identifier left the user. Give the rows the user that "
            "their identifier belongs to, or, where the user is right, set their identifier_pk to NULL."
        )
    else:
        meaning = f"Rows of {table.name} name a row of {target.name} that is not there ({constraint.name})."
        mend = f"Restore that row from a back-up; where nobody misses it, delete those of {table.name}."
    return Rule(
        str(constraint.name),
        f"SELECT c.* FROM {table.name} c WHERE {named}{owner}"  # noqa: S608
        f" AND NOT EXISTS (SELECT 1 FROM {target.name} x WHERE {same})",
        meaning,
        f"{mend} {_DAMAGED}",
        kept_by_schema=True,
    )


def _checks(table: Table) -> Iterator[Rule]:
    for constraint in sorted(table.constraints, key=lambda each: str(each.name)):
        if isinstance(constraint, CheckConstraint) and not getattr(constraint, "_type_bound", False):
            condition = str(constraint.sqltext)
            yield Rule(
                str(constraint.name),
                f"SELECT c.* FROM {table.name} c WHERE NOT ({condition})",  # noqa: S608
                f"Rows of {table.name} break the check {constraint.name}: {condition}.",
                f"See what wrote them, and set what the check asks for, or restore them from a back-up. {_DAMAGED}",
                kept_by_schema=True,
            )


def _required(table: Table) -> Rule:
    missing = " OR ".join(f"{_quoted(column)} IS NULL" for column in table.columns if not column.nullable)
    return Rule(
        f"nn_{table.name.removeprefix('muxi_')}",
        f"SELECT c.* FROM {table.name} c WHERE {missing}",  # noqa: S608
        f"Rows of {table.name} lack a value that every row must have.",
        f"Restore the rows from a back-up, or delete them. {_DAMAGED}",
        kept_by_schema=True,
    )


def _booleans(table: Table) -> Iterator[Rule]:
    for column in table.columns:
        if isinstance(column.type, Boolean):
            yield Rule(
                f"bool_{table.name.removeprefix('muxi_')}_{column.name}",
                f"SELECT c.* FROM {table.name} c WHERE {_quoted(column)} NOT IN (0, 1)",  # noqa: S608
                f"{table.name}.{column.name} is neither true nor false in some rows.",
                f"Set it to 0 or 1. {_DAMAGED}",
                dialect="sqlite",
                kept_by_schema=True,
            )


def _quoted(column: Column[object]) -> str:
    return f'"{column.name}"'
