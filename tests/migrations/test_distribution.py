"""The schema can be distributed by formation: every key holds it, and every statement of the engine names it.

Read from the catalogue of a real PostgreSQL, not from the tables' own description.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from muxi_identity import AsyncFormationClient, FormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.importing import importer
from tests.formations import Time
from tests.importing import write_jsonl
from tests.integration.test_checks import config_of, use_everything
from tests.postgres import start_cluster

TABLES = "c.relkind = 'r' AND c.relname LIKE 'muxi~_%' ESCAPE '~' AND c.relname <> 'muxi_schema_version'"


@pytest.fixture(scope="module")
def logged() -> object:
    """A server of its own that writes down every statement."""
    cluster = start_cluster(log_statement="all", log_line_prefix="")
    yield cluster
    cluster.stop()


@pytest.fixture
async def connection(logged: object) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(logged.url("furnished"))  # type: ignore[attr-defined]
    yield found
    await found.close()


@pytest.fixture(scope="module", autouse=True)
def statements(logged: object, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What was sent to the server while somebody did a little of everything."""
    config = config_of("postgres", logged.create_database("furnished"))  # type: ignore[attr-defined]
    with FormationClient(config):
        before = len(logged.log_text())  # type: ignore[attr-defined]
    asyncio.run(use_everything(config, Time()))
    asyncio.run(_more(config))
    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(_import(config, patch, tmp_path_factory.mktemp("import")))
    said = logged.log_text()[before:]  # type: ignore[attr-defined]
    starts = re.split(r"^(?:LOG|DETAIL|STATEMENT|ERROR|HINT|CONTEXT):  ", said, flags=re.MULTILINE)
    found = [re.match(r"(?:execute \S+|statement): (.*)", each, re.DOTALL) for each in starts]
    return [" ".join(match[1].split()) for match in found if match]


