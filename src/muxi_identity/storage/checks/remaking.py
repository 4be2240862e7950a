"""The statements that make parts of the schema again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import CheckConstraint, Constraint, ForeignKeyConstraint, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import AddConstraint, CreateColumn

from muxi_identity.storage.checks.catalogue import SEQUENCES, WORDS, Catalogue, Kind, Part, indexes_sql, table_sql
from muxi_identity.storage.tables import metadata
from muxi_identity.storage.tables.search import FILL_WORDS, LEXEMES, LEXEMES_INDEX, TRIGGERS, WORDS_TABLE

_POSTGRES: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
_SQLITE: Dialect = sqlite.dialect()
_LEXEMES = (f"ALTER TABLE muxi_memories ADD COLUMN lexemes {LEXEMES}", LEXEMES_INDEX)


def remake(parts: Sequence[Part], dialect: str, is_: Catalogue) -> tuple[str, ...]:
    """Return the statements that make ``parts`` as they must be, in an order in which they can be run.

    ``is_`` is what there is: what stands in the way is dropped first.
    """
    made = list((_sqlite if dialect == "sqlite" else _postgres)(parts, is_))
    return tuple(dict.fromkeys(" ".join(each.split()) for each in made))


def _sqlite(parts: Sequence[Part], is_: Catalogue) -> Iterator[str]:
    rebuilt = {part.table for part in parts if part.kind in (Kind.CONSTRAINT, Kind.COLUMN) and part.table != WORDS}
    missing = {part.name for part in parts if part.kind is Kind.TABLE and part not in is_}
    for table in metadata.sorted_tables:
        if table.name in missing:
            yield table_sql(table, "sqlite")
            yield from _around(table)
        elif table.name in rebuilt and all(Part(Kind.COLUMN, table.name, each.name) in is_ for each in table.columns):
            yield from _rebuild(table)
    for part in parts:
        if part.kind is Kind.COLUMN and part not in is_:
            yield _add_column(part, _SQLITE)
        elif part.name == WORDS:
            yield from (f"DROP TABLE {WORDS}",) if part in is_ else ()
            yield from (WORDS_TABLE, FILL_WORDS)
        elif part.kind in (Kind.INDEX, Kind.TRIGGER) and part.table not in rebuilt | missing:
            yield f"DROP {part.kind.value.upper()} IF EXISTS {part.name}"
            yield _around_by_name(metadata.tables[part.table])[part.name]


def _rebuild(table: Table) -> Iterator[str]:
    """SQLite changes no constraint of a table that is there: another one takes its place."""
    new, columns = f"{table.name}_new", ", ".join(f'"{column.name}"' for column in table.columns)
    yield "PRAGMA foreign_keys = OFF"
    yield "BEGIN IMMEDIATE"
    yield table_sql(table, "sqlite").replace(f"CREATE TABLE {table.name} ", f"CREATE TABLE {new} ", 1)
    yield f"INSERT INTO {new} ({columns}) SELECT {columns} FROM {table.name}"
    yield f"DROP TABLE {table.name}"
    yield f"ALTER TABLE {new} RENAME TO {table.name}"
    yield from _around(table)
    yield "COMMIT"
    yield "PRAGMA foreign_keys = ON"


def _around(table: Table) -> Iterator[str]:
    yield from _around_by_name(table).values()


def _around_by_name(table: Table) -> dict[str, str]:
    return {**indexes_sql(table, "sqlite"), **(TRIGGERS if table.name == "muxi_memories" else {})}


def _postgres(parts: Sequence[Part], is_: Catalogue) -> Iterator[str]:
    missing = {part.name for part in parts if part.kind is Kind.TABLE and part not in is_}
    for table in metadata.sorted_tables:
        if table.name in missing:
            yield table_sql(table, "postgresql")
            yield from indexes_sql(table, "postgresql").values()
            yield from _LEXEMES if table.name == "muxi_memories" else ()
    constraints: list[Constraint] = []
    for part in parts:
        if part.table in missing or (part.kind is Kind.TABLE and part.name in missing):
            continue
        if part.kind is Kind.TABLE:
            yield f"ALTER TABLE {part.name} SET LOGGED"
        elif part.kind is Kind.SEQUENCE:
            how = "ALTER" if part in is_ else "CREATE"
            yield f"{how} SEQUENCE {part.name} AS bigint INCREMENT BY 1 NO CYCLE CACHE {SEQUENCES[part.name]}"
        elif part.kind is Kind.COLUMN:
            yield from _column(part, part in is_)
        elif part.kind is Kind.INDEX:
            every = {**indexes_sql(metadata.tables[part.table], "postgresql"), "ix_memories_lexemes": LEXEMES_INDEX}
            yield f"DROP INDEX IF EXISTS {part.name}"
            yield every[part.name]
        else:
            constraints.append(_constraint(part))
            if part in is_:
                yield f"ALTER TABLE {part.table} DROP CONSTRAINT {part.name}"
            elif Part(Kind.INDEX, part.table, part.name) in is_:
                yield f"DROP INDEX {part.name}"
    # The keys that others point to come first.
    for constraint in sorted(constraints, key=lambda each: isinstance(each, ForeignKeyConstraint)):
        yield str(AddConstraint(constraint, isolate_from_table=False).compile(dialect=_POSTGRES))


def _add_column(part: Part, dialect: Dialect) -> str:
    column = metadata.tables[part.table].columns[part.name]
    return f"ALTER TABLE {part.table} ADD COLUMN {CreateColumn(column).compile(dialect=dialect)}"


def _constraint(part: Part) -> Constraint:
    every = metadata.tables[part.table].constraints
    return next(each for each in every if each.name == part.name and not _by_type(each))


def _by_type(constraint: Constraint) -> bool:
    return isinstance(constraint, CheckConstraint) and bool(getattr(constraint, "_type_bound", False))


def _column(part: Part, is_there: bool) -> Iterator[str]:
    if part.name == "lexemes":
        yield from (f"ALTER TABLE {part.table} DROP COLUMN lexemes",) if is_there else ()
        yield from _LEXEMES
        return
    column = metadata.tables[part.table].columns[part.name]
    if not is_there:
        yield _add_column(part, _POSTGRES)
        return
    kind = column.type.compile(dialect=_POSTGRES)
    default = str(CreateColumn(column).compile(dialect=_POSTGRES)).partition(" DEFAULT ")[2].removesuffix(" NOT NULL")
    yield (
        f'ALTER TABLE {part.table} ALTER COLUMN "{part.name}" TYPE {kind},'
        f' ALTER COLUMN "{part.name}" {"DROP" if column.nullable else "SET"} NOT NULL,'
        f' ALTER COLUMN "{part.name}" {f"SET DEFAULT {default}" if default else "DROP DEFAULT"}'
    )
