"""The synopsis: kept until something that it rests on changes, whoever changed it, and made anew then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import text as text_of
from sqlalchemy.util import await_only

from muxi_identity import AsyncFormationClient, Fact, FormationConfig
from muxi_identity.context.synopsis.rows import Kept, keep, read_kept
from muxi_identity.context.synopsis.service import Synopses
from muxi_identity.errors import ModelUnavailableError, UserNotFoundError
from muxi_identity.identity.running import Caller
from tests.formations import Time, client_of, dump, rows_of
from tests.integration.test_memories import EMAIL, SLACK, merged, unmerge_all
from tests.invariants import check_invariants


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def client(database_config: FormationConfig, time: Time) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(database_config, time) as client:
        yield client


async def text(client: AsyncFormationClient, who: Any) -> str:
    return (await client.get_synopsis(who))["text"]


async def kept_texts(client: AsyncFormationClient) -> set[str | None]:
    return {row["text"] for row in rows_of(await dump(client._lifecycle.config), "muxi_synopses")}


async def test_it_is_made_once_and_kept(client: AsyncFormationClient, time: Time) -> None:
    await client.associate_user_identifiers([EMAIL, SLACK])
    assert await client.get_synopsis(EMAIL) == {
        "muxi_user_id": (await client.get_user(EMAIL))["muxi_user_id"],
        "text": "",
        "built_at": None,
    }
    await client.chat("My name is Alice. I live in Berlin. My budget is $5,000", EMAIL)
    await client.set_preference(SLACK, "language", "de")
    first = await client.get_synopsis(EMAIL)
    assert first["text"] == "Name: Alice. Lives in Berlin. Prefers: language = de. Budget: $5,000."
    assert first["built_at"] is not None
    time.advance(3600)
    before = await dump(client._lifecycle.config)
    for identifier in (EMAIL, SLACK, first["muxi_user_id"]):
        assert await client.get_synopsis(identifier) == first
    assert await dump(client._lifecycle.config) == before


async def test_every_change_is_noticed(client: AsyncFormationClient, time: Time) -> None:
    await client.associate_user_identifiers([EMAIL, SLACK])
    memory = await client.add_memory(EMAIL, "My city is Rome", key="city", value="Rome")
    assert await text(client, SLACK) == "City: Rome."
    await client.add_memory(SLACK, "My city is Bonn", key="city", value="Bonn")
    assert await text(client, EMAIL) == "City: Bonn."
    await client.update_memory(memory["memory_id"], EMAIL, value="Oslo")
    assert await text(client, SLACK) == "City: Oslo."
    await client.set_preference(EMAIL, "tone", "brief")
    assert await text(client, SLACK) == "City: Oslo. Prefers: tone = brief."
    await client.chat("Forget my city", SLACK)
    assert await text(client, EMAIL) == "Prefers: tone = brief."
    await client.chat("My name is Al", SLACK)
    assert await text(client, EMAIL) == "Name: Al. Prefers: tone = brief."
    await client.delete_preference(SLACK, "tone")
    assert await text(client, EMAIL) == "Name: Al."
    (name,) = (await client.list_memories(EMAIL))["memories"]
    await client.delete_memory(name["memory_id"], EMAIL)
    assert await client.get_synopsis(EMAIL) == {
        "muxi_user_id": (await client.get_user(EMAIL))["muxi_user_id"],
        "text": "",
        "built_at": None,
    }
    assert await kept_texts(client) == {None}


async def test_merges_and_unmerges_are_noticed(client: AsyncFormationClient, time: Time) -> None:
    await client.add_memory(EMAIL, "My name is Alice", key="name", value="Alice")
    await client.add_memory(SLACK, "My city is Rome", key="city", value="Rome")
    alone = {who: await client.get_synopsis(who) for who in (EMAIL, SLACK)}
    assert [each["text"] for each in alone.values()] == ["Name: Alice.", "City: Rome."]
    await merged(client, EMAIL, SLACK)
    both = await client.get_synopsis(SLACK)
    assert both == await client.get_synopsis(EMAIL)
    assert both["text"] == "Name: Alice. City: Rome."
    assert both["muxi_user_id"] == (await client.get_user(EMAIL))["muxi_user_id"]
    await unmerge_all(client)
    for who, before in alone.items():
        again = await client.get_synopsis(who)
        assert (again["text"], again["muxi_user_id"]) == (before["text"], before["muxi_user_id"])


async def test_an_unlinked_identifier_and_a_deleted_person(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([EMAIL, SLACK])
    await client.add_memory(SLACK, "My city is Rome", key="city", value="Rome")
    assert await text(client, SLACK) == "City: Rome."
    await client.unlink_user_identifier(SLACK)
    assert await text(client, EMAIL) == "City: Rome."
    with pytest.raises(UserNotFoundError):
        await client.get_synopsis(SLACK)
    await client.delete_user(EMAIL)
    assert await kept_texts(client) == set()
    with pytest.raises(UserNotFoundError):
        await client.get_synopsis(EMAIL)


async def test_each_person_has_their_own(client: AsyncFormationClient) -> None:
    await client.add_memory(EMAIL, "My name is Alice", key="name", value="Alice")
    await client.add_memory(SLACK, "My name is Bob", key="name", value="Bob")
    assert await text(client, EMAIL) == "Name: Alice."
    assert await text(client, SLACK) == "Name: Bob."
    assert await kept_texts(client) == {"Name: Alice.", "Name: Bob."}


async def test_a_deletion_while_it_is_made_is_not_undone(client: AsyncFormationClient) -> None:
    """Read, then deleted by somebody, then kept: what was deleted must not come back, not even unread."""
    memory = await client.add_memory(EMAIL, "My city is Zanzibar", key="city", value="Zanzibar")
    await client.add_memory(SLACK, "My name is Al", key="name", value="Al")
    await merged(client, EMAIL, SLACK)
    formation = await client._lifecycle.formation()
    access, who = formation.memories._access, formation.parse(EMAIL)
    read: Kept = await access.read(who, read_kept)
    await client.delete_memory(memory["memory_id"], SLACK)
    await access.write(who, lambda tx, hit: keep(tx, hit, read, "City: Zanzibar."), Caller("test"))
    assert await kept_texts(client) == {None}
    assert await text(client, EMAIL) == "Name: Al."


@pytest.mark.parametrize("database_config", ["postgres"], indirect=True)  # SQLite has one writer at a time
async def test_taking_apart_waits_for_what_is_just_being_kept(database_config: FormationConfig, time: Time) -> None:
    """The root has no row of a synopsis yet: what is kept there meanwhile must not stay with one of the two."""
    async with client_of(database_config, time) as client, client_of(database_config, time) as other:
        await client.add_memory(SLACK, "My name is Al", key="name", value="Al")
        await client.create_user("usr_root")
        merge = await client.merge_users("usr_root", SLACK)
        formation = await client._lifecycle.formation()
        access, who = formation.memories._access, formation.parse(SLACK)
        read: Kept = await access.read(who, read_kept)
        kept, parted = asyncio.Event(), asyncio.Event()

        def work(tx: Any, hit: Any) -> None:
            keep(tx, hit, read, "Name: Al.")
            kept.set()
            await_only(parted.wait())

        keeping = asyncio.create_task(access.write(who, work, Caller("test")))
        await kept.wait()
        parting = asyncio.create_task(other.unmerge_users(merge["merge_id"]))
        waiting = text_of("SELECT count(*) FROM pg_locks WHERE NOT granted")
        async with asyncio.timeout(30):
            while not await formation.database.read(lambda connection: connection.execute(waiting).scalar()):
                assert not parting.done()
        parted.set()
        await asyncio.gather(keeping, parting)
        assert await kept_texts(client) == {None}
        await check_invariants(database_config, now=time.at)


async def test_many_at_once(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    await client.associate_user_identifiers([EMAIL, SLACK])
    async with client_of(database_config) as other:
        calls: list[Any] = []
        for number in range(10):
            calls += [
                client.add_memory(EMAIL, f"Number {number}", key=f"number {number}", value=str(number)),
                other.get_synopsis(SLACK),
                other.set_preference(SLACK, f"p{number}", number),
                client.get_synopsis(EMAIL),
            ]
        await asyncio.gather(*calls)
        final = await text(client, EMAIL)
        assert final == await text(other, SLACK)
        assert all(f"Number {number}: {number}." in final for number in range(10))
        assert "p0 = 0" in final
    await check_invariants(database_config)


class Writer:
    def __init__(self) -> None:
        self.asked: list[tuple[str, Sequence[Fact], Mapping[str, Any]]] = []
        self.fails = False
        self.text = " Written of: {} "
        self.meanwhile: Any = None

    async def write(self, draft: str, facts: Sequence[Fact], preferences: Mapping[str, Any]) -> str:
        self.asked.append((draft, facts, preferences))
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.fails:
            raise ModelUnavailableError("away")
        return self.text.format(draft)


async def test_a_writer_is_asked_once_and_what_it_writes_is_kept(client: AsyncFormationClient) -> None:
    formation = await client._lifecycle.formation()
    writer = Writer()
    formation.synopses = Synopses(formation.memories._access, writer)
    await client.resolve_user(EMAIL, create_user=True)
    assert await text(client, EMAIL) == ""
    assert writer.asked == []  # nothing is known: nothing to write
    await client.add_memory(EMAIL, "My name is Al", key="name", value="Al")
    await client.set_preference(EMAIL, "tone", "brief")
    for _ in range(2):
        assert await text(client, EMAIL) == "Written of: Name: Al. Prefers: tone = brief."
    assert writer.asked == [
        ("Name: Al. Prefers: tone = brief.", [Fact("name", "My name is Al", "Al")], {"tone": "brief"})
    ]


async def test_a_writer_that_fails_or_is_overtaken(client: AsyncFormationClient) -> None:
    formation = await client._lifecycle.formation()
    writer = Writer()
    formation.synopses = Synopses(formation.memories._access, writer)
    memory = await client.add_memory(EMAIL, "My name is Al", key="name", value="Al")
    writer.fails = True
    assert await text(client, EMAIL) == "Name: Al."
    assert await text(client, EMAIL) == "Name: Al."
    assert len(writer.asked) == 2
    assert await kept_texts(client) == {None}

    async def edit() -> None:
        await client.update_memory(memory["memory_id"], EMAIL, value="Bo")

    writer.fails, writer.meanwhile = False, edit
    assert await text(client, EMAIL) == "Written of: Name: Al."  # what was known when it was asked
    writer.meanwhile = None
    assert await kept_texts(client) == {None}
    assert await text(client, EMAIL) == "Written of: Name: Bo."
    await client.update_memory(memory["memory_id"], EMAIL, value="Cy")
    for writer.text in ("cannot be stored: \x00", "\ud800", " "):
        await client.update_memory(memory["memory_id"], EMAIL, shareable=True)
        assert await text(client, EMAIL) == "Name: Cy."

    async def leave() -> None:
        await client.delete_user(EMAIL)

    await client.set_preference(EMAIL, "tone", "brief")
    writer.meanwhile = leave
    with pytest.raises(UserNotFoundError):
        await client.get_synopsis(EMAIL)
    assert await kept_texts(client) == set()
