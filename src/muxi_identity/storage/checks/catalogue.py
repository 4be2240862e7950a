"""The parts of the schema: as they must be, and as each database's own catalogue says that they are."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from sqlalchemy import Connection, Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from muxi_identity.storage.checks import forms
from muxi_identity.storage.tables import metadata
from muxi_identity.storage.tables.search import LEXEMES, LEXEMES_INDEX, TRIGGERS, WORDS_TABLE


class Kind(Enum):
    """What a part is."""

    TABLE = "table"
    COLUMN = "column"
    CONSTRAINT = "constraint"
    INDEX = "index"
    TRIGGER = "trigger"
    SEQUENCE = "sequence"


class Part(NamedTuple):
    """One part of a table, by its name; a sequence is part of none."""

    kind: Kind
    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.table}.{self.name}" if self.kind is Kind.COLUMN else self.name


Catalogue = dict[Part, str]
"""Each part with its form (:mod:`muxi_identity.storage.checks.forms`)."""

SEQUENCES = {"muxi_keys": 32, "muxi_outbox_positions": 1}
"""PostgreSQL's, with how many numbers a connection draws at once."""
WORDS = "muxi_memory_words"
_SEQUENCE = "bigint by 1"
_DIALECTS = {"postgresql": postgresql.dialect, "sqlite": sqlite.dialect}


def wanted(dialect: str) -> Catalogue:
    """Return the schema as it must be."""
    found: Catalogue = {}
    for table in metadata.sorted_tables:
        found[Part(Kind.TABLE, table.name, table.name)] = ""
        constraints = {str(constraint.name) for constraint in table.constraints}
        for name, form in forms.table_parts(table_sql(table, dialect)):
            found[Part(Kind.CONSTRAINT if name in constraints else Kind.COLUMN, table.name, name)] = form
        for name, sql in indexes_sql(table, dialect).items():
            found[Part(Kind.INDEX, table.name, name)] = forms.index(sql)
    if dialect == "postgresql":
        found[Part(Kind.COLUMN, "muxi_memories", "lexemes")] = forms.column(LEXEMES)
        found[Part(Kind.INDEX, "muxi_memories", "ix_memories_lexemes")] = forms.index(LEXEMES_INDEX)
        found.update({Part(Kind.SEQUENCE, "", name): _SEQUENCE for name in SEQUENCES})
    else:
        found[Part(Kind.TABLE, WORDS, WORDS)] = forms.statement(WORDS_TABLE)
        for name, sql in TRIGGERS.items():
            found[Part(Kind.TRIGGER, "muxi_memories", name)] = forms.statement(sql)
    return found


def table_sql(table: Table, dialect: str) -> str:
    """Return the statement that makes a table."""
    return str(CreateTable(table).compile(dialect=_DIALECTS[dialect]())).strip()


def indexes_sql(table: Table, dialect: str) -> dict[str, str]:
    """Return the statements that make the indexes of a table, by name."""
    every = sorted(table.indexes, key=lambda each: str(each.name))
    return {str(each.name): str(CreateIndex(each).compile(dialect=_DIALECTS[dialect]())) for each in every}


def there(connection: Connection) -> Catalogue:
    """Return the schema as the database has it, and whatever else there is of its tables."""
    parts = _sqlite(connection) if connection.dialect.name == "sqlite" else _postgres(connection)
    return dict(parts)


def _sqlite(connection: Connection) -> Iterator[tuple[Part, str]]:
    rows = connection.execute(
        text(
            "SELECT type, name, tbl_name, sql FROM sqlite_master"
            " WHERE tbl_name LIKE 'muxi~_%' ESCAPE '~' AND sql IS NOT NULL AND type IN ('table', 'index', 'trigger')"
        )
    )
    for kind, name, table, sql in rows.all():
        if kind == "table":
            yield Part(Kind.TABLE, table, name), forms.statement(sql) if name == WORDS else ""
            if name in metadata.tables:
                columns = _column_names(connection, name)
                for part, form in forms.table_parts(sql):
                    yield Part(Kind.COLUMN if part in columns else Kind.CONSTRAINT, table, part), form
        elif kind == "index":
            yield Part(Kind.INDEX, table, name), forms.index(sql)
        else:
            yield Part(Kind.TRIGGER, table, name), forms.statement(sql)


def _column_names(connection: Connection, table: str) -> set[str]:
    return set(connection.execute(text("SELECT name FROM pragma_table_info(:table)"), {"table": table}).scalars())


# Of the schema that the tables are found in, whichever it is: a host may keep them in one of its own.
OURS = (
    "c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('muxi_users'))"
    " AND c.relname LIKE 'muxi~_%' ESCAPE '~'"
)
_POSTGRES = (
    (
        Kind.TABLE,
        f"SELECT c.relname, c.relname, CASE c.relpersistence WHEN 'p' THEN '' ELSE 'unlogged' END FROM pg_class c"
        f" WHERE {OURS} AND c.relkind IN ('r', 'p')",
        str,
    ),
    (
        Kind.COLUMN,
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)"
        " || CASE WHEN d.adbin IS NULL THEN '' WHEN a.attgenerated = 's' THEN ' generated always as '"
        " || pg_get_expr(d.adbin, d.adrelid) ELSE ' default ' || pg_get_expr(d.adbin, d.adrelid) END"
        " || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        f" WHERE {OURS} AND c.relkind IN ('r', 'p')",
        forms.column,
    ),
    (
        Kind.CONSTRAINT,
        "SELECT c.relname, k.conname, pg_get_constraintdef(k.oid) FROM pg_constraint k"
        f" JOIN pg_class c ON c.oid = k.conrelid WHERE {OURS} AND k.contype IN ('p', 'u', 'f', 'c', 'x')",
        forms.constraint,
    ),
    (
        Kind.INDEX,
        "SELECT c.relname, i.relname, pg_get_indexdef(i.oid) FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
        f" JOIN pg_class c ON c.oid = x.indrelid WHERE {OURS}"
        " AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x'))",
        forms.index,
    ),
    (
        Kind.TRIGGER,
        "SELECT c.relname, t.tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        f" WHERE {OURS} AND NOT t.tgisinternal",
        forms.statement,
    ),
    (
        Kind.SEQUENCE,
        "SELECT '', c.relname, format_type(s.seqtypid, NULL) || ' by ' || s.seqincrement"
        " || CASE WHEN s.seqcycle THEN ' cycle' ELSE '' END"
        f" FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid WHERE {OURS}",
        str,
    ),
)


def _postgres(connection: Connection) -> Iterator[tuple[Part, str]]:
    for kind, statement, form in _POSTGRES:
        for table, name, sql in connection.execute(text(statement)).all():
            yield Part(kind, str(table), str(name)), form(str(sql))
