"""A schema that is not as it must be, though every name is there: it is found, and what is said to mend it does."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from muxi_identity.config import DatabaseConfig, Secret
from muxi_identity.storage.checks import NOTICE, check, forms
from muxi_identity.storage.checks.catalogue import indexes_sql, table_sql
from muxi_identity.storage.checks.rule import BEGIN, COMMIT
from muxi_identity.storage.checks.schema import MISSING, schema_findings
from muxi_identity.storage.opening import make_database
from muxi_identity.storage.tables import metadata
from tests.postgres import PostgresCluster

USERS = "INSERT INTO muxi_users (formation_id, pk, public_id, root_pk, created_at) VALUES ('f', {0}, 'usr_{0}', {0}, 0)"
_IDENTIFIER = (
    "INSERT INTO muxi_identifiers (formation_id, pk, user_pk, bucket, slot, value, spelling, secret, linked_at)"
    " VALUES ('f', 3, 1, {bucket}, 0, 'v', 'v', false, 0)"
)
_MEMORY = (
    "INSERT INTO muxi_memories (formation_id, pk, user_pk, identifier_pk, memory_id, type, key, content, words,"
    " shareable, created_at, updated_at) VALUES ('f', 4, 1, 3, 'mem_4', 'note', 'k', 'Peanuts', 'peanuts', false, 0, 0)"
)
ROWS = {
    "sqlite": (USERS.format(1), USERS.format(2), _IDENTIFIER.format(bucket="zeroblob(16)"), _MEMORY),
    "postgresql": (
        *(USERS.format(1), USERS.format(2)),
        *(_IDENTIFIER.format(bucket="decode(repeat('00', 16), 'hex')"), _MEMORY),
    ),
}


BOTH = ("sqlite", "postgresql")


def _table(name: str, old: str, new: str) -> tuple[str, ...]:
    """Change what SQLite says that a table is."""
    return (f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE name = '{name}'",)


_PROVENANCE = (
    "FOREIGN KEY(formation_id, user_pk, identifier_pk) REFERENCES muxi_identifiers (formation_id, user_pk, pk)"
)
_CONSTRAINT = "ALTER TABLE {0} DROP CONSTRAINT {1}", "ALTER TABLE {0} ADD CONSTRAINT {1} {2}"
_OTHER_COLUMNS = "FOREIGN KEY (formation_id, user_pk) REFERENCES muxi_users (formation_id, pk)"


def _constraint(table: str, name: str, definition: str) -> tuple[str, ...]:
    return tuple(each.format(table, name, definition) for each in _CONSTRAINT)


# What is done to the schema -> how, on each database, the rule that finds it, and what it names.
CHANGES: dict[str, tuple[dict[str, tuple[str, ...]], str, str]] = {
    "the guard key on other columns": (
        {
            "postgresql": _constraint("muxi_memories", "fk_memories_provenance", _OTHER_COLUMNS),
            "sqlite": _table(
                "muxi_memories",
                f"CONSTRAINT fk_memories_provenance {_PROVENANCE}",
                f"CONSTRAINT fk_memories_provenance {_OTHER_COLUMNS}",
            ),
        },
        "schema-changed",
        "fk_memories_provenance",
    ),
    "an action": (
        {
            "postgresql": _constraint("muxi_identifiers", "fk_identifiers_user", f"{_OTHER_COLUMNS} ON DELETE CASCADE"),
            "sqlite": _table("muxi_identifiers", "DEFERRABLE", "ON DELETE CASCADE DEFERRABLE"),
        },
        "schema-changed",
        "fk_identifiers_user",
    ),
    "not deferrable": (
        {
            "postgresql": _constraint("muxi_identifiers", "fk_identifiers_user", _OTHER_COLUMNS),
            "sqlite": _table("muxi_identifiers", " DEFERRABLE INITIALLY IMMEDIATE", ""),
        },
        "schema-changed",
        "fk_identifiers_user",
    ),
    "an index not unique": (
        dict.fromkeys(
            BOTH, ("DROP INDEX uq_sessions_key", "CREATE INDEX uq_sessions_key ON muxi_sessions (formation_id)")
        ),
        "schema-changed",
        "uq_sessions_key",
    ),
    "another expression": (
        dict.fromkeys(
            BOTH,
            (
                "DROP INDEX uq_preferences_key",
                "CREATE UNIQUE INDEX uq_preferences_key ON muxi_preferences"
                " (formation_id, user_pk, key, coalesce(identifier_pk, 1))",
            ),
        ),
        "schema-changed",
        "uq_preferences_key",
    ),
    "another predicate": (
        dict.fromkeys(
            BOTH,
            (
                "DROP INDEX ix_memories_facts",
                "CREATE INDEX ix_memories_facts ON muxi_memories (formation_id, user_pk, updated_at, pk)"
                " WHERE value IS NULL",
            ),
        ),
        "schema-changed",
        "ix_memories_facts",
    ),
    "a key that is an index alone": (
        {
            "postgresql": (
                "ALTER TABLE muxi_identifiers DROP CONSTRAINT uq_identifiers_bucket_slot",
                "CREATE INDEX uq_identifiers_bucket_slot ON muxi_identifiers (formation_id)",
            )
        },
        "schema-changed",
        "uq_identifiers_bucket_slot",
    ),
    "another check": (
        {
            "postgresql": _constraint("muxi_users", "ck_users_not_own_parent", "CHECK (parent_pk <> pk OR pk = 1)"),
            "sqlite": _table("muxi_users", "(parent_pk <> pk)", "(parent_pk <> pk OR pk = 1)"),
        },
        "schema-changed",
        "ck_users_not_own_parent",
    ),
    "a column that may be empty": (
        {
            "postgresql": ("ALTER TABLE muxi_users ALTER created_at DROP NOT NULL",),
            "sqlite": _table("muxi_users", "created_at BIGINT NOT NULL", "created_at BIGINT"),
        },
        "schema-changed",
        "muxi_users.created_at",
    ),
    "another type and default": (
        {"postgresql": ("ALTER TABLE muxi_users ALTER version TYPE numeric, ALTER version SET DEFAULT 1",)},
        "schema-changed",
        "muxi_users.version",
    ),
    "another trigger": (
        {
            "sqlite": (
                "DROP TRIGGER tr_memories_removed",
                "CREATE TRIGGER tr_memories_removed AFTER DELETE ON muxi_memories BEGIN SELECT 1; END",
            )
        },
        "schema-changed",
        "tr_memories_removed",
    ),
    "a column that is not generated": (
        {
            "postgresql": (
                "ALTER TABLE muxi_memories DROP COLUMN lexemes",
                "ALTER TABLE muxi_memories ADD COLUMN lexemes tsvector",
                "CREATE INDEX ix_memories_lexemes ON muxi_memories USING gin (lexemes) WITH (fastupdate = off)",
            )
        },
        "schema-changed",
        "muxi_memories.lexemes",
    ),
    "a sequence that begins again": (
        {"postgresql": ("ALTER SEQUENCE muxi_keys MAXVALUE 100000 CYCLE",)},
        "schema-changed",
        "muxi_keys",
    ),
    "a table that a crash empties": (
        {"postgresql": ("ALTER TABLE muxi_requests SET UNLOGGED",)},
        "schema-changed",
        "muxi_requests",
    ),
    "no guard key": (
        {
            "postgresql": ("ALTER TABLE muxi_memories DROP CONSTRAINT fk_memories_provenance",),
            "sqlite": _table(
                "muxi_memories",
                f"CONSTRAINT fk_memories_provenance {_PROVENANCE} DEFERRABLE INITIALLY IMMEDIATE",
                "CONSTRAINT fk_other CHECK (1)",
            ),
        },
        "schema-parts",
        "fk_memories_provenance",
    ),
    "no sequence": ({"postgresql": ("DROP SEQUENCE muxi_outbox_positions",)}, "schema-parts", "muxi_outbox_positions"),
    "no trigger": ({"sqlite": ("DROP TRIGGER tr_memories_added",)}, "schema-parts", "tr_memories_added"),
    "no index": (
        dict.fromkeys(BOTH, ("DROP INDEX ix_history_at",)),
        "schema-parts",
        "ix_history_at",
    ),
    "no table": (
        dict.fromkeys(BOTH, ("DROP TABLE muxi_memories",)),
        MISSING,
        "muxi_memories",
    ),
    "no column": (
        dict.fromkeys(BOTH, ("ALTER TABLE muxi_users DROP COLUMN version",)),
        MISSING,
        "muxi_users.version",
    ),
    "no search": ({"sqlite": ("DROP TABLE muxi_memory_words",)}, MISSING, "muxi_memory_words"),
}
ADDED = {
    "postgresql": (
        "ALTER TABLE muxi_memories ADD CONSTRAINT hosts FOREIGN KEY (formation_id, user_pk)"
        " REFERENCES muxi_users (formation_id, pk) ON DELETE CASCADE",
        "CREATE UNIQUE INDEX hosts_too ON muxi_sessions (formation_id, audience)",
        "CREATE INDEX harmless ON muxi_sessions (audience)",
        "ALTER TABLE muxi_users ADD COLUMN harmless_too text",
    ),
    "sqlite": (
        "CREATE TRIGGER hosts AFTER INSERT ON muxi_users BEGIN SELECT 1; END",
        "CREATE UNIQUE INDEX hosts_too ON muxi_sessions (formation_id, audience)",
        "CREATE INDEX harmless ON muxi_sessions (audience)",
        "ALTER TABLE muxi_users ADD COLUMN harmless_too TEXT",
    ),
}


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def postgres(postgres_cluster: PostgresCluster, loop: asyncio.AbstractEventLoop) -> Iterator[AsyncEngine]:
    """A database with the schema and a few rows, for transactions that are taken back."""
    url = postgres_cluster.create_database()

    async def make() -> None:
        database = make_database(DatabaseConfig("postgres", url=Secret(url)))
        await database.open()
        await database.close()

    loop.run_until_complete(make())
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    yield engine
    loop.run_until_complete(engine.dispose())


def _on_postgres(engine: AsyncEngine, loop: asyncio.AbstractEventLoop, work: Callable[[Connection], Any]) -> Any:
    async def asynchronously() -> Any:
        async with engine.connect() as connection:
            await connection.begin()
            found = await connection.run_sync(work)
            await connection.rollback()
            return found

    return loop.run_until_complete(asynchronously())


def _ask(path: Path, look: Callable[[Connection], Any]) -> Any:
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(path, isolation_level=None))
    with engine.connect() as connection:
        found = look(connection)
    engine.dispose()
    return found


def _run(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("change", [name for name, (how, *_) in CHANGES.items() if "sqlite" in how])
def test_a_change_on_sqlite(change: str, sqlite_schema: Path, tmp_path: Path) -> None:
    how, rule, about = CHANGES[change]
    path = tmp_path / "muxi.db"
    shutil.copyfile(sqlite_schema, path)
    _run(path, *ROWS["sqlite"], *how["sqlite"])
    found = _ask(path, schema_findings)
    assert [(each.rule, each.about.partition(",")[0]) for each in found if each.level != NOTICE] == [(rule, about)]
    for _ in range(2):  # a table that is made anew takes the other's place once the check has seen it whole
        _run(path, *(statement for each in found if each.level != NOTICE for statement in each.statements))
        found = _ask(path, schema_findings)
    assert _ask(path, schema_findings) == []
    assert _ask(path, lambda connection: connection.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"
    assert _ask(path, lambda connection: connection.exec_driver_sql("PRAGMA foreign_key_check").all()) == []
    searched = "SELECT count(*) FROM muxi_memory_words WHERE muxi_memory_words MATCH 'peanuts'"
    assert _ask(path, lambda connection: connection.exec_driver_sql(searched).scalar()) == 1


def _as_a_shell(path: Path, *statements: str) -> None:
    """Run statements as the shell of SQLite does that nobody told to stop: it goes on after one that was refused."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            with contextlib.suppress(sqlite3.Error):
                connection.execute(statement)