async def _import(config: FormationConfig, patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Do whatever an import does: new people, known ones, merges, refusals; again, anew, in a dry run; and export."""
    patch.setattr(importer, "WORTH_COUNTING", 1)
    rows: list[Any] = [
        {"identifiers": ["imported@example.com", ("I1", "slack")]},
        {"identifiers": ["undefined"]},
        {"id": "B1", "is_bot": True, "profile": {}},
        {"identifiers": [("I2", "slack"), ("I3", "slack")]},
        {"user_id": "usr_imported", "identifiers": [("I4", "slack")]},
        {"user_id": "usr_nobody!", "identifiers": [("I5", "slack")]},
    ]
    file = write_jsonl(folder / "people.jsonl", rows)
    assert config.database.url is not None
    async with AsyncFormationClient(config) as client:
        await client.resolve_user(("I2", "slack"), create_user=True)
        await client.resolve_user(("I3", "slack"), create_user=True)
        await client.import_users(rows, dry_run=True, create_users=True)
        for source, import_id in ((rows, "one"), (rows, "one"), (file, None), (file, None)):
            await client.import_users(source, import_id=import_id, create_users=True, on_conflict="absorb")
        connection = await asyncpg.connect(config.database.url.reveal())
        await connection.execute(f"UPDATE muxi_imports SET updated_at = 0 WHERE formation_id = '{config.id}'")
        await connection.close()
        await client.import_users([], import_id="two")  # what came before it is forgotten
        assert [person async for person in client.export_users()]


async def _more(config: FormationConfig) -> None:
    d, a = ("D1", "slack"), ("A1", "slack")
    async with AsyncFormationClient(config) as client:
        await client.get_user_context(d, query="peanuts")
        await client.search_memories(d, "peanuts")
        (memory, *_) = (await client.list_memories(d))["memories"]
        await client.update_memory(memory["memory_id"], d, content="Likes peanuts")
        await client.delete_memory(memory["memory_id"], d)
        await client.export_user(d)
        await client.explain(d, a)
        await client.get_user_history(d)
        await client.list_users()
        await client.replace_identifier(("d@example.com", "email"), "e@example.com")
        await client.split_user("usr_c", [a])
        await client.rotate_credentials()
        await client.clear_sessions(d)
        await client.get_working_memory(d)
        await client.delete_preference(d, "language")
        await client.run_due_tasks()
        await client.delete_user("usr_d", include_merged=True)


async def test_every_key_holds_the_formation(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "SELECT c.relname, i.relname AS index, pg_get_indexdef(x.indexrelid, 1, true) AS first, x.indisunique"
        f" FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid WHERE {TABLES}"
    )
    assert len(rows) > 50
    # What no key rests on may begin with anything: the index of words is one.
    assert [tuple(row) for row in rows if row["first"] != "formation_id" and row["indisunique"]] == []
    assert {row["index"] for row in rows if row["first"] != "formation_id"} == {"ix_memories_lexemes"}


async def test_every_table_has_a_formation_and_a_primary_key(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "SELECT c.relname, (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnotnull"
        " AND a.attname = 'formation_id') AS formations,"
        " (SELECT count(*) FROM pg_constraint k WHERE k.conrelid = c.oid AND"
        f" k.contype = 'p') AS keys FROM pg_class c WHERE {TABLES}"
    )
    assert len(rows) > 20
    assert [row["relname"] for row in rows if (row["formations"], row["keys"]) != (1, 1)] == []


async def test_foreign_keys_name_the_formation_on_both_sides(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "SELECT k.conname, k.confupdtype, k.confdeltype,"
        " (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1]) AS own,"
        " (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = k.confrelid AND a.attnum = k.confkey[1]) AS theirs"
        f" FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE k.contype = 'f' AND {TABLES}"
    )
    assert len(rows) > 20
    assert {(row["own"], row["theirs"]) for row in rows} == {("formation_id", "formation_id")}
    # ON UPDATE CASCADE, and whatever else follows by itself, cannot be had with the key that rows are spread by.
    assert {(bytes(row["confupdtype"]), bytes(row["confdeltype"])) for row in rows} == {(b"a", b"a")}


async def test_nothing_reaches_across_formations_by_itself(connection: asyncpg.Connection) -> None:
    triggers = await connection.fetch(
        f"SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE {TABLES} AND NOT t.tgisinternal"
    )
    assert triggers == []
    # Keys are drawn by the statements from two sequences: no column has one for its default.
    defaults = await connection.fetch(
        "SELECT c.relname, a.attname, pg_get_expr(d.adbin, d.adrelid) AS value FROM pg_attrdef d"
        " JOIN pg_class c ON c.oid = d.adrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.adnum"
        f" WHERE {TABLES} AND a.attgenerated = ''"
    )
    assert [tuple(row) for row in defaults if "nextval" in row["value"] or "(" in row["value"]] == []
    views = await connection.fetchval(
        "SELECT count(*) FROM pg_rules WHERE tablename LIKE 'muxi~_%' ESCAPE '~' OR schemaname = 'public'"
    )
    assert views == 0


def test_every_statement_names_the_formation(statements: list[str]) -> None:
    tables = re.compile(r"(?!LISTEN|UNLISTEN).*\bmuxi_(?!keys|outbox_positions|schema_version)\w+", re.DOTALL)
    ours = [each for each in statements if tables.match(each)]  # a channel is no table
    assert len(ours) > 200
    written = {
        match[1] for each in ours for match in re.finditer(r"(?:INSERT INTO|UPDATE|DELETE FROM) (muxi_\w+)", each)
    }
    assert {
        "muxi_users",
        "muxi_identifiers",
        "muxi_memories",
        "muxi_messages",
        "muxi_outbox",
        "muxi_imports",
    } <= written
    copied = {match[1] for each in ours if (match := _COPY.match(each))}
    assert copied == {"muxi_users", "muxi_identifiers", "muxi_history", "muxi_import_notes"}
    assert any(_MAINTENANCE.match(each) for each in ours)
    assert sorted({each[:300] for each in ours if not _names_the_formation(each)}) == []


_COPY = re.compile(r'COPY "?(muxi_\w+)"? ?\("?formation_id"?, ?.*\) FROM STDIN\b')
# Counts what every shard of a table holds; it reads no row for anybody, and changes none.
_MAINTENANCE = re.compile(r"ANALYZE muxi_\w+(?:, muxi_\w+)*$")


def _names_the_formation(statement: str) -> bool:
    """Whether a statement says of which formation the rows are that it reads or writes, or does neither."""
    if _COPY.match(statement) or _MAINTENANCE.match(statement):
        return True
    inserts = re.match(r"(?:WITH .*)?INSERT INTO muxi_\w+ \(formation_id", statement)
    return inserts is not None or re.search(r"formation_id = (?:\$|')", statement) is not None


def test_the_statement_check_finds_what_does_not() -> None:
    assert not _names_the_formation("SELECT * FROM muxi_users WHERE muxi_users.pk = $1")
    assert not _names_the_formation(
        "UPDATE muxi_users u SET x = 1 FROM muxi_merges m WHERE u.formation_id = m.formation_id"
    )
    assert not _names_the_formation('COPY "muxi_users"("pk", "formation_id") FROM STDIN (FORMAT binary)')
    assert not _names_the_formation("COPY muxi_users TO STDOUT")
    assert not _names_the_formation("ANALYZE muxi_users; DELETE FROM muxi_users")
    assert not _names_the_formation("VACUUM FULL muxi_users")
    assert _names_the_formation('COPY "muxi_users"("formation_id", "pk") FROM STDIN (FORMAT binary)')
    assert _names_the_formation("DELETE FROM muxi_users WHERE muxi_users.formation_id = $1::VARCHAR AND pk = $2")


def test_it_is_told_where_to_read_on() -> None:
    assert "create_distributed_table" in Path("docs/scaling.md").read_text(encoding="utf-8")
