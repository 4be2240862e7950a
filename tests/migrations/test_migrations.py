"""The schema: made from nothing, by several processes at once, and the same as the tables say."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from muxi_identity import FormationClient, StorageUnavailableError
from muxi_identity.config import DatabaseConfig, FormationConfig, Secret
from muxi_identity.context.memories.search import matching_memories
from muxi_identity.storage import migrate
from muxi_identity.storage.database import Database
from muxi_identity.storage.errors import GuardRefused, RaceLost
from muxi_identity.storage.migrations import steps
from muxi_identity.storage.opening import make_database
from muxi_identity.storage.tables import OWNED_TABLES, metadata
from muxi_identity.storage.text_search import query_terms
from tests.postgres import PostgresCluster
from tests.races.processes import forking

PROCESSES = 8
# Tables that refer to users without the provenance key, and why.
WITHOUT_PROVENANCE = {
    "muxi_users": "a user's parent and root",
    "muxi_identifiers": "the target of the key",
    "muxi_merges": "the ledger: made by operators, about two users",
    "muxi_separations": "pairs that were taken apart: about two users",
}


@pytest.fixture(params=["sqlite", "postgres"])
def empty_config(request: pytest.FixtureRequest, tmp_path: Path) -> FormationConfig:
    """A database of its own, with nothing in it."""
    if request.param == "sqlite":
        database = DatabaseConfig("sqlite", path=tmp_path / "muxi.db")
    else:
        cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
        database = DatabaseConfig("postgres", url=Secret(cluster.create_database()))
    return FormationConfig(id="f", database=database, secret_key=Secret("k" * 40))


@pytest.fixture
async def database(empty_config: FormationConfig) -> Any:
    """The same, open: with the schema."""
    database = make_database(empty_config.database)
    await database.open()
    yield database
    await database.close()


async def on(database: Database, work: Callable[[Connection], Any]) -> Any:
    return await database.transact(work)


def test_from_nothing(empty_config: FormationConfig) -> None:
    for _ in range(2):
        with FormationClient(empty_config) as client:
            client.chat("Hello!", "U1")
    with FormationClient(empty_config) as client:
        assert client.list_users()["count"] == 1


def _open_together(config: tuple[str, str], barrier: Barrier, answers: Any) -> None:
    provider, where = config
    mapping = {"id": "f", "memory": {"persistent": {"provider": provider, "connection_string": where}}}
    os.environ["MUXI_SECRET_KEY"] = "k" * 40
    client = FormationClient(mapping)
    barrier.wait(60)
    try:
        answers.put(client.resolve_user("U1", True)["muxi_user_id"])
        client.close()
    except BaseException as error:
        answers.put(repr(error))
        raise


def test_several_processes_start_at_once(empty_config: FormationConfig) -> None:
    context = forking()
    barrier, answers = context.Barrier(PROCESSES), context.Queue()
    where = empty_config.database.url
    config = (
        empty_config.database.provider,
        str(empty_config.database.path) if where is None else where.reveal(),
    )
    processes = [context.Process(target=_open_together, args=(config, barrier, answers)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert len(set(found)) == 1, found
    assert found[0].startswith("usr_")
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    with FormationClient(empty_config) as client:
        assert client.list_users()["count"] == 1


OWN_KEYS = {
    str(index.name): [column.name for column in index.columns if column.name != "identifier_pk"]
    for table in metadata.sorted_tables
    for index in table.indexes
    if re.fullmatch(r"uq_\w+_key", str(index.name))
}
# SQLAlchemy does not reflect SQLite's expression indexes: these are compared by hand.
BY_HAND = {*OWN_KEYS, "ix_sessions_current"}
# Full-text search: made by the migration for each database its own way, and tested with the search.
FOR_SEARCH = re.compile(r"muxi_memory_words(_\w+)?|lexemes|ix_memories_lexemes|tr_memories_\w+")


@pytest.mark.filterwarnings(
    r"ignore:Skipped unsupported reflection of expression-based index (uq_\w+_key|ix_\w+_current)"
)
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
async def test_the_schema_is_what_the_tables_say(database: Database) -> None:
    def compare(connection: Connection) -> list[Any]:
        def wanted(_object: object, name: str | None, *_: object) -> bool:
            return name not in {*BY_HAND, migrate.VERSION_TABLE} and not FOR_SEARCH.fullmatch(name or "")

        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "include_object": wanted}
        )
        return list(compare_metadata(context, metadata))

    assert await on(database, compare) == []


async def test_what_reflection_does_not_see(database: Database) -> None:
    """Expression and partial indexes, check constraints, and whether foreign keys can be deferred."""

    def made_by(connection: Connection) -> dict[str, str]:
        if connection.dialect.name == "sqlite":
            rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        else:
            rows = connection.exec_driver_sql(
                "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL"
                " SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype IN ('c', 'f')"
            )
        return {name: " ".join(sql.lower().replace('"', "").split()) for name, sql in rows}

    made = await on(database, made_by)
    assert OWN_KEYS["uq_memories_key"] == ["formation_id", "user_pk", "type", "key"]
    for name, columns in OWN_KEYS.items():
        index = made[name]
        assert index.startswith("create unique index")
        found = index[index.rindex("(formation_id") :].replace("(0)::bigint", "0").replace("'0'::bigint", "0")
        expected = f"({', '.join(columns)}, coalesce(identifier_pk, 0))"
        assert found == (expected.replace("user_pk", "abs(user_pk)") if name == "uq_memories_key" else expected)
    assert re.search(r"where \(?value is not null\)?$", made["ix_memories_facts"])
    assert "(formation_id, abs(user_pk), coalesce(identifier_pk, " in made["ix_sessions_current"]
    everything = " ".join([*made, *made.values()])
    checks = {
        str(constraint.name)
        for table in metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    if database.dialect == "postgresql":
        # It has booleans; on SQLite the check makes them so.
        checks = {name for name in checks if not name.endswith(("_secret", "_shareable"))}
    assert checks
    assert [name for name in sorted(checks) if name not in everything] == []
    for table in OWNED_TABLES:
        short = table.name.removeprefix("muxi_")
        for kind in ("user", "provenance"):
            name = f"fk_{short}_{kind}"
            definition = made.get(name) or made[table.name][made[table.name].index(name) :]
            clause = definition[: definition.index("constraint", 1)] if "constraint" in definition[1:] else definition
            assert "deferrable" in clause
            assert "initially deferred" not in clause
    assert await on(database, _deferrable_works)


def _deferrable_works(connection: Connection) -> bool:
    """Order does not matter inside a transaction that defers: the owner may come after what it owns."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    else:
        connection.exec_driver_sql("SET CONSTRAINTS ALL DEFERRED")
    connection.exec_driver_sql(
        "INSERT INTO muxi_credentials (formation_id, pk, user_pk, identifier_pk, credential_id, service, name,"
        " ciphertext, key_id, preview, created_at, updated_at) VALUES ('g', 3, 1, 2, 'c', 's', 'n', '', '', '', 0, 0)"
    )
    connection.execute(
        sa.text(
            "INSERT INTO muxi_identifiers (formation_id, pk, user_pk, bucket, slot, value, spelling, secret, linked_at)"
            " VALUES ('g', 2, 1, :bucket, 0, 'v', 'v', false, 0)"
        ),
        {"bucket": b"b"},
    )
    connection.exec_driver_sql(
        "INSERT INTO muxi_users (formation_id, pk, public_id, root_pk, created_at) VALUES ('g', 1, 'usr_g', 1, 0)"
    )
    return True