_FORMATION = (
    "INSERT INTO muxi_formations (formation_id, created_at, key_check, next_key) VALUES ('f', 0, zeroblob(32), 9)"
)


def _users_without_key() -> tuple[str, ...]:
    table = metadata.tables["muxi_users"]
    key = "CONSTRAINT uq_users_public_id UNIQUE (formation_id, public_id),"
    made = table_sql(table, "sqlite").replace(" muxi_users ", " loose ", 1).replace(key, "", 1)
    replaced = ("DROP TABLE muxi_users", "ALTER TABLE loose RENAME TO muxi_users")
    return made, *replaced, *indexes_sql(table, "sqlite").values()


@pytest.mark.parametrize("shell", ["sqlite3", "another"])
def test_no_table_is_lost_to_rows_that_break_its_key(shell: str, sqlite_schema: Path, tmp_path: Path) -> None:
    path = tmp_path / "muxi.db"
    shutil.copyfile(sqlite_schema, path)
    _run(path, *_users_without_key(), _FORMATION, *ROWS["sqlite"], "UPDATE muxi_users SET public_id = 'usr_1'")

    def mend() -> list[str]:
        found = _ask(path, lambda connection: check(connection, 10**15))
        statements = [statement for finding in found for statement in finding.statements]
        if shell == "another":
            _as_a_shell(path, *statements)
        elif (program := shutil.which(shell)) is not None:
            script = "".join(f"{statement};\n" for statement in statements)
            subprocess.run([program, path], input=script, text=True, check=False, capture_output=True, timeout=60)
        return [finding.rule for finding in found]

    def users() -> int:
        return int(
            _ask(path, lambda connection: connection.exec_driver_sql("SELECT count(*) FROM muxi_users").scalar())
        )

    for _ in range(3):
        assert {"schema-parts", "uq_users_public_id"} <= set(mend())
        assert users() == 2
    _run(path, "UPDATE muxi_users SET public_id = 'usr_' || pk")
    if shell == "another" or shutil.which(shell) is not None:
        for _ in range(2):  # the copy, and that it takes the place
            assert "schema-parts" in mend()
            assert users() == 2
        assert "schema-parts" not in mend()
        assert _ask(path, schema_findings) == []


