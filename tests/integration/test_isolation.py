"""Another formation sees nothing: two of them in one database, with the same people in both."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.errors import (
    IdentifierNotFoundError,
    InvalidRequestError,
    SessionNotFoundError,
    UserNotFoundError,
)
from tests.formations import Time, client_of, dump, rows_of

KEY = "key_7Hq2mZx9Lw4Tn8Rb5Vc1"
NAMES: list[Any] = ["alice@example.com", ("U1", "slack"), "U1", (KEY, "api_key"), KEY, ("77", "github"), "usr_alice"]


class Two(NamedTuple):
    """Two open formations that share one database, and the key too."""

    here: AsyncFormationClient
    there: AsyncFormationClient
    config_there: FormationConfig


@pytest.fixture
async def two(database_config: FormationConfig) -> AsyncIterator[Two]:
    other = dataclasses.replace(database_config, id=f"{database_config.id}-there")
    async with client_of(database_config, Time()) as here, client_of(other, Time()) as there:
        yield Two(here, there, other)


async def populate(client: AsyncFormationClient, budget: str) -> None:
    await client.create_user("usr_alice")
    await client.associate_user_identifiers(
        ["alice@example.com", ("U1", "slack"), (KEY, "api_key")], "usr_alice", idempotency_key="once"
    )
    await client.chat(f"My budget is {budget}", user_id="alice@example.com", session_id="s1")
    await client.chat("Hello!", user_id="visitor", session_id="s1")


async def answers(client: AsyncFormationClient) -> list[Any]:
    return [
        *[await client.find_user(name) for name in NAMES],
        await client.get_user_identifiers("usr_alice", detailed=True),
        await client.list_users(),
        await client.get_session_messages("s1", "alice@example.com"),
    ]


CHANGES: list[tuple[str, Callable[[AsyncFormationClient], Awaitable[Any]]]] = [
    ("resolve", lambda client: client.resolve_user("new", create_user=True)),
    ("create", lambda client: client.create_user("usr_bob")),
    ("link", lambda client: client.associate_user_identifiers([("77", "github")], "usr_alice")),
    ("link anew", lambda client: client.associate_user_identifiers(["x", "y"])),
    ("link, keyed", lambda client: client.associate_user_identifiers(["z"], idempotency_key="twice")),
    ("verify", lambda client: client.associate_user_identifiers(["alice@example.com"], verified=True)),
    ("absorb", lambda client: client.associate_user_identifiers(["visitor"], "usr_alice", on_conflict="absorb")),
    ("merge", lambda client: client.associate_user_identifiers(["x"], "usr_alice", on_conflict="merge")),
    ("chat", lambda client: client.chat("My budget is $1", user_id="alice@example.com", session_id="s1")),
    ("chat by public id", lambda client: client.chat("My budget is $2", user_id="usr_alice")),
    ("unlink", lambda client: client.unlink_user_identifier(("U1", "slack"))),
    ("revoke", lambda client: client.unlink_user_identifier((KEY, "api_key"))),
    ("delete", lambda client: client.delete_user("usr_alice", include_merged=True)),
]


async def test_what_changes_in_one_changes_nothing_in_the_other(two: Two, subtests: pytest.Subtests) -> None:
    await populate(two.here, "$5,000")
    await populate(two.there, "$9")
    tables, said = await dump(two.config_there), await answers(two.there)
    for name, change in CHANGES:
        with subtests.test(name):
            await change(two.here)
            assert await answers(two.there) == said
            assert await dump(two.config_there) == tables
    assert "$9" in (await two.there.chat("What's my budget?", user_id="alice@example.com")).text
    assert (await two.there.chat("Hi", user_id=KEY)).user_id == "usr_alice"


async def test_what_is_in_one_is_unknown_in_the_other(two: Two, subtests: pytest.Subtests) -> None:
    await populate(two.here, "$5,000")
    there = two.there
    for name in NAMES:
        with subtests.test(f"find {name}"):
            assert await there.find_user(name) is None
    unknown: list[tuple[str, Callable[[], Awaitable[Any]], type[Exception]]] = [
        ("resolve", lambda: there.resolve_user("alice@example.com"), UserNotFoundError),
        ("resolve a public id", lambda: there.resolve_user("usr_alice", create_user=True), UserNotFoundError),
        ("resolve a key", lambda: there.resolve_user((KEY, "api_key"), create_user=True), UserNotFoundError),
        ("get_user", lambda: there.get_user("usr_alice"), UserNotFoundError),
        ("get_user by identifier", lambda: there.get_user(("U1", "slack")), UserNotFoundError),
        ("get_user_identifiers", lambda: there.get_user_identifiers("alice@example.com"), UserNotFoundError),
        ("delete", lambda: there.delete_user("usr_alice"), UserNotFoundError),
        ("associate", lambda: there.associate_user_identifiers(["new"], "usr_alice"), UserNotFoundError),
        ("associate by identifier", lambda: there.associate_user_identifiers(["new"], "U1"), UserNotFoundError),
        ("unlink", lambda: there.unlink_user_identifier("alice@example.com"), IdentifierNotFoundError),
        ("chat", lambda: there.chat("Hi", user_id="usr_alice"), UserNotFoundError),
        ("chat by a key", lambda: there.chat("Hi", user_id=(KEY, "api_key")), UserNotFoundError),
        ("session", lambda: there.get_session_messages("s1", "alice@example.com"), UserNotFoundError),
    ]
    before = await dump(two.config_there)
    for name, call, kind in unknown:
        with subtests.test(name):
            with pytest.raises(kind):
                await call()
            assert await dump(two.config_there) == before
    assert (await there.list_users())["users"] == []


async def test_the_same_names_mean_other_people(two: Two) -> None:
    await populate(two.here, "$5,000")
    made = await two.there.resolve_user("alice@example.com", create_user=True)
    assert made["created"]
    assert made["muxi_user_id"] != "usr_alice"
    assert "$5,000" not in (await two.there.chat("What's my budget?", user_id="alice@example.com")).text
    with pytest.raises(SessionNotFoundError):
        await two.there.get_session_messages("s1", "alice@example.com")
    await two.there.create_user("usr_alice")
    linked = await two.there.associate_user_identifiers([("U1", "slack")], "usr_alice", idempotency_key="once")
    assert linked["new_identifiers"] == ["U1"]
    assert (await two.there.get_user("usr_alice"))["identifier_count"] == 1
    assert (await two.here.get_user("usr_alice"))["identifier_count"] == 3


async def test_a_page_of_one_is_no_way_into_the_other(two: Two) -> None:
    for _ in range(3):
        await two.here.create_user()
        await two.there.create_user()
    page = await two.here.list_users(limit=1)
    with pytest.raises(InvalidRequestError, match="cursor"):
        await two.there.list_users(cursor=page["next_cursor"])


async def test_equal_identifiers_have_nothing_in_common_in_the_database(
    two: Two, database_config: FormationConfig
) -> None:
    await populate(two.here, "$5,000")
    await populate(two.there, "$9")
    buckets = [
        {bytes(row["bucket"]) for row in rows_of(await dump(config), "muxi_identifiers")}
        for config in (database_config, two.config_there)
    ]
    assert len(buckets[0]) == len(buckets[1]) == 4
    assert buckets[0].isdisjoint(buckets[1])
