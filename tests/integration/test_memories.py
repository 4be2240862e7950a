"""Persistent memory: kept once, seen through every identifier, folded when read, edited for the whole person."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import event, update

from muxi_identity import AsyncFormationClient, FormationConfig
from muxi_identity.context.memories.rows import FACT, NewMemory, add_memories, forget_all, forget_keys, read_facts
from muxi_identity.errors import (
    InvalidRequestError,
    MemoryNotFoundError,
    SecretRefusedError,
    TooLargeError,
    UserNotFoundError,
)
from muxi_identity.identity.running import Caller
from muxi_identity.models import MemoryRecord
from muxi_identity.storage.tables import merges, users
from tests.formations import Time, client_of, dump, rows_of
from tests.invariants import check_invariants

EMAIL, SLACK, WEB = ("alice@example.com", "email"), ("U98765ABC", "slack"), ("user_123", "internal")
TOKEN = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hJ6"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def client(database_config: FormationConfig, time: Time) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(database_config, time) as client:
        yield client


async def merged(client: AsyncFormationClient, *identifiers: Any) -> None:
    await client.associate_user_identifiers(list(identifiers), on_conflict="merge")


async def unmerge_all(client: AsyncFormationClient) -> None:
    """Give every user back what is its own: merging is a pointer."""
    formation = await client._lifecycle.formation()

    def work(connection: Any) -> None:
        mine = users.c.formation_id == client.formation_id
        connection.execute(update(users).where(mine).values(parent_pk=None, root_pk=users.c.pk))
        connection.execute(
            update(merges).where(merges.c.formation_id == client.formation_id).values(undone_at=merges.c.merged_at)
        )

    await formation.database.transact(work)


async def contents(client: AsyncFormationClient, user_id: Any, **which: Any) -> list[str]:
    return [memory["content"] for memory in (await client.list_memories(user_id, **which))["memories"]]


# Adding


async def test_what_is_kept_is_read_again_through_every_identifier(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([EMAIL, SLACK, WEB])
    metadata = {"source": "form", "deep": [{"a": None, "b": 1.5}], "é": "ñ\u2028"}
    kept = await client.add_memory(
        EMAIL, " Budget of\n5k ", type=" Plan ", key=" BUDGET  Limit", value="5k ", metadata=metadata, shareable=True
    )
    assert kept == {
        "memory_id": kept["memory_id"],
        "type": "plan",
        "key": "budget limit",
        "content": " Budget of\n5k ",
        "value": "5k ",
        "metadata": metadata,
        "shareable": True,
        "created_at": kept["updated_at"],
        "updated_at": kept["updated_at"],
        "score": None,
    }
    for identifier in (EMAIL, SLACK, WEB):
        assert await client.get_memory(kept["memory_id"], identifier) == kept
        assert (await client.list_memories(identifier))["memories"] == [kept]
        (hit,) = await client.search_memories(identifier, "budget")
        assert {**hit, "score": None} == kept
        assert hit["score"] == pytest.approx(1.0)


async def test_the_same_again_is_refreshed_and_keeps_its_id(client: AsyncFormationClient, time: Time) -> None:
    first = await client.add_memory(EMAIL, "Likes tea")
    other = await client.add_memory(EMAIL, "Likes coffee")
    time.advance(60)
    again = await client.add_memory(EMAIL, "  LIKES   tea ", metadata={"n": 1})
    assert again["memory_id"] == first["memory_id"]
    assert again["created_at"] == first["created_at"]
    assert again["updated_at"] > other["updated_at"]
    assert await contents(client, EMAIL) == ["  LIKES   tea ", "Likes coffee"]
    # A type of its own is something else, and a key is what it is about whatever is said.
    assert (await client.add_memory(EMAIL, "Likes tea", type="taste"))["memory_id"] != first["memory_id"]
    one = await client.add_memory(EMAIL, "Drinks tea", key="drink", value="tea")
    two = await client.add_memory(EMAIL, "Drinks gin", key="Drink", value="gin")
    assert two["memory_id"] == one["memory_id"]
    assert (await client.get_memory(one["memory_id"], EMAIL))["value"] == "gin"


async def test_adding_makes_first_contact_and_reading_does_not(client: AsyncFormationClient) -> None:
    reads: list[Any] = [
        client.list_memories("stranger_1"),
        client.search_memories("stranger_1", "x"),
        client.get_memory("mem_x", "stranger_1"),
        client.update_memory("mem_x", "stranger_1", content="x"),
        client.delete_memory("mem_x", "stranger_1"),
        client.get_synopsis("stranger_1"),
    ]
    for read in reads:
        with pytest.raises(UserNotFoundError):
            await read
    for unknown in ("usr_nobody", ("k" * 40, "api_key")):
        with pytest.raises(UserNotFoundError):
            await client.add_memory(unknown, "x")
    assert (await client.list_users())["count"] == 0
    await client.add_memory("stranger_2", "x")
    assert (await client.list_users())["count"] == 1


BAD_MEMORIES: list[tuple[type[Exception], dict[str, Any]]] = [
    (InvalidRequestError, {"content": ""}),
    (InvalidRequestError, {"content": " \n"}),
    (InvalidRequestError, {"content": None}),
    (InvalidRequestError, {"content": 5}),
    (InvalidRequestError, {"content": "a\x00b"}),
    (InvalidRequestError, {"content": "a\ud800b"}),
    (TooLargeError, {"content": "x" * 10_001}),
    (InvalidRequestError, {"type": ""}),
    (InvalidRequestError, {"type": None}),
    (InvalidRequestError, {"type": "a\tb\x07"}),
    (TooLargeError, {"type": "t" * 65}),
    (InvalidRequestError, {"type": "\ufdfa" * 10}),
    (InvalidRequestError, {"key": " "}),
    (InvalidRequestError, {"key": "#5f2a"}),
    (InvalidRequestError, {"key": "a\u202eb"}),
    (TooLargeError, {"key": "k" * 129}),
    (InvalidRequestError, {"value": "without a key"}),
    (InvalidRequestError, {"key": "k", "value": ""}),
    (TooLargeError, {"key": "k", "value": "v" * 1_001}),
    (InvalidRequestError, {"metadata": []}),
    (InvalidRequestError, {"metadata": {1: 2}}),
    (InvalidRequestError, {"metadata": {"a": float("nan")}}),
    (InvalidRequestError, {"metadata": {"a": object()}}),
    (InvalidRequestError, {"metadata": {"a": "\ud800"}}),
    (TooLargeError, {"metadata": {"a": "x" * 8_000}}),
    (InvalidRequestError, {"shareable": "false"}),
    (InvalidRequestError, {"shareable": 1}),
    (SecretRefusedError, {"content": f"My token is {TOKEN}"}),
    (SecretRefusedError, {"key": "token", "value": TOKEN}),
    (SecretRefusedError, {"metadata": {"notes": [{"text": TOKEN}]}}),
    (SecretRefusedError, {"metadata": {TOKEN: 1}}),
]


async def test_what_cannot_be_kept_is_refused_before_anything_is_written(
    client: AsyncFormationClient, subtests: pytest.Subtests
) -> None:
    kept = await client.add_memory(EMAIL, "Likes tea", key="drink")
    before = await dump(client._lifecycle.config)
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"d": deep}
    for number, (error, wrong) in enumerate([*BAD_MEMORIES, (TooLargeError, {"metadata": deep})]):
        with subtests.test(f"add {number}"), pytest.raises(error) as raised:
            await client.add_memory("new@example.com", **{"content": "Likes tea", **wrong})
        with subtests.test(f"message {number}"):
            assert TOKEN not in str(raised.value)
        if "key" in wrong or ("value" in wrong) or wrong.get("metadata", ...) is None:
            continue
        with subtests.test(f"update {number}"), pytest.raises(error):
            await client.update_memory(kept["memory_id"], EMAIL, **wrong)
    assert await dump(client._lifecycle.config) == before


async def test_the_largest_that_fits(client: AsyncFormationClient) -> None:
    kept = await client.add_memory(
        EMAIL,
        "\u4e2d" * 10_000,
        type="t" * 64,
        key="\U0001f642" * 128,
        value="v" * 1_000,
        metadata={"a": "x" * 7_980},
    )
    assert await client.get_memory(kept["memory_id"], EMAIL) == kept
    assert (await client.search_memories(EMAIL, "\u4e2d"))[0]["memory_id"] == kept["memory_id"]


# Listing


async def test_pages_neither_repeat_nor_skip(client: AsyncFormationClient, time: Time) -> None:
    """Over two members, with folds across pages, ties in time, and additions and deletions between the pages."""
    formation = await client._lifecycle.formation()
    for identifier, offset in ((EMAIL, 0), (SLACK, 20)):
        # A transaction's rows all have one time.
        for base in range(offset, offset + 40, 8):
            new = [NewMemory(f"{identifier[1]} {n}", "note", f"key {n}") for n in range(base, base + 8)]
            await formation.memories._access.write(
                formation.parse(identifier),
                lambda tx, hit, new=new: add_memories(tx, hit, new),  # type: ignore[misc]
                Caller("test"),
            )
    await merged(client, EMAIL, SLACK)
    whole = await client.list_memories(EMAIL, limit=500)
    assert whole["count"] == 60  # 20 to 39 were said on both sides
    shown = {memory["key"]: memory["content"] for memory in whole["memories"]}
    assert shown == {f"key {n}": f"{'email' if n < 20 else 'slack'} {n}" for n in range(60)}
    for limit in (1, 7, 59, 60, 61):
        pages = [page async for page in _pages(client, SLACK, limit)]
        assert [memory for page in pages for memory in page] == whole["memories"]
        assert all(len(page) == limit for page in pages[:-1])

    seen: list[MemoryRecord] = []
    async for page in _pages(client, EMAIL, 10):
        seen += page
        await client.add_memory(SLACK, f"new after {len(seen)}")
        await client.delete_memory(page[-1]["memory_id"], EMAIL)  # the one that the cursor stands on
        if len(seen) == 10:
            await client.delete_memory(whole["memories"][30]["memory_id"], EMAIL)
    assert seen == [memory for memory in whole["memories"] if memory != whole["memories"][30]]


async def _pages(client: AsyncFormationClient, who: Any, limit: int) -> AsyncIterator[list[MemoryRecord]]:
    page = await client.list_memories(who, limit=limit)
    yield page["memories"]
    while page["next_cursor"] is not None:
        page = await client.list_memories(who, limit=limit, cursor=page["next_cursor"])
        yield page["memories"]


async def test_lists_by_type_and_bad_arguments(client: AsyncFormationClient) -> None:
    await client.add_memory(EMAIL, "a note")
    await client.add_memory(EMAIL, "a plan", type="Plan")
    assert await contents(client, EMAIL, type=" PLAN ") == ["a plan"]
    assert await contents(client, EMAIL, type="p%") == []
    users = (await client.list_users(limit=1))["next_cursor"]
    assert users is None
    await client.add_memory(SLACK, "other")
    foreign = (await client.list_users(limit=1))["next_cursor"]
    bad: list[dict[str, Any]] = [
        {"limit": 0},
        {"limit": 501},
        {"limit": True},
        {"limit": "5"},
        {"cursor": "x"},
        {"cursor": foreign},
        {"cursor": 5},
        {"type": ""},
        {"type": 5},
        {"type": "t" * 100},
    ]
    for wrong in bad:
        with pytest.raises(InvalidRequestError):
            await client.list_memories(EMAIL, **wrong)


async def test_no_internal_key_is_shown(client: AsyncFormationClient) -> None:
    kept = [await client.add_memory(EMAIL, f"memory {n}") for n in range(3)]
    page = await client.list_memories(EMAIL, limit=2)
    keys = {row["pk"] for row in rows_of(await dump(client._lifecycle.config), "muxi_memories")}
    assert len(keys) == 3
    shown = repr([kept, page, await client.search_memories(EMAIL, "memory"), await client.get_synopsis(EMAIL)])
    assert "'pk'" not in shown
    assert "#" not in shown


# Folding


async def test_after_a_merge_the_newest_of_a_key_wins_and_an_unmerge_gives_each_its_own(
    client: AsyncFormationClient,
) -> None:
    old = await client.add_memory(SLACK, "Budget 1", key="budget", value="1")
    new = await client.add_memory(EMAIL, "Budget 2", key="budget", value="2")
    await client.add_memory(SLACK, "Only in Slack")
    await merged(client, EMAIL, SLACK)
    for identifier in (EMAIL, SLACK):
        assert await contents(client, identifier) == ["Only in Slack", "Budget 2"]
        # The id of what is superseded answers with what counts now.
        assert await client.get_memory(old["memory_id"], identifier) == new
        assert await client.get_memory(new["memory_id"], identifier) == new
    said = await client.add_memory(SLACK, "Budget 3", key="budget", value="3")
    assert said["memory_id"] == old["memory_id"]
    assert await contents(client, EMAIL) == ["Budget 3", "Only in Slack"]
    assert (await client.get_memory(new["memory_id"], EMAIL))["value"] == "3"
    await unmerge_all(client)
    assert await contents(client, EMAIL) == ["Budget 2"]
    assert await contents(client, SLACK) == ["Budget 3", "Only in Slack"]
    with pytest.raises(MemoryNotFoundError):
        await client.get_memory(new["memory_id"], SLACK)


async def test_two_identifiers_of_one_user_each_keep_their_own_row(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([EMAIL, SLACK], user_id=None)
    one = await client.add_memory(EMAIL, "Budget 1", key="budget")
    two = await client.add_memory(SLACK, "Budget 2", key="budget")
    user_id = (await client.get_user(EMAIL))["muxi_user_id"]
    three = await client.add_memory(user_id, "Budget 3", key="budget")
    assert len({each["memory_id"] for each in (one, two, three)}) == 3
    assert await contents(client, EMAIL) == ["Budget 3"]
    rows = rows_of(await dump(client._lifecycle.config), "muxi_memories")
    assert {row["content"]: row["identifier_pk"] is None for row in rows} == {
        "Budget 1": False,
        "Budget 2": False,
        "Budget 3": True,
    }


async def test_an_unlinked_identifier_leaves_what_it_said(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([EMAIL, SLACK])
    await client.add_memory(SLACK, "Said in Slack")
    await client.unlink_user_identifier(SLACK)
    assert await contents(client, EMAIL) == ["Said in Slack"]
    await client.add_memory(SLACK, "Somebody new")
    assert await contents(client, SLACK) == ["Somebody new"]
    assert await contents(client, EMAIL) == ["Said in Slack"]


# Editing


async def test_an_edit_counts_for_the_whole_person_and_survives_an_unmerge(
    client: AsyncFormationClient, time: Time
) -> None:
    old = await client.add_memory(SLACK, "Budget 1", key="budget", value="1", metadata={"a": 1})
    new = await client.add_memory(EMAIL, "Budget 2", key="budget", value="2")
    await client.add_memory(SLACK, "Other")
    await merged(client, EMAIL, SLACK)
    time.advance(60)
    for asked in (old["memory_id"], new["memory_id"]):
        edited = await client.update_memory(asked, SLACK, content=f"Budget by {asked}", shareable=True)
        assert edited["memory_id"] == new["memory_id"]  # the one that stood goes on standing
        assert (edited["value"], edited["metadata"], edited["shareable"]) == ("2", {}, True)
        assert edited["created_at"] == new["created_at"]
        assert edited["updated_at"] > new["updated_at"]
        assert await contents(client, EMAIL) == [f"Budget by {asked}", "Other"]
    await unmerge_all(client)
    for identifier in (EMAIL, SLACK):
        assert (await contents(client, identifier))[0] == f"Budget by {new['memory_id']}"
        assert await client.search_memories(identifier, "1") == []
        assert len(await client.search_memories(identifier, "budget")) == 1


async def test_what_is_left_out_of_an_edit_stays(client: AsyncFormationClient) -> None:
    kept = await client.add_memory(EMAIL, "c", type="t", key="k", value="v", metadata={"a": 1}, shareable=True)
    changes: list[dict[str, Any]] = [
        {"content": "c2"},
        {"value": None},
        {"value": "v2"},
        {"metadata": {"b": 2}},
        {"metadata": None},
        {"shareable": False},
        {"type": "T2"},
    ]
    expected: dict[str, Any] = dict(kept)
    for change in changes:
        expected |= change
        expected |= {"type": expected["type"].lower(), "metadata": expected["metadata"] or {}}
        edited = await client.update_memory(kept["memory_id"], EMAIL, **change)
        assert {**edited, "updated_at": ""} == {**expected, "updated_at": ""}
        assert await client.get_memory(kept["memory_id"], EMAIL) == edited
    with pytest.raises(InvalidRequestError):
        await client.update_memory(kept["memory_id"], EMAIL)
    note = await client.add_memory(EMAIL, "about nothing")
    with pytest.raises(InvalidRequestError, match="key"):
        await client.update_memory(note["memory_id"], EMAIL, value="v")
    with pytest.raises(InvalidRequestError):
        await client.update_memory(note["memory_id"], EMAIL, content=None)  # type: ignore[arg-type]


async def test_an_edit_of_a_note_into_one_that_is_there_leaves_one(client: AsyncFormationClient) -> None:
    """The content is the key: over two identifiers, of which one has both and the other only the one edited."""
    await client.associate_user_identifiers([EMAIL, SLACK])
    tea = await client.add_memory(EMAIL, "Likes tea")
    gin = await client.add_memory(EMAIL, "Likes gin")
    await client.add_memory(SLACK, "likes GIN")
    edited = await client.update_memory(gin["memory_id"], EMAIL, content="likes  TEA")
    assert edited["memory_id"] != tea["memory_id"]
    assert await contents(client, EMAIL) == ["likes  TEA"]
    assert [hit["content"] for hit in await client.search_memories(SLACK, "tea gin")] == ["likes  TEA"]
    rows = rows_of(await dump(client._lifecycle.config), "muxi_memories")
    assert [row["content"] for row in rows] == ["likes  TEA", "likes  TEA"]
    # A change of case alone changes the words and not the key.
    again = await client.update_memory(edited["memory_id"], EMAIL, content="Likes Tea")
    assert await contents(client, SLACK) == ["Likes Tea"]
    moved = await client.update_memory(again["memory_id"], EMAIL, type="taste")
    assert (moved["memory_id"], moved["type"]) == (again["memory_id"], "taste")
    await client.add_memory(SLACK, "likes tea")
    assert await contents(client, SLACK) == ["likes tea", "Likes Tea"]  # of different types


async def test_deleting_takes_what_the_other_identifiers_said_of_it(client: AsyncFormationClient) -> None:
    old = await client.add_memory(SLACK, "Budget 1", key="budget")
    await client.add_memory(EMAIL, "Budget 2", key="budget")
    await client.add_memory(WEB, "Budget 3", key="budget")
    await merged(client, EMAIL, SLACK)
    assert await client.delete_memory(old["memory_id"], EMAIL) == {"deleted": True, "memory_id": old["memory_id"]}
    await unmerge_all(client)
    assert await contents(client, EMAIL) == await contents(client, SLACK) == []
    assert await contents(client, WEB) == ["Budget 3"]
    for call in (client.get_memory, client.delete_memory):
        with pytest.raises(MemoryNotFoundError):
            await call(old["memory_id"], EMAIL)
    with pytest.raises(MemoryNotFoundError):
        await client.update_memory(old["memory_id"], EMAIL, content="x")


async def test_nobody_elses_memory_is_reached(
    client: AsyncFormationClient, database_config: FormationConfig, subtests: pytest.Subtests
) -> None:
    kept = await client.add_memory(EMAIL, "Alice's own")
    await client.add_memory(SLACK, "Bob's own")
    elsewhere = client_of(dataclasses.replace(database_config, id=f"{database_config.id}-2"))
    async with elsewhere:
        await elsewhere.add_memory(EMAIL, "Alice elsewhere")
        bad: list[Any] = [kept["memory_id"], "", "%", "mem_", "mem_%", "\x00", "\ud800", None, 5, "x" * 10_000]
        for who, ids in ((SLACK, bad), (EMAIL, bad[1:])):
            for memory_id in ids:
                with subtests.test(f"{who} {memory_id!r:.20}"):
                    for call in (client.get_memory, client.delete_memory):
                        with pytest.raises(MemoryNotFoundError):
                            await call(memory_id, who)
                    with pytest.raises(MemoryNotFoundError):
                        await client.update_memory(memory_id, who, content="mine now")
        with pytest.raises(MemoryNotFoundError):
            await elsewhere.delete_memory(kept["memory_id"], EMAIL)
        assert await contents(elsewhere, EMAIL) == ["Alice elsewhere"]
        assert [hit["content"] for hit in await elsewhere.search_memories(EMAIL, "alice bob")] == ["Alice elsewhere"]
    assert await contents(client, EMAIL) == ["Alice's own"]


async def test_a_deleted_person_leaves_no_memory(client: AsyncFormationClient) -> None:
    await client.add_memory(EMAIL, "Likes zanzibar")
    await client.add_memory(SLACK, "Likes zanzibar")
    await merged(client, EMAIL, SLACK)
    await client.get_synopsis(EMAIL)
    await client.delete_user(EMAIL, include_merged=True)
    found = await dump(client._lifecycle.config)
    assert found["muxi_memories"] == found["muxi_synopses"] == []


# Inside a chat turn


async def test_facts_are_forgotten_by_key_whatever_their_type(client: AsyncFormationClient) -> None:
    formation = await client._lifecycle.formation()
    access = formation.memories._access
    who = formation.parse(EMAIL)
    await client.add_memory(EMAIL, "Budget 1", key="budget", value="1")
    await client.add_memory(EMAIL, "A note on the budget", key="budget")
    await client.add_memory(EMAIL, "City", type="fact", key="city", value="Rome")
    # The second took the place of the first, of one type and key; it has no value, and so is no fact.
    assert [fact.key for fact in await access.read(who, read_facts)] == ["city"]
    keys = [(FACT, "budget"), ("note", "nothing")]
    assert await access.write(who, lambda tx, hit: forget_keys(tx, hit, keys), Caller("test")) == 0
    await client.add_memory(EMAIL, "Budget 1", key="budget", value="1")
    await client.add_memory(EMAIL, "Budget 2", type="plan", key="budget", value="2")
    facts = await access.read(who, read_facts)
    assert [(fact.key, fact.value) for fact in facts] == [("budget", "2"), ("city", "Rome")]
    assert await access.write(who, lambda tx, hit: forget_keys(tx, hit, keys), Caller("test")) == 2
    assert await contents(client, EMAIL) == ["City"]
    assert await access.write(who, lambda tx, hit: forget_keys(tx, hit, []), Caller("test")) == 0
    assert await access.write(who, forget_all, Caller("test")) == 1
    assert await contents(client, EMAIL) == []


async def test_many_at_once_take_as_many_statements_as_one_and_answer_in_order(client: AsyncFormationClient) -> None:
    formation = await client._lifecycle.formation()
    who = formation.parse(EMAIL)
    await client.add_memory(EMAIL, "first")
    sent: list[str] = []

    def work(tx: Any, hit: Any) -> list[str]:
        event.listen(tx.connection, "before_cursor_execute", lambda *args: sent.append(args[2].split()[0]))
        return add_memories(tx, hit, [*(NewMemory(f"c{n}") for n in range(50)), NewMemory("C1"), NewMemory("c0")])

    ids = await formation.memories._access.write(who, work, Caller("test"))
    assert ids[50] == ids[1]
    assert ids[51] == ids[0]
    assert len(set(ids)) == 50
    assert sent[-1] == "INSERT"
    assert len(sent) <= 4, sent
    listed = await client.list_memories(EMAIL, limit=500)
    assert {memory["memory_id"] for memory in listed["memories"]} > set(ids)
    assert "C1" in await contents(client, EMAIL)
    assert "c1" not in await contents(client, EMAIL)


# At once


async def test_the_same_from_everywhere_at_once_is_one_row_for_each_identifier(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.associate_user_identifiers([EMAIL, SLACK])
    async with client_of(database_config) as other:
        calls = [
            each.add_memory(identifier, f"Budget {n}", key=f"budget {n % 3}")
            for n in range(12)
            for each in (client, other)
            for identifier in (EMAIL, SLACK)
        ]
        kept = await asyncio.gather(*calls)
        assert len({memory["memory_id"] for memory in kept}) == 6
        assert (await client.list_memories(EMAIL))["count"] == 3
        # Edits, deletes and additions of the same: whatever comes first, nobody waits for ever and nothing is twice.
        (named, *_) = (await client.list_memories(EMAIL))["memories"]
        mixed: list[Any] = []
        for n in range(8):
            mixed += [
                client.update_memory(named["memory_id"], EMAIL, content=f"Edited {n}"),
                other.add_memory(SLACK, f"Again {n}", key=named["key"]),
                other.update_memory(named["memory_id"], SLACK, type=f"t{n % 2}"),
                client.delete_memory(named["memory_id"], SLACK),
                other.add_memory(EMAIL, f"Again {n}", key=named["key"]),
            ]
        results = await asyncio.gather(*mixed, return_exceptions=True)
        failed = [each for each in results if isinstance(each, BaseException)]
        assert all(isinstance(each, MemoryNotFoundError) for each in failed), failed
    tables = await check_invariants(database_config)
    keys = [(row["user_pk"], row["identifier_pk"], row["type"], row["key"]) for row in tables["memories"]]
    assert len(keys) == len(set(keys))


async def test_what_is_said_last_counts_though_the_clock_went_back(database_config: FormationConfig) -> None:
    time = Time()
    client = client_of(database_config, time)
    await client.associate_user_identifiers(["web", ("U1", "slack")])
    await client.add_memory("web", "My budget is $5", key="budget", value="$5")
    time.advance(-3600)
    for who, value in (("web", "$6"), (("U1", "slack"), "$7"), ("web", "$8")):
        await client.add_memory(who, f"My budget is {value}", key="budget", value=value)
        (known,) = (await client.list_memories("web"))["memories"]
        assert known["value"] == value
    await client.close()