def test_a_copy_that_is_not_whole_takes_no_place(sqlite_schema: Path, tmp_path: Path) -> None:
    """Somebody went on writing after it was made; and one that is left where nothing must be made anew is told."""
    path = tmp_path / "muxi.db"
    shutil.copyfile(sqlite_schema, path)
    _run(path, *_users_without_key(), _FORMATION, USERS.format(1))
    _run(path, *_ask(path, schema_findings)[0].statements)
    _run(path, USERS.format(2))
    (found,) = _ask(path, schema_findings)
    assert "DROP TABLE muxi_users" not in found.statements
    _run(path, *found.statements)
    (found,) = _ask(path, schema_findings)
    assert "DROP TABLE muxi_users" in found.statements
    _run(path, *found.statements, "CREATE TABLE muxi_users_new AS SELECT * FROM muxi_users")
    assert [(each.rule, each.about) for each in _ask(path, schema_findings)] == [("schema-added", "muxi_users_new")]


@pytest.mark.parametrize("change", [name for name, (how, *_) in CHANGES.items() if "postgresql" in how])
def test_a_change_on_postgres(change: str, postgres: AsyncEngine, loop: asyncio.AbstractEventLoop) -> None:
    how, rule, about = CHANGES[change]

    def work(connection: Connection) -> Any:
        for statement in (*ROWS["postgresql"], *how["postgresql"]):
            connection.exec_driver_sql(statement)
        found = schema_findings(connection)
        for finding in found:
            for statement in finding.statements:
                if statement not in (BEGIN, COMMIT):
                    connection.exec_driver_sql(statement)
        return found, schema_findings(connection)

    found, left = _on_postgres(postgres, loop, work)
    assert [(each.rule, each.about.partition(",")[0]) for each in found] == [(rule, about)]
    assert left == []