def test_every_key_begins_with_the_formation() -> None:
    for table in metadata.sorted_tables:
        keys: list[Any] = [
            constraint
            for constraint in table.constraints
            if isinstance(constraint, sa.PrimaryKeyConstraint | sa.UniqueConstraint | sa.ForeignKeyConstraint)
        ]
        keys += list(table.indexes)
        assert table.primary_key in keys
        for key in keys:
            first = next(iter(key.columns))
            assert first.name == "formation_id", (table.name, key.name)
            assert key.name, table.name
            if isinstance(key, sa.ForeignKeyConstraint):
                assert key.elements[0].column.name == "formation_id", (table.name, key.name)


def test_what_refers_to_users_carries_the_provenance_key() -> None:
    missing = {}
    for table in metadata.sorted_tables:
        refers = [key for key in table.foreign_key_constraints if key.referred_table.name == "muxi_users"]
        provenance = [
            key
            for key in table.foreign_key_constraints
            if key.referred_table.name == "muxi_identifiers"
            and key.column_keys == ["formation_id", "user_pk", "identifier_pk"]
            and [element.column.name for element in key.elements] == ["formation_id", "user_pk", "pk"]
            and key.deferrable
        ]
        if refers and not provenance:
            missing[table.name] = refers
        elif refers:
            assert table in OWNED_TABLES, f"{table.name} is not deleted with its user"
    assert set(missing) == set(WITHOUT_PROVENANCE)
    assert {table.name for table in OWNED_TABLES} == {
        table.name for table in metadata.sorted_tables if any("provenance" in str(c.name) for c in table.constraints)
    }


