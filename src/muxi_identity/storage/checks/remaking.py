"""The statements that make parts of the schema again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import CheckConstraint, Connection, Constraint, ForeignKeyConstraint, Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import AddConstraint, CreateColumn

from muxi_identity.storage.checks import forms
from muxi_identity.storage.checks.catalogue import SEQUENCES, WORDS, Catalogue, Kind, Part, indexes_sql, table_sql
from muxi_identity.storage.checks.rule import in_one
from muxi_identity.storage.tables import metadata
from muxi_identity.storage.tables.search import FILL_WORDS, LEXEMES, LEXEMES_INDEX, TRIGGERS, WORDS_TABLE

_POSTGRES: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
_SQLITE: Dialect = sqlite.dialect()
_LEXEMES = (f"ALTER TABLE muxi_memories ADD COLUMN lexemes {LEXEMES}", LEXEMES_INDEX)


def remake(parts: Sequence[Part], dialect: str, is_: Catalogue, copied: Collection[str] = ()) -> tuple[str, ...]:
    """Return the statements that make ``parts`` as they must be, in an order in which they can be run.

    ``is_`` is what there is: what stands in the way is dropped first. ``copied`` are the tables of which
    :func:`copies` knows a whole copy.
    """
    if dialect == "postgresql":
        return in_one(_on_one_line(_postgres(parts, is_)))
    made = in_one(_on_one_line(_sqlite(parts, is_, copied)))
    rebuilt = any(part.table in copied for part in parts)
    return ("PRAGMA foreign_keys = OFF", *made, "PRAGMA foreign_keys = ON") if rebuilt else made


def _on_one_line(statements: Iterator[str]) -> Iterator[str]:
    yield from dict.fromkeys(" ".join(each.split()) for each in statements)


def copies(connection: Connection) -> list[str]:
    """Return the tables of which there is a copy beside them, as they must be and of the same rows."""
    return [table.name for table in metadata.sorted_tables if _is_copied(connection, table)]


def copy_of(table: str) -> str:
    """Return the name of a table's copy, while it is made anew."""
    return f"{table}_new"


def _is_copied(connection: Connection, table: Table) -> bool:
    made = text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
    sql = connection.execute(made, {"name": copy_of(table.name)}).scalar()
    if sql is None or dict(forms.table_parts(sql)) != dict(forms.table_parts(table_sql(table, "sqlite"))):
        return False
    rows = f"SELECT {_columns(table)} FROM "
    first, second = rows + table.name, rows + copy_of(table.name)
    differs = f"SELECT count(*) FROM (SELECT * FROM ({first} EXCEPT {second}) UNION ALL"
    differs += f" SELECT * FROM ({second} EXCEPT {first}))"
    numbers = f"SELECT (SELECT count(*) FROM {table.name}) - (SELECT count(*) FROM {copy_of(table.name)})"
    return not connection.execute(text(numbers)).scalar() and not connection.execute(text(differs)).scalar()


def _sqlite(parts: Sequence[Part], is_: Catalogue, copied: Collection[str]) -> Iterator[str]:
    rebuilt = {part.table for part in parts if part.kind in (Kind.CONSTRAINT, Kind.COLUMN) and part.table != WORDS}
    missing = {part.name for part in parts if part.kind is Kind.TABLE and part not in is_}
    for table in metadata.sorted_tables:
        if table.name in missing:
            yield table_sql(table, "sqlite")
            yield from _around(table)
        elif table.name in rebuilt and all(Part(Kind.COLUMN, table.name, each.name) in is_ for each in table.columns):
            yield from _take_its_place(table) if table.name in copied else _copy(table)
    for part in parts:
        if part.kind is Kind.COLUMN and part not in is_:
            yield _add_column(part, _SQLITE)
        elif part.name == WORDS:
            yield from (f"DROP TABLE {WORDS}",) if part in is_ else ()
            yield from (WORDS_TABLE, FILL_WORDS)
        elif part.kind in (Kind.INDEX, Kind.TRIGGER) and part.table not in rebuilt | missing:
            yield f"DROP {part.kind.value.upper()} IF EXISTS {part.name}"
            yield _around_by_name(metadata.tables[part.table])[part.name]


# SQLite changes no constraint of a table that is there: another one takes its place. Its shell goes on after an error
# where nobody told it not to, so nothing is dropped in one go with what may be refused: the copy is made, and only when
# a check has seen it whole, the old table goes.


def _copy(table: Table) -> Iterator[str]:
    new = copy_of(table.name)
    yield f"DROP TABLE IF EXISTS {new}"
    yield table_sql(table, "sqlite").replace(f"CREATE TABLE {table.name} ", f"CREATE TABLE {new} ", 1)
    yield f"INSERT INTO {new} ({_columns(table)}) SELECT {_columns(table)} FROM {table.name}"


def _take_its_place(table: Table) -> Iterator[str]:
    yield f"DROP TABLE {table.name}"
    yield f"ALTER TABLE {copy_of(table.name)} RENAME TO {table.name}"
    yield from _around(table)


def _columns(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


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