def test_what_is_added_is_told(
    sqlite_schema: Path, tmp_path: Path, postgres: AsyncEngine, loop: asyncio.AbstractEventLoop
) -> None:
    path = tmp_path / "muxi.db"
    shutil.copyfile(sqlite_schema, path)
    _run(path, *ADDED["sqlite"])

    def work(connection: Connection) -> Any:
        for statement in ADDED["postgresql"]:
            connection.exec_driver_sql(statement)
        return schema_findings(connection)

    for found in (_ask(path, schema_findings), _on_postgres(postgres, loop, work)):
        assert [(each.rule, each.level, set(each.about.split(", "))) for each in found] == [
            ("schema-added", NOTICE, {"hosts", "hosts_too"})
        ]


def test_the_rows_are_asked_where_a_key_is_missing(postgres: AsyncEngine, loop: asyncio.AbstractEventLoop) -> None:
    """What a missing key let happen is named beside it. Without a column nothing can be asked."""

    def work(connection: Connection) -> Any:
        for statement in (*ROWS["postgresql"], *CHANGES["no guard key"][0]["postgresql"]):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("UPDATE muxi_memories SET user_pk = 2")
        lost = {finding.rule for finding in check(connection, 10**15)}
        for statement in CHANGES["no column"][0]["postgresql"]:
            connection.exec_driver_sql(statement)
        return lost, [finding.rule for finding in check(connection, 10**15)]

    lost, nothing = _on_postgres(postgres, loop, work)
    assert {"schema-parts", "fk_memories_provenance"} <= lost
    assert nothing == [MISSING]