async def test_a_row_cannot_point_into_another_formation(database: Database) -> None:
    def insert(connection: Connection) -> None:
        connection.exec_driver_sql(
            "INSERT INTO muxi_users (formation_id, pk, public_id, root_pk, created_at) VALUES ('g', 1, 'usr_g', 1, 0)"
        )

    await on(database, insert)
    for statement in (
        "INSERT INTO muxi_users (formation_id, pk, public_id, parent_pk, root_pk, created_at)"
        " VALUES ('h', 2, 'usr_h', 1, 1, 0)",
        "INSERT INTO muxi_sessions (formation_id, pk, user_pk, session_id, created_at, last_activity_at)"
        " VALUES ('h', 3, 1, 's', 0, 0)",
    ):
        with pytest.raises(GuardRefused):
            await on(database, lambda connection, statement=statement: connection.exec_driver_sql(statement))


def test_the_names_of_the_files_tell_the_revisions() -> None:
    known = ScriptDirectory(str(Path(steps.__file__).parent)).walk_revisions()
    assert migrate._revisions() == [script.revision for script in known][::-1]


async def test_downgrading_drops_everything(database: Database) -> None:
    def downgrade(connection: Connection) -> list[str]:
        command.downgrade(steps.config_of(connection), "base")
        if connection.dialect.name == "sqlite":
            rows = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        else:
            rows = connection.exec_driver_sql(
                "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE nspname = 'public' AND relname NOT LIKE '%_pkc'"
            )
        return list(rows.scalars())

    assert await on(database, downgrade) == [migrate.VERSION_TABLE]
    # And up again.
    await database.close()
    await database.open()
    assert await on(database, migrate.current) == migrate.newest()


# What somebody said, in order: (pk, user, identifier, key, value). None retracts, for the whole person.
SAID = [
    (101, 1, 11, "budget", "$1"),
    (102, 1, 11, "budget", "$2"),  # replaces the one before
    (103, 2, 21, "budget", "$3"),  # of the merged member: lies beside it, and is what counts
    (104, 1, None, "budget", "$4"),  # by public id
    (105, 1, 11, "city", "Rome"),
    (106, 2, 21, "city", "Bonn"),
    (107, 1, 11, "city", None),  # takes both back
    (108, 2, 21, "name", "Al"),
    (109, 2, 21, "name", None),
    (110, 1, 11, "name", "Alice"),  # said again after that
    (111, 3, 31, "budget", "$9"),  # another person's
    (112, 3, 31, "city", "Oslo"),
    (113, 3, 31, "shoe size", None),  # of what was never said
    (114, 1, 12, "budget", "$5"),  # through another identifier of the same member
]
STANDING = {102: "$2", 103: "$3", 104: "$4", 110: "Alice", 111: "$9", 112: "Oslo", 114: "$5"}


async def test_what_was_standing_stands_after_the_upgrade(empty_config: FormationConfig) -> None:
    """A database of the first revision, with merged users and facts that were replaced and retracted."""
    database = make_database(empty_config.database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "newest", lambda: "0001")
        patch.setattr(command, "upgrade", partial(_upgrade_to, command.upgrade, "0001"))
        await database.open()
    assert await on(database, migrate.current) == "0001"
    await on(database, _fill_first_revision)
    await database.close()

    await database.open()
    try:
        found = await on(database, _read_memories)
        assert {row["pk"]: row["value"] for row in found} == STANDING
        said = {pk: (user, identifier, key) for pk, user, identifier, key, _ in SAID}
        for row in found:
            assert (row["user_pk"], row["identifier_pk"], row["key"]) == said[row["pk"]]
            assert (row["formation_id"], row["type"], row["metadata"]) == ("g", "fact", None)
            assert row["content"] == f"My {row['key']} is {row['value']}"
            assert row["created_at"] == row["updated_at"] == row["pk"]
            assert not row["shareable"]
            assert re.fullmatch("mem_[0-9a-f]{20}", row["memory_id"])
        assert len({row["memory_id"] for row in found}) == len(found)
        # They are found by their words, and what is told to the same identifier now replaces them.
        members = sa.select(sa.literal_column("1").label("pk")).cte("members")
        terms = query_terms(database.dialect, ["alice"])
        search = matching_memories(database.dialect, "g", members, terms)
        assert [row.pk for row in await on(database, lambda connection: connection.execute(search).all())] == [110]
        with pytest.raises(RaceLost):
            await on(database, _say_again)
        assert await on(database, _sessions) == [("s", "private", True, None)]
    finally:
        await database.close()


