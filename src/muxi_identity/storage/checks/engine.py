"""What the database says of itself: damage to its files, and parts of the schema that are missing or switched off."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import CheckConstraint, Connection, text
from sqlalchemy.exc import DatabaseError

from muxi_identity.storage.checks.rule import Finding
from muxi_identity.storage.tables import metadata

_RESTORE = "Restore the database from a back-up, beside this one, and compare the two before you give this one up."
_MOST_NAMED = 20
_SEARCH = {
    "sqlite": ["muxi_memory_words", "tr_memories_added", "tr_memories_removed", "tr_memories_changed"],
    "postgresql": ["ix_memories_lexemes", "lexemes", "muxi_keys", "muxi_outbox_positions"],
}


def engine_findings(connection: Connection) -> list[Finding]:
    """Return what is wrong with the database as such. On SQLite this reads the whole file."""
    found = [_missing(connection)]
    if connection.dialect.name == "sqlite":
        found.append(_integrity(connection))
        if found == [None, None]:  # else it could not be asked
            found.append(_search_index(connection))
    else:
        found.extend(_off(connection))
    return [finding for finding in found if finding is not None]


def _finding(rule: str, about: list[str], meaning: str, mend: str) -> Finding | None:
    if not about:
        return None
    shown = ", ".join(about[:_MOST_NAMED]) + (", ..." if len(about) > _MOST_NAMED else "")
    return Finding(None, rule, len(about), meaning, mend, about=shown)


def _missing(connection: Connection) -> Finding | None:
    there = _there(connection)
    missing = [name for name in _wanted(connection.dialect.name) if name not in there]
    return _finding(
        "schema-parts",
        missing,
        "Tables, columns, keys, indexes or triggers of the schema are missing: what they keep is kept no longer.",
        "Make them again as the migrations do (src/muxi_identity/storage/migrations). Mend the rows that break them "
        "first: the other findings name those.",
    )


def _wanted(dialect: str) -> Iterator[str]:
    for table in metadata.sorted_tables:
        yield from (f"{table.name}.{column.name}" for column in table.columns)
        for constraint in sorted(table.constraints, key=lambda each: str(each.name)):
            native = dialect == "postgresql" and isinstance(constraint, CheckConstraint)
            if constraint.name and not (native and getattr(constraint, "_type_bound", False)):
                yield str(constraint.name)
        yield from sorted(str(index.name) for index in table.indexes)
    yield from _SEARCH[dialect]


def _there(connection: Connection) -> set[str]:
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT name, coalesce(sql, '') FROM sqlite_master")).all()
        there = {row[0] for row in rows}
        for name, sql in rows:
            if name.startswith("muxi_"):
                there.update(re.findall(r'CONSTRAINT "?(\w+)', sql))
        columns = text(
            "SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
        )
    else:
        # Of the schema that the tables are found in, whichever it is: a host may keep them in one of its own.
        schema = "(SELECT relnamespace FROM pg_class WHERE oid = to_regclass('muxi_users'))"
        names = text(
            f"SELECT relname::text FROM pg_class WHERE relnamespace = {schema}"  # noqa: S608
            f" UNION ALL SELECT conname::text FROM pg_constraint WHERE connamespace = {schema}"
            " UNION ALL SELECT attname::text FROM pg_attribute"
            " WHERE attrelid = to_regclass('muxi_memories') AND NOT attisdropped"
        )
        there = set(connection.execute(names).scalars())
        columns = text(
            "SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"  # noqa: S608
            f" WHERE c.relnamespace = {schema} AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped"
        )
    return there | set(connection.execute(columns).scalars())


def _integrity(connection: Connection) -> Finding | None:
    said = [str(each) for each in connection.execute(text("PRAGMA integrity_check(100)")).scalars()]
    # What it says names tables, indexes and pages, and the numbers of rows.
    return _finding(
        "file-integrity",
        [each for each in said if each != "ok"],
        "The database file is damaged.",
        f"Where only indexes are named, REINDEX mends it. Else: {_RESTORE}",
    )


def _search_index(connection: Connection) -> Finding | None:
    """Look whether each memory is found by the word that names it: that the index is that of its contents."""
    connection.execute(
        text("CREATE VIRTUAL TABLE IF NOT EXISTS temp.muxi_checked_words USING fts5vocab(main, muxi_memory_words, col)")
    )
    try:
        lost = connection.execute(
            text(
                "SELECT count(*) FROM muxi_memory_words w LEFT JOIN temp.muxi_checked_words v"
                " ON v.term = w.memory AND v.col = 'memory' WHERE v.doc IS NULL OR v.doc <> 1"
            )
        ).scalar_one()
    except DatabaseError as error:
        if not getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_CORRUPT"):
            raise
        lost = 1
    finally:
        connection.execute(text("DROP TABLE temp.muxi_checked_words"))
    return _finding(
        "memory-index-damaged",
        ["muxi_memory_words"] * int(lost > 0),
        "The search index of memories is damaged: they are not found, or searches fail.",
        "INSERT INTO muxi_memory_words (muxi_memory_words) VALUES ('rebuild').",
    )


_OURS = "c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('muxi_users'))"
_POSTGRES = (
    (
        "index-invalid",
        "SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid"  # noqa: S608 (constants)
        f" WHERE {_OURS} AND c.relname LIKE 'muxi~_%' ESCAPE '~' AND NOT (x.indisvalid AND x.indisready)",
        "Indexes are not valid: they are written and not read, and unique ones keep nothing.",
        "REINDEX INDEX CONCURRENTLY, for each; where that fails, mend the rows that have one key twice.",
    ),
    (
        "constraint-invalid",
        "SELECT k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"  # noqa: S608 (constants)
        f" WHERE {_OURS} AND c.relname LIKE 'muxi~_%' ESCAPE '~' AND NOT k.convalidated",
        "Constraints were never asked of the rows that were there before them.",
        "ALTER TABLE ... VALIDATE CONSTRAINT, for each; mend the rows that break it first.",
    ),
    (
        "trigger-off",
        "SELECT coalesce(k.conname, t.tgname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"  # noqa: S608 (constants)
        f" LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint WHERE {_OURS} AND c.relname LIKE 'muxi~_%' ESCAPE '~'"
        " AND t.tgenabled = 'D'",
        "Foreign keys are switched off, as pg_restore --disable-triggers does: nothing guards a row's owner.",
        "ALTER TABLE ... ENABLE TRIGGER ALL, for each table, as a superuser; then check again.",
    ),
    (
        "collation-changed",
        "SELECT datname FROM pg_database WHERE datname = current_database()"
        " AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)",
        "The operating system sorts text otherwise than when the indexes were made: rows may not be found by them.",
        "REINDEX DATABASE, then ALTER DATABASE ... REFRESH COLLATION VERSION.",
    ),
)
_COLLATION_VERSIONS = 15  # the server's version that keeps them for databases


def _off(connection: Connection) -> Iterator[Finding | None]:
    version = int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
    for rule, statement, meaning, mend in _POSTGRES:
        if rule != "collation-changed" or version >= _COLLATION_VERSIONS:
            names = [str(name) for name in connection.execute(text(statement)).scalars()]
            yield _finding(rule, sorted(set(names)), meaning, mend)
