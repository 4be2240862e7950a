"""Working memory: short items, shared at once, bounded, expiring, and never a secret."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

from muxi_identity import AsyncFormationClient, FormationConfig
from muxi_identity.config import WorkingConfig
from muxi_identity.errors import InvalidRequestError, SecretRefusedError, TooLargeError, UserNotFoundError
from tests.formations import Time, client_of, dump, rows_of
from tests.invariants import check_invariants

EMAIL, SLACK = "alice@email.com", ("U98765ABC", "slack")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def client(database_config: FormationConfig, time: Time) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(database_config, time) as client:
        await client.create_user("usr_alice")
        await client.associate_user_identifiers([EMAIL, SLACK], "usr_alice")
        yield client


async def lately(client: AsyncFormationClient, who: Any, **arguments: Any) -> list[str]:
    return [item["content"] for item in await client.get_working_memory(who, **arguments)]


async def test_it_is_shared_at_once_and_newest_first(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    await client.add_working_memory(EMAIL, "packing for Lisbon")
    await client.add_working_memory(SLACK, "asked about refunds", kind="topic", shareable=True)
    await client.add_working_memory("usr_alice", "spoke of a trip", kind="summary")
    async with client_of(database_config, time) as other:
        for who in (EMAIL, SLACK, "usr_alice"):
            expected = ["spoke of a trip", "asked about refunds", "packing for Lisbon"]
            assert await lately(client, who) == await lately(other, who) == expected
    assert await lately(client, EMAIL, limit=1) == ["spoke of a trip"]
    (item,) = [item for item in await client.get_working_memory(EMAIL) if item["kind"] == "topic"]
    assert item["shareable"]
    assert set(item) == {"kind", "content", "shareable", "created_at", "expires_at"}


async def test_the_same_again_is_kept_once_and_lasts_anew(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    first = await client.add_working_memory(EMAIL, "packing", ttl=100, shareable=True)
    await client.add_working_memory(EMAIL, "packing", kind="topic", ttl=100)
    time.advance(60)
    again = await client.add_working_memory(EMAIL, "  packing\n ", ttl=100)
    assert again["expires_at"] > first["expires_at"]
    await client.add_working_memory(SLACK, "packing", ttl=200, shareable=True)  # another channel's own row
    assert len(rows_of(await dump(database_config), "muxi_working_memory")) == 3
    found = await client.get_working_memory(EMAIL)
    assert [(item["kind"], item["shareable"]) for item in found] == [("fact", True), ("topic", False)]
    time.advance(150)  # the newest of equal ones has expired with the others, Slack's has not
    assert await lately(client, EMAIL) == ["packing"]


async def test_expired_items_are_not_read_and_go_with_the_next_write(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    await client.add_working_memory(EMAIL, "for a second", ttl=1)
    await client.add_working_memory(EMAIL, "for a day")
    time.advance(1)
    assert await lately(client, EMAIL) == ["for a day"]
    assert (await client.get_user_context(SLACK))["working_memory"][0]["content"] == "for a day"
    time.advance(86_400)
    assert await lately(client, EMAIL) == []
    assert len(rows_of(await dump(database_config), "muxi_working_memory")) == 2
    await client.add_working_memory(SLACK, "now")
    assert [row["content"] for row in rows_of(await dump(database_config), "muxi_working_memory")] == ["now"]


async def test_it_is_bounded(database_config: FormationConfig) -> None:
    config = dataclasses.replace(database_config, working=WorkingConfig(ttl=3600, max_items=5))
    async with client_of(config, Time()) as client:
        await client.associate_user_identifiers([EMAIL, SLACK])
        for number in range(9):
            await client.add_working_memory((EMAIL, SLACK)[number % 2], f"item {number}")
        newest = [f"item {number}" for number in (8, 7, 6, 5, 4)]
        assert await lately(client, EMAIL, limit=500) == newest
        assert len(rows_of(await dump(config), "muxi_working_memory")) == 5
        # Another member brings its own, and what is read is bounded again.
        await client.record_turn("bob", [], topics=[f"bob {number}" for number in range(5)])
        await client.associate_user_identifiers([EMAIL, "bob"], on_conflict="merge")
        assert sorted(await lately(client, EMAIL, limit=500)) == [f"bob {number}" for number in range(5)]
        assert len((await client.get_user_context(EMAIL))["working_memory"]) == 5
        assert len(rows_of(await dump(config), "muxi_working_memory")) == 10


async def test_many_at_once(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    texts = [f"item {number}" for number in range(10)]
    turns = [client.record_turn(EMAIL, [], topics=texts[::step], session_id="s") for step in (1, -1, 1, -1, 1, -1)]
    await asyncio.gather(*turns, *(client.add_working_memory(EMAIL, text, kind="topic") for text in texts))
    assert sorted(await lately(client, SLACK)) == sorted(texts)
    await check_invariants(database_config)


async def test_clearing_is_for_the_whole_person(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    await client.add_working_memory(EMAIL, "one")
    await client.add_working_memory("bob", "two")
    await client.add_working_memory("mallory", "three")
    await client.associate_user_identifiers(["bob"], "usr_alice", on_conflict="merge")
    assert await client.clear_working_memory(SLACK) == {"items_cleared": 2}
    assert await client.clear_working_memory(SLACK) == {"items_cleared": 0}
    assert await lately(client, "bob") == []
    assert await lately(client, "mallory") == ["three"]
    if database_config.database.path is not None:
        log = database_config.database.path.with_name(database_config.database.path.name + "-wal")
        assert b"two" not in database_config.database.path.read_bytes() + log.read_bytes()


async def test_what_is_refused(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    before = await dump(database_config)
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    with pytest.raises(SecretRefusedError) as raised:
        await client.add_working_memory(EMAIL, f"my token is {token}")
    assert token not in str(raised.value)
    with pytest.raises(TooLargeError) as too_large:
        await client.add_working_memory(EMAIL, "x" * 301)
    assert too_large.value.limit == 300
    wrong: list[tuple[Any, dict[str, Any]]] = [
        (None, {}),
        (" ", {}),
        ("nul \x00", {}),
        ("half \ud800", {}),
        ("x", {"kind": "message"}),
        ("x", {"kind": None}),
        ("x", {"shareable": 1}),
        *(("x", {"ttl": ttl}) for ttl in (0, -1, True, "60", float("nan"), float("inf"), 30 * 86_400 + 1, 10**400)),
    ]
    for content, arguments in wrong:
        with pytest.raises(InvalidRequestError):
            await client.add_working_memory(EMAIL, content, **arguments)
    for limit in (0, 501, True, "5", None):
        with pytest.raises(InvalidRequestError):
            await client.get_working_memory(EMAIL, limit=limit)  # type: ignore[arg-type]
    with pytest.raises(UserNotFoundError):
        await client.get_working_memory("stranger")
    with pytest.raises(UserNotFoundError):
        await client.clear_working_memory("stranger")
    assert await dump(database_config) == before


async def test_the_longest_item_in_any_script(client: AsyncFormationClient) -> None:
    longest = "\U0001f600" * 300  # 1,200 bytes, and part of an index
    await client.add_working_memory(EMAIL, longest)
    await client.add_working_memory(EMAIL, longest)
    assert await lately(client, SLACK) == [longest]
