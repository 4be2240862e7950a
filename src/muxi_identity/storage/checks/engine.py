"""What the database says of itself: the schema that it has, damage to its files, and what is switched off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError

from muxi_identity.storage.checks.catalogue import OURS
from muxi_identity.storage.checks.rule import Finding, in_one
from muxi_identity.storage.checks.schema import MISSING, schema_findings

_RESTORE = "Restore the database from a back-up, beside this one, and compare the two before you give this one up."
DAMAGED, SEARCH_DAMAGED, COLLATION = "file-integrity", "memory-index-damaged", "collation-changed"
READ_FIRST = (DAMAGED, SEARCH_DAMAGED, COLLATION)
"""Rules of what rows are found by: as long as one is broken, others may not see what they look for."""
_MOST_NAMED = 20


def engine_findings(connection: Connection) -> list[Finding]:
    """Return what is wrong with the database as such. On SQLite this reads the whole file."""
    found: list[Finding | None] = [*schema_findings(connection)]
    if connection.dialect.name == "sqlite":
        found.append(_integrity(connection))
        if all(finding is None or finding.rule not in (MISSING, DAMAGED) for finding in found):
            found.append(_search_index(connection))
    else:
        found.extend(_off(connection))
    return [finding for finding in found if finding is not None]


def _finding(rule: str, about: Sequence[str], meaning: str, mend: str, statements: Sequence[str]) -> Finding | None:
    if not about:
        return None
    shown = ", ".join(about[:_MOST_NAMED]) + (", ..." if len(about) > _MOST_NAMED else "")
    return Finding(None, rule, len(about), meaning, mend, about=shown, statements=tuple(statements))


def _integrity(connection: Connection) -> Finding | None:
    said: list[str] = []
    try:
        said += connection.execute(text("PRAGMA integrity_check(100)")).scalars()
    except DatabaseError as error:
        _check_corrupt(error)
        said.append("the check broke off")
    # What it says names tables, indexes and pages, and the numbers of rows.
    return _finding(
        DAMAGED,
        [each for each in said if each != "ok"],
        "The database file is damaged.",
        f"Where indexes are named, make them anew. Else: {_RESTORE}",
        ["REINDEX"],
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
        _check_corrupt(error)
        lost = 1
    finally:
        connection.execute(text("DROP TABLE temp.muxi_checked_words"))
    return _finding(
        SEARCH_DAMAGED,
        ["muxi_memory_words"] * int(lost > 0),
        "The search index of memories is damaged: they are not found, or searches fail.",
        "Make it anew out of what it holds.",
        ["INSERT INTO muxi_memory_words (muxi_memory_words) VALUES ('rebuild')"],
    )


def _check_corrupt(error: DatabaseError) -> None:
    if not getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_CORRUPT"):
        raise error


_POSTGRES = (
    (
        "index-invalid",
        "SELECT i.relname, 'REINDEX INDEX ' || i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
        f" JOIN pg_class c ON c.oid = x.indrelid WHERE {OURS} AND NOT (x.indisvalid AND x.indisready)",
        "Indexes are not valid: they are written and not read, and unique ones keep nothing.",
        "Make them anew (CONCURRENTLY keeps nobody waiting); where that fails, mend the rows that have one key twice.",
    ),
    (
        "constraint-invalid",
        "SELECT k.conname, 'ALTER TABLE ' || c.relname || ' VALIDATE CONSTRAINT ' || k.conname FROM pg_constraint k"
        f" JOIN pg_class c ON c.oid = k.conrelid WHERE {OURS} AND NOT k.convalidated",
        "Constraints were never asked of the rows that were there before them.",
        "Ask them; mend the rows that break them first.",
    ),
    (
        "trigger-off",
        "SELECT coalesce(k.conname, t.tgname), 'ALTER TABLE ' || c.relname || ' ENABLE TRIGGER ALL' FROM pg_trigger t"
        f" JOIN pg_class c ON c.oid = t.tgrelid LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint WHERE {OURS}"
        " AND t.tgenabled NOT IN ('O', 'A')",
        "Foreign keys are switched off, as pg_restore --disable-triggers does: nothing guards a row's owner.",
        "Mend the rows that break them, and switch them on as a superuser; then check again.",
    ),
    (
        COLLATION,
        "SELECT datname, unnest(ARRAY['REINDEX DATABASE ' || quote_ident(datname),"
        " 'ALTER DATABASE ' || quote_ident(datname) || ' REFRESH COLLATION VERSION'])"
        " FROM pg_database WHERE datname = current_database()"
        " AND datcollversion <> pg_database_collation_actual_version(oid)",
        "The operating system sorts text otherwise than when the indexes were made: rows may not be found by them.",
        "Make every index anew, and say so.",
    ),
)
_COLLATION_VERSIONS = 15  # the server's version that keeps them for databases


def _off(connection: Connection) -> Iterator[Finding | None]:
    version = int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
    for rule, statement, meaning, mend in _POSTGRES:
        if rule != COLLATION or version >= _COLLATION_VERSIONS:
            found = connection.execute(text(statement)).all()
            statements = dict.fromkeys(str(row[1]) for row in found)
            # REINDEX DATABASE is refused inside of a transaction.
            together = tuple(statements) if rule == COLLATION else in_one(statements)
            yield _finding(rule, sorted({str(row[0]) for row in found}), meaning, mend, together)
