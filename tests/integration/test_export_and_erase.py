"""One archive holds everything about a person, and after an erasure nothing does."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import delete, insert

from muxi_identity import AsyncFormationClient, FormationConfig, MergeConflictError, TooLargeError, UserNotFoundError
from muxi_identity.config import DatabaseConfig, Secret
from muxi_identity.context.export import archive
from muxi_identity.context.export.columns import INTERNAL, SHOWN, WITHHELD
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import UserArchive
from muxi_identity.storage.tables import OWNED_TABLES, metadata, synopses
from tests.formations import Time, client_of, dump, rows_of
from tests.invariants import check_invariants

SLACK = ("U98765ABC", "slack")
MAIL = "alice@email.com"
KEY = "key_" + "0123456789abcdef" * 2
MARK = "Zanzibar"
"""Stands in every text that is kept of the person."""


@pytest.fixture
async def client(database_config: FormationConfig) -> Any:
    async with client_of(database_config, Time()) as client:
        yield client


def value_for(column: sa.Column[Any], pk: int, links: dict[str, int]) -> Any:
    """A value that can be told from others, for any column of a user-owned table."""
    if column.name in links:
        return links[column.name]
    if isinstance(column.type, sa.Boolean):
        return True
    if isinstance(column.type, sa.LargeBinary):
        return f"secret of {column.table.name} {pk}".encode()
    if isinstance(column.type, sa.Integer):
        return 1_800_000_000_000_000 if column.name.endswith("_at") or column.name.endswith("_until") else 1
    if SHOWN[column.table.name].get(column.name) is archive.SHOWN["muxi_memories"]["metadata"]:
        return json.dumps({"where": f"{MARK} {column.name}"})
    return f"{MARK} {column.name} {pk}"


async def fill(client: AsyncFormationClient, identifier: Any) -> None:
    """Put a row into every user-owned table, as if each had been written through the identifier."""
    formation = await client._formation()
    hit = await formation._resolver.existing(formation.parse(identifier))

    def work(tx: Transaction) -> None:
        made: dict[str, int] = {}
        tx.connection.execute(delete(synopses).where(synopses.c.user_pk == hit.member_pk))  # there is one a user
        for table in reversed(OWNED_TABLES):
            if table.name == "muxi_link_codes" and hit.identifier_pk is None:
                continue
            (pk,) = tx.new_keys(1)
            made[table.name] = pk
            links = {
                "formation_id": tx.formation_id,
                "pk": pk,
                "user_pk": hit.member_pk,
                "identifier_pk": hit.identifier_pk,
                "session_pk": made.get("muxi_sessions"),
                "task_pk": made.get("muxi_tasks"),
            }
            values = {column.name: value_for(column, pk, links) for column in table.c}
            tx.connection.execute(insert(table).values(**values))

    await formation._runner.change(work, client._caller())


async def make_alice(client: AsyncFormationClient) -> str:
    """A person of two merged users, with keys, proof, and something in every table under both."""
    await client.associate_user_identifiers(
        [{"identifier": MAIL, "metadata": {"note": MARK}}, (KEY, "api_key")], source="oauth", reason=f"{MARK} asked"
    )
    await client.chat(f"My name is {MARK}", SLACK)
    await fill(client, MAIL)
    await fill(client, SLACK)
    linked = await client.associate_user_identifiers([MAIL, SLACK], on_conflict="merge", reason=f"{MARK} called")
    await client.chat("Hello!", "bob@email.com")
    return linked["muxi_user_id"]


# The archive


def test_every_column_of_every_user_owned_table_is_shown_or_withheld_on_purpose() -> None:
    """A new table, or a new column, fails here until somebody has decided."""
    assert set(SHOWN) == {table.name for table in OWNED_TABLES}
    for table in OWNED_TABLES:
        columns = set(table.c.keys()) - INTERNAL
        shown, withheld = set(SHOWN[table.name]), WITHHELD.get(table.name, frozenset())
        assert shown | withheld == columns, table.name
        assert not shown & withheld, table.name
        if table.name not in archive._NESTED:
            assert table.name.removeprefix("muxi_") in UserArchive.__annotations__


async def test_the_archive_holds_everything(client: AsyncFormationClient) -> None:
    user_id = await make_alice(client)
    made = await client.export_user(SLACK)

    assert set(made) == set(UserArchive.__annotations__)
    assert (made["format"], made["version"]) == ("muxi-identity/person", 1)
    assert made["person"]["muxi_user_id"] == user_id
    assert len(made["users"]) == 2
    assert {each["merged_into"] for each in made["users"]} == {None, user_id}
    assert [(each["identifier"], each["type"]) for each in made["identifiers"]] == [
        (MAIL, "email"),
        ("key_...cdef", "api_key"),
        ("U98765ABC", "slack"),
    ]
    for name in set(made) & {table.name.removeprefix("muxi_") for table in OWNED_TABLES}:
        rows: list[dict[str, Any]] = made[name]  # type: ignore[literal-required]
        through = {each["identifier"] for each in rows}
        assert {0, 2} <= through, name
        assert {each["user"] for each in rows} == {each["user"] for each in made["users"]}, name
    filled = next(each for each in made["sessions"] if each["session_id"].startswith(MARK))
    assert [each["content"][: len(MARK)] for each in filled["messages"]] == [MARK]
    assert all(len(each["runs"]) == 1 and each["runs"][0]["reply"].startswith(MARK) for each in made["tasks"])
    assert made["preferences"][0]["value"] == {"where": f"{MARK} value"}
    assert [each["event"] for each in made["history"]].count("user:merge") == 1
    assert made["merges"][0]["reason"] == f"{MARK} called"
    everything = json.dumps(made)  # plain JSON
    assert "bob" not in everything


async def test_the_archive_holds_no_secret_and_no_key_of_the_database(client: AsyncFormationClient) -> None:
    await make_alice(client)
    everything = json.dumps(await client.export_user(MAIL))
    assert KEY not in everything
    assert "secret of" not in everything  # ciphertext, hashes of codes
    for internal in ('_pk"', '"pk"', "key_id", "claim"):
        assert internal not in everything


async def test_the_archive_is_complete_to_the_row(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    """Every text in every column of the person's rows that is not withheld is found in the archive."""
    await make_alice(client)
    everything = json.dumps(await client.export_user(MAIL))
    found = await dump(database_config)
    for table in OWNED_TABLES:
        for row in rows_of(found, table.name):
            for name in SHOWN[table.name]:
                if isinstance(row[name], str) and MARK in row[name]:
                    text = json.loads(row[name])["where"] if row[name].startswith("{") else row[name]
                    assert text in everything, (table.name, name)