def _upgrade_to(upgrade: Callable[..., None], revision: str, config: Any, _revision: str) -> None:
    upgrade(config, revision)


def _fill_first_revision(connection: Connection) -> None:
    def insert(table: str, **values: Any) -> None:
        columns = ", ".join(["formation_id", *values])
        parameters = ", ".join(["'g'", *(f":{name}" for name in values)])
        connection.execute(sa.text(f"INSERT INTO {table} ({columns}) VALUES ({parameters})"), values)

    for pk, parent in ((1, None), (2, 1), (3, None)):
        insert("muxi_users", pk=pk, public_id=f"usr_{pk}", parent_pk=parent, root_pk=parent or pk, created_at=0)
    insert("muxi_merges", merge_id="m", primary_pk=1, secondary_pk=2, merged_at=0, mode="merge", actor="a")
    for pk, user in ((11, 1), (12, 1), (21, 2), (31, 3)):
        texts = {"value": f"v{pk}", "spelling": f"v{pk}"}
        insert("muxi_identifiers", pk=pk, user_pk=user, bucket=b"%d" % pk, slot=0, secret=False, linked_at=0, **texts)
    insert("muxi_sessions", pk=50, user_pk=1, identifier_pk=11, session_id="s", created_at=0, last_activity_at=0)
    for pk, user, identifier, key, value in SAID:
        insert(
            "muxi_memories",
            pk=pk,
            user_pk=user,
            identifier_pk=identifier,
            type="fact",
            key=key,
            content=f"My {key} is {value}",
            value=value,
            created_at=pk,
        )


def _read_memories(connection: Connection) -> list[Any]:
    return list(connection.execute(sa.select(metadata.tables["muxi_memories"])).mappings())


def _say_again(connection: Connection) -> None:
    row = dict(_read_memories(connection)[0])
    connection.execute(metadata.tables["muxi_memories"].insert().values({**row, "pk": 999, "memory_id": "mem_x"}))


def _sessions(connection: Connection) -> list[Any]:
    sessions = metadata.tables["muxi_sessions"]
    names = ("session_id", "audience", "continued", "context")
    return [tuple(row) for row in connection.execute(sa.select(*(sessions.c[name] for name in names)))]


async def test_a_newer_schema_is_left_alone(
    empty_config: FormationConfig, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def pretend(connection: Connection) -> None:
        connection.exec_driver_sql(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")

    await on(database, pretend)
    other = make_database(empty_config.database)
    await other.open()
    try:
        assert await on(other, migrate.current) == "9999"
    finally:
        await other.close()
    assert "newer than this code" in caplog.text


async def test_a_migration_does_not_wait_for_ever(
    empty_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the lock that the migration needs: it gives up, with an error that callers know, and whole."""
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr("muxi_identity.storage.sqlite.BUSY_SECONDS", 0.05)
    database = make_database(empty_config.database)
    if empty_config.database.path is not None:
        holder = sqlite3.connect(empty_config.database.path, isolation_level=None)
        holder.execute("PRAGMA journal_mode = WAL")
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailableError):
            await database.open()
        holder.execute("ROLLBACK")
        holder.close()
    else:
        assert empty_config.database.url is not None
        admin = await asyncpg.connect(empty_config.database.url.reveal())
        await admin.execute(f"CREATE TABLE {migrate.VERSION_TABLE} (version_num varchar(32) PRIMARY KEY)")
        holding = admin.transaction()
        await holding.start()
        await admin.execute(f"LOCK TABLE {migrate.VERSION_TABLE} IN SHARE MODE")
        with pytest.raises(StorageUnavailableError):
            await database.open()
        assert await admin.fetchval("SELECT to_regclass('muxi_users')") is None
        await holding.rollback()
        await admin.close()
    await database.open()
    assert await on(database, migrate.current) == migrate.newest()
    await database.close()