def test_what_a_database_says_in_its_own_words() -> None:
    same = [
        (forms.expression, "(parent_pk IS NULL) = (root_pk = pk)", "((parent_pk IS NULL) = (root_pk = pk))"),
        (forms.expression, "a IS NOT NULL OR (b AND c = '')", "((a IS NOT NULL) OR (b AND (c = ''::text)))"),
        (forms.expression, "coalesce(x, 0)", "COALESCE(x, '0'::bigint)"),
        (forms.constraint, "FOREIGN KEY(a) REFERENCES t (b)", "FOREIGN KEY (a) REFERENCES t(b) ON DELETE NO ACTION"),
        (forms.index, "CREATE INDEX i ON t (a, b)", "CREATE INDEX i ON public.t USING btree (a ASC, b)"),
        (forms.column, "BIGINT DEFAULT 0 NOT NULL", "bigint NOT NULL DEFAULT '0'::bigint"),
    ]
    for form, one, other in same:
        assert form(one) == form(other), (one, other)
    different = [
        (forms.expression, "a OR (b AND c)", "(a OR b) AND c"),
        (forms.constraint, "FOREIGN KEY (a) REFERENCES t (b)", "FOREIGN KEY (a) REFERENCES t (b) ON UPDATE CASCADE"),
        (forms.constraint, "UNIQUE (a, b)", "UNIQUE NULLS NOT DISTINCT (a, b)"),
        (forms.index, "CREATE INDEX i ON t (a)", "CREATE INDEX i ON t (a DESC)"),
        (forms.index, "CREATE INDEX i ON t (a)", "CREATE INDEX i ON t USING hash (a)"),
        (forms.index, "CREATE UNIQUE INDEX i ON t (a)", "CREATE UNIQUE INDEX i ON t (a) WHERE b IS NULL"),
        (forms.column, "BIGINT NOT NULL", "BIGINT"),
        (forms.column, "BIGINT", "INTEGER"),
    ]
    for form, one, other in different:
        assert form(one) != form(other), (one, other)