async def test_who_is_exported(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    user_id = await make_alice(client)
    by_id = await client.export_user(user_id)
    assert {**by_id, "exported_at": None} == {**await client.export_user(SLACK), "exported_at": None}
    with pytest.raises(UserNotFoundError):
        await client.export_user("usr_nobody")
    async with AsyncFormationClient(dataclasses.replace(database_config, id="test-elsewhere")) as elsewhere:
        with pytest.raises(UserNotFoundError):
            await elsewhere.export_user(user_id)
        assert (await elsewhere.list_users())["count"] == 0


async def test_too_much_for_one_archive(client: AsyncFormationClient, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_alice(client)
    monkeypatch.setattr(archive, "MAX_ROWS", 5)
    with pytest.raises(TooLargeError) as caught:
        await client.export_user(MAIL)
    assert caught.value.limit == 5


async def test_unlinked_identifiers_are_exported_too(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([MAIL, SLACK])
    await client.chat("My budget is $5,000", SLACK)
    await client.unlink_user_identifier(SLACK)
    made = await client.export_user(MAIL)
    assert made["identifiers"][1]["unlinked_at"] is not None
    assert made["sessions"][0]["identifier"] == 1


# The erasure


async def test_a_dry_run_counts_and_changes_nothing(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    user_id = await make_alice(client)
    before = await dump(database_config)
    counted = await client.delete_user(MAIL, dry_run=True)
    assert await dump(database_config) == before
    assert counted["dry_run"]
    assert counted["muxi_user_id"] == user_id
    assert len(counted["merged_users"]) == 1
    done = await client.delete_user(MAIL, include_merged=True)
    assert not done["dry_run"]
    assert {**done, "dry_run": True} == counted
    assert done["rows_deleted"] == sum(done["counts"].values())
    assert all(done["counts"][table.name.removeprefix("muxi_")] >= 2 for table in OWNED_TABLES)
    with pytest.raises(UserNotFoundError):
        await client.delete_user(MAIL, dry_run=True)


async def test_merged_people_want_a_confirmation(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await make_alice(client)
    before = await dump(database_config)
    with pytest.raises(MergeConflictError):
        await client.delete_user(MAIL)
    assert await dump(database_config) == before


async def test_nothing_is_left_but_a_receipt_of_ids_and_counts(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    user_id = await make_alice(client)
    await client.create_link_code(SLACK)
    done = await client.delete_user(user_id, include_merged=True, source="privacy")
    found = await dump(database_config)
    everything = repr(found)
    for text in (MARK, MAIL, "U98765ABC", KEY, "key_...cdef", "alice"):
        assert text not in everything, text
    (receipt,) = [row for row in rows_of(found, "muxi_history") if row["event"] == "user:delete"]
    assert json.loads(receipt["details"]) == {"merged_users": done["merged_users"], "counts": done["counts"]}
    assert (receipt["user_id"], receipt["source"]) == (user_id, "privacy")
    tables_with_bob = {name for name, rows in found.items() if rows}
    assert "muxi_users" in tables_with_bob  # bob is still there
    assert len(rows_of(found, "muxi_users")) == 1
    assert (await client.find_user(MAIL)) is None
    with pytest.raises(UserNotFoundError):
        await client.get_user(user_id)


async def test_the_files_of_sqlite_hold_nothing_of_whom_was_erased(tmp_path: Path) -> None:
    """PostgreSQL overwrites what was erased when it vacuums."""
    path = tmp_path / "muxi.db"
    config = FormationConfig(database=DatabaseConfig("sqlite", path=path), secret_key=Secret("k" * 40))
    async with client_of(config, Time()) as client:
        await make_alice(client)
        for number in range(40):
            await client.chat(f"My {MARK} {number} is {MARK}", MAIL)
        code = (await client.create_link_code(MAIL))["code"]
        await client.redeem_link_code(code, "carol@email.com")
        assert any(MARK.encode() in each.read_bytes() for each in path.parent.iterdir())
        await client.delete_user(MAIL, include_merged=True)
        for each in path.parent.iterdir():
            held = each.read_bytes()
            for text in (MARK, MAIL, "U98765ABC", KEY, code):
                assert text.encode() not in held, (each.name, text)


async def test_two_clients_forget_at_once(database_config: FormationConfig) -> None:
    async with AsyncFormationClient(database_config) as one, AsyncFormationClient(database_config) as other:
        await one.chat("Hello!", MAIL)
        assert await other.find_user(MAIL) is not None
        await one.delete_user(MAIL)
        assert await other.find_user(MAIL) is None
        assert (await other.resolve_user(MAIL, create_user=True))["created"]


def test_no_table_that_is_not_user_owned_holds_what_people_say() -> None:
    """Whoever adds a table of texts about people makes it user-owned, or says here what is in it."""
    known = {
        "muxi_formations",  # the formation itself
        "muxi_users",  # public ids
        "muxi_identifiers",  # deleted, or left as a bare hash where it was a secret
        "muxi_merges",  # deleted
        "muxi_history",  # ids; reasons are removed
        "muxi_idempotency",  # ids
        "muxi_separations",  # deleted
        "muxi_api_keys",  # hashes of the formation's own keys
        "muxi_requests",  # sealed answers, for a day
        "muxi_link_attempts",  # counts
        "muxi_outbox",  # public ids
        "muxi_imports",  # keyed hashes and counts
        "muxi_import_notes",  # numbers of lines, and why
    }
    assert {table.name for table in metadata.sorted_tables} - {table.name for table in OWNED_TABLES} == known


async def test_no_address_stays_with_whoever_wrote_in_under_it_first(database_config: FormationConfig) -> None:
    async with AsyncFormationClient(database_config) as client:
        stranger = await client.chat("My budget is $5", "alice@email.com")
        proved = [{"identifier": "alice@email.com", "verified": True}, ("U1", "slack")]
        alice = await client.associate_user_identifiers(proved)
        assert alice["muxi_user_id"] != stranger.user_id
        await client.delete_user("alice@email.com")
        assert "alice@email.com" not in repr(await dump(database_config))
        # What the stranger said is still the stranger's.
        assert (await client.list_memories(stranger.user_id))["memories"][0]["value"] == "$5"
    await check_invariants(database_config)
