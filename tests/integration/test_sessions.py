"""Sessions: whose they are, which one goes on, what they hold, and that what is private never shows in public."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.event import listen, remove

from muxi_identity import AsyncFormationClient, FormationConfig
from muxi_identity.config import SessionConfig
from muxi_identity.context.parts import Shape, gathering
from muxi_identity.context.sessions.rows import current_session
from muxi_identity.errors import (
    AudienceMismatchError,
    InvalidRequestError,
    SecretRefusedError,
    SessionNotFoundError,
    TooLargeError,
    UserNotFoundError,
)
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.running import Caller
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import sessions
from tests.formations import Time, client_of, dump, rows_of
from tests.invariants import check_invariants

EMAIL, SLACK, WEB = "alice@email.com", ("U98765ABC", "slack"), ("user_123", "internal")
ALICE: list[Any] = [EMAIL, SLACK, WEB]
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


def said(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]


async def texts(client: AsyncFormationClient, session_id: str, who: Any, **page: Any) -> list[str]:
    return [each["content"] for each in (await client.get_session_messages(session_id, who, **page))["messages"]]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def client(database_config: FormationConfig, time: Time) -> AsyncIterator[AsyncFormationClient]:
    """Alice, with three identifiers."""
    async with client_of(database_config, time) as client:
        await client.create_user("usr_alice")
        await client.associate_user_identifiers(ALICE, "usr_alice")
        yield client


# Whose it is


async def test_a_session_id_is_another_session_for_each_identifier(client: AsyncFormationClient) -> None:
    for number, who in enumerate([*ALICE, "usr_alice"]):
        await client.record_turn(who, said(f"from {number}"), session_id="thread")
        await client.set_session_context("thread", who, {"from": number})
    for number, who in enumerate([*ALICE, "usr_alice"]):  # by public id, its own wins
        assert await texts(client, "thread", who) == [f"from {number}"]
        assert (await client.get_session("thread", who))["context"] == {"from": number}
    assert await client.clear_session("thread", SLACK) == {"messages_cleared": 1, "sessions_cleared": 1}
    assert await texts(client, "thread", SLACK) == []
    assert [await texts(client, "thread", who) for who in (EMAIL, WEB)] == [["from 0"], ["from 2"]]


async def test_by_public_id_the_whole_person_is_read(client: AsyncFormationClient) -> None:
    await client.record_turn(EMAIL, said("by mail"), session_id="mail")
    await client.record_turn(SLACK, said("in Slack"), session_id="both")
    await client.record_turn(WEB, said("on the web"), session_id="both")
    page = await client.list_sessions("usr_alice")
    assert [(each["session_id"], each["channel"]) for each in page["sessions"]] == [
        ("both", "internal"),
        ("both", "slack"),
        ("mail", "email"),
    ]
    assert await texts(client, "mail", "usr_alice") == ["by mail"]
    for call in (client.get_session, client.get_session_messages, client.clear_session):
        with pytest.raises(InvalidRequestError, match="name the identifier"):
            await call("both", "usr_alice")
    # What is written goes to the public id's own, which is what it reads from then on.
    await client.restore_session("both", "usr_alice", said("by id"))
    assert await texts(client, "both", "usr_alice") == ["by id"]
    assert await texts(client, "both", SLACK) == ["in Slack"]
    assert await client.clear_sessions(SLACK) == {"messages_cleared": 1, "sessions_cleared": 1}
    assert await client.clear_sessions("usr_alice") == {"messages_cleared": 3, "sessions_cleared": 4}
    assert [each["message_count"] for each in (await client.list_sessions("usr_alice"))["sessions"]] == [0] * 4


async def test_nobody_elses_is_seen(client: AsyncFormationClient) -> None:
    await client.record_turn(EMAIL, said("a secret plan"), session_id="thread")
    await client.record_turn("mallory@email.com", said("hello"), session_id="other")
    for who in ("mallory@email.com", SLACK):
        for call in (client.get_session, client.get_session_messages, client.clear_session):
            with pytest.raises(SessionNotFoundError):
                await call("thread", who)
    assert [each["session_id"] for each in (await client.list_sessions("mallory@email.com"))["sessions"]] == ["other"]
    assert (await client.clear_sessions("mallory@email.com"))["messages_cleared"] == 1
    assert await texts(client, "thread", EMAIL) == ["a secret plan"]


async def test_reads_and_clears_make_nobody(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    before = await dump(database_config)
    for call in (
        client.list_sessions("stranger"),
        client.get_session("s", "stranger"),
        client.get_session_messages("s", "stranger"),
        client.clear_session("s", "stranger"),
        client.clear_sessions("stranger"),
        client.restore_session("s", "usr_nobody", said("hi")),
        client.set_session_context("s", ("key_7Hq2mZx9Lw4Tn8Rb5Vc1", "api_key"), {"a": 1}),
    ):
        with pytest.raises(UserNotFoundError):
            await call
    assert await dump(database_config) == before


async def test_a_merge_shows_and_an_unlink_leaves(client: AsyncFormationClient) -> None:
    await client.record_turn("bob", said("bob's"), session_id="bob")
    await client.associate_user_identifiers(["bob"], "usr_alice", on_conflict="merge")
    assert await texts(client, "bob", "usr_alice") == ["bob's"]
    with pytest.raises(SessionNotFoundError):
        await client.get_session("bob", EMAIL)
    await client.unlink_user_identifier("bob")
    # It stays with the person, and the next one who has the identifier starts afresh.
    assert await texts(client, "bob", "usr_alice") == ["bob's"]
    with pytest.raises(UserNotFoundError):
        await client.get_session("bob", "bob")
    await client.record_turn("bob", said("another bob"), session_id="bob")
    assert await texts(client, "bob", "bob") == ["another bob"]
    assert await texts(client, "bob", "usr_alice") == ["bob's"]


async def test_a_deleted_person_leaves_nothing(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    await client.record_turn(EMAIL, said("hello"), session_id="thread", topics=["greetings"], memories=["Is polite"])
    await client.set_session_context("thread", EMAIL, {"a": 1})
    await client.delete_user("usr_alice")
    tables = await check_invariants(database_config)
    assert not tables["sessions"] + tables["messages"] + tables["working_memory"] + tables["memories"]


# Which one goes on


async def test_the_current_one_goes_on_until_it_is_idle(client: AsyncFormationClient, time: Time) -> None:
    first = await client.record_turn(EMAIL, said("one"))
    assert (await client.record_turn(EMAIL, said("two")))["session_id"] == first["session_id"]
    assert (await client.record_turn(SLACK, said("two")))["session_id"] != first["session_id"]
    time.advance(86_300)
    assert (await client.record_turn(EMAIL, said("three")))["session_id"] == first["session_id"]
    time.advance(86_401)
    second = await client.record_turn(EMAIL, said("four"))
    assert second["session_id"] != first["session_id"]
    shown = {each["session_id"]: each["active"] for each in (await client.list_sessions(EMAIL))["sessions"]}
    assert shown == {second["session_id"]: True, first["session_id"]: False}
    assert not (await client.list_sessions(SLACK))["sessions"][0]["active"]


async def test_each_audience_has_its_own(client: AsyncFormationClient) -> None:
    private = (await client.record_turn(SLACK, said("private")))["session_id"]
    shared = (await client.record_turn(SLACK, said("shared"), audience="shared"))["session_id"]
    assert private != shared
    assert (await client.chat("again", SLACK)).session_id == private
    assert (await client.chat("again", SLACK, audience="shared")).session_id == shared
    active = {each["session_id"]: each["active"] for each in (await client.list_sessions(SLACK))["sessions"]}
    assert active == {private: True, shared: True}


async def test_the_audience_of_a_session_is_fixed(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.record_turn(SLACK, said("private"), session_id="dm")
    await client.set_session_context("channel", SLACK, {"topic": "launch"}, audience="shared")
    before = await dump(database_config)
    for session_id, other in (("dm", "shared"), ("channel", "private")):
        calls: list[Any] = [
            client.record_turn(SLACK, said("x"), session_id=session_id, audience=other),
            client.restore_session(session_id, SLACK, said("x"), audience=other),
            client.get_user_context(SLACK, session_id, audience=other),
            client.chat("x", SLACK, session_id=session_id, audience=other),
            client.set_session_context(session_id, SLACK, {"a": 1}, audience=other),
        ]
        for call in calls:
            with pytest.raises(AudienceMismatchError) as raised:
                await call
            assert raised.value.session_id == session_id
    assert await dump(database_config) == before
    assert await client.set_session_context("channel", SLACK, {"a": 1}) == {"topic": "launch", "a": 1}


@pytest.mark.parametrize("who", [EMAIL, "usr_alice", "somebody new"])
async def test_concurrent_first_turns_begin_one_session(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time, who: str
) -> None:
    chats = [client.chat(f"message {number}", who) for number in range(4)]
    turns = [client.record_turn(who, said(f"turn {number}", "so it is")) for number in range(4)]
    async with client_of(database_config, time) as other:  # another process, as far as locks go
        there = [other.record_turn(who, said(f"there {number}", "so it is")) for number in range(4)]
        replies = await asyncio.gather(*chats, *turns, *there)
    assert len({reply["session_id"] for reply in replies}) == 1
    kept = await texts(client, replies[0]["session_id"], who)
    assert len(kept) == 24
    # Whole turns, one after the other.
    assert {text.split()[0] for text in kept[::2]} == {"message", "turn", "there"}
    assert not {text.split()[0] for text in kept[1::2]} & {"message", "turn", "there"}
    await check_invariants(database_config)


async def test_concurrent_first_turns_in_one_named_session(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    turns = [client.record_turn(EMAIL, said(f"turn {number}"), session_id="thread") for number in range(8)]
    contexts = [client.set_session_context("thread", EMAIL, {f"key {number}": number}) for number in range(8)]
    await asyncio.gather(*turns, *contexts)
    assert (await client.get_session("thread", EMAIL))["context"] == {f"key {number}": number for number in range(8)}
    assert sorted(await texts(client, "thread", EMAIL)) == [f"turn {number}" for number in range(8)]
    await check_invariants(database_config)


# What it holds


async def test_it_is_bounded_and_in_order(database_config: FormationConfig) -> None:
    config = dataclasses.replace(database_config, session=SessionConfig(max_messages=5))
    async with client_of(config) as client:  # by the machine's clock
        for number in range(4):
            await client.record_turn(EMAIL, said(f"asked {number}", f"answered {number}"), session_id="thread")
        kept = ["answered 1", "asked 2", "answered 2", "asked 3", "answered 3"]
        assert await texts(client, "thread", EMAIL) == kept
    async with client_of(config) as client:  # and after a restart
        assert await texts(client, "thread", EMAIL) == kept
        assert (await client.get_session("thread", EMAIL))["message_count"] == 5
        await client.record_turn(EMAIL, said(*(f"long {number}" for number in range(9))), session_id="thread")
        assert await texts(client, "thread", EMAIL) == [f"long {number}" for number in range(4, 9)]
    tables = await check_invariants(config)
    assert len(tables["messages"]) == 5


async def test_a_clock_that_goes_back_does_not_mix_turns(client: AsyncFormationClient, time: Time) -> None:
    await client.record_turn(EMAIL, said("one", "two"), session_id="thread")
    time.advance(-3600)
    await client.record_turn(EMAIL, said("three", "four"), session_id="thread")
    assert await texts(client, "thread", EMAIL) == ["one", "two", "three", "four"]


async def test_pages_of_messages(client: AsyncFormationClient) -> None:
    # All of one time: the order is that in which they were given.
    everything = [f"message {number}" for number in range(23)]
    await client.restore_session("thread", EMAIL, said(*everything))
    found: list[str] = []
    cursor = None
    pages = 0
    while True:
        page = await client.get_session_messages("thread", EMAIL, limit=5, cursor=cursor)
        found = [each["content"] for each in page["messages"]] + found
        assert page["count"] == len(page["messages"])
        assert page["has_more"] == (page["next_cursor"] is not None)
        pages += 1
        if pages == 2:  # what is said meanwhile neither shifts nor repeats anything
            await client.record_turn(EMAIL, said("later"), session_id="thread")
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == everything
    assert pages == 5


async def test_pages_of_sessions(client: AsyncFormationClient) -> None:
    for number in range(12):
        await client.record_turn(ALICE[number % 3], said("hi"), session_id=f"thread {number}")
    found: list[str] = []
    cursor = None
    while True:
        page = await client.list_sessions("usr_alice", limit=5, cursor=cursor)
        found += [each["session_id"] for each in page["sessions"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == [f"thread {number}" for number in reversed(range(12))]
    mine = (await client.list_sessions(EMAIL))["sessions"]
    assert [each["session_id"] for each in mine] == ["thread 9", "thread 6", "thread 3", "thread 0"]


@pytest.mark.parametrize("cursor", ["", "x", "A" * 44, "\ud800" * 44, 7, b"x" * 44])
async def test_a_made_up_cursor(client: AsyncFormationClient, cursor: Any) -> None:
    await client.record_turn(EMAIL, said("a", "b"), session_id="thread")
    with pytest.raises(InvalidRequestError, match="cursor"):
        await client.list_sessions(EMAIL, cursor=cursor)
    with pytest.raises(InvalidRequestError, match="cursor"):
        await client.get_session_messages("thread", EMAIL, cursor=cursor)


async def test_a_cursor_of_one_list_is_none_of_another(client: AsyncFormationClient) -> None:
    for number in range(2):
        await client.record_turn(EMAIL, said("a", "b"), session_id=f"thread {number}")
    sessions = (await client.list_sessions(EMAIL, limit=1))["next_cursor"]
    messages = (await client.get_session_messages("thread 0", EMAIL, limit=1))["next_cursor"]
    with pytest.raises(InvalidRequestError):
        await client.list_sessions(EMAIL, cursor=messages)
    with pytest.raises(InvalidRequestError):
        await client.get_session_messages("thread 0", EMAIL, cursor=sessions)


async def test_restore(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    await client.record_turn(EMAIL, said("old"), session_id="thread")
    given = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Früher", "created_at": "2026-01-31T09:30:00Z"},
        {"role": "assistant", "content": "In between"},
        {"role": "tool", "content": "Later \U0001f600", "created_at": "2026-01-31T11:30:00+01:00"},
        {"role": "user", "content": "From the future", "created_at": "2999-01-01T00:00:00"},
    ]
    restored = await client.restore_session("thread", EMAIL, given)
    assert (restored["messages_loaded"], restored["messages_dropped"]) == (5, 0)
    page = await client.get_session_messages("thread", EMAIL)
    assert [(each["role"], each["content"]) for each in page["messages"]] == [
        (each["role"], each["content"]) for each in given
    ]
    times = [each["created_at"] for each in page["messages"]]
    assert times[:2] == ["2026-01-31T09:30:00.000000Z"] * 2
    assert times[3] == "2026-01-31T10:30:00.000000Z"
    assert times[4] < "2030"
    # What is said next comes last.
    await client.record_turn(EMAIL, said("next"), session_id="thread")
    assert (await texts(client, "thread", EMAIL))[-1] == "next"
    many = await client.restore_session("thread", EMAIL, said(*(f"m{number}" for number in range(60))))
    assert (many["messages_loaded"], many["messages_dropped"]) == (50, 10)
    assert (await texts(client, "thread", EMAIL))[0] == "m10"
    assert (await client.restore_session("thread", EMAIL, []))["messages_loaded"] == 0
    assert await texts(client, "thread", EMAIL) == []
    await check_invariants(database_config)


async def test_restored_secrets_are_not_kept(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    await client.restore_session("thread", EMAIL, said(f"use {token} please"))
    assert token not in str(await dump(database_config))
    assert (await texts(client, "thread", EMAIL))[0].startswith("use ghp_")


async def test_restore_of_what_cannot_be(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    before = await dump(database_config)
    wrong: list[Any] = [
        None,
        "text",
        {"role": "user", "content": "x"},
        ["text"],
        [{"role": "user"}],
        [{"role": "root", "content": "x"}],
        [{"role": ["user"], "content": "x"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": " "}],
        [{"role": "user", "content": "nul \x00"}],
        [{"role": "user", "content": "half \ud800"}],
        [{"role": "user", "content": "x", "created_at": "yesterday"}],
        [{"role": "user", "content": "x", "created_at": 12}],
        [{"role": "user", "content": "x", "created_at": "1969-12-31T00:00:00Z"}],
        [{"role": "user", "content": "x", "id": 7}],
        [
            {"role": "user", "content": "x", "created_at": "2026-01-02T00:00:00Z"},
            {"role": "user", "content": "y", "created_at": "2026-01-01T00:00:00Z"},
        ],
    ]
    for messages in wrong:
        with pytest.raises(InvalidRequestError, match="messages"):
            await client.restore_session("thread", EMAIL, messages)
    for messages in ([{"role": "user", "content": "x" * 100_001}], said("x") * 10_001):
        with pytest.raises(TooLargeError) as raised:
            await client.restore_session("thread", EMAIL, messages)
        assert raised.value.limit in (100_000, 10_000)
    for session_id in (None, "", "x" * 256, "line\nend", 7):
        with pytest.raises(InvalidRequestError, match="session_id"):
            await client.restore_session(session_id, EMAIL, said("x"))  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="session_id"):
            await client.get_session(session_id, EMAIL)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="audience"):
        await client.restore_session("thread", EMAIL, said("x"), audience="public")  # type: ignore[arg-type]
    assert await dump(database_config) == before


# Its context


async def test_context_is_merged_key_by_key(client: AsyncFormationClient) -> None:
    values: dict[str, Any] = {"text": "naïve \U0001f600", "number": 1.5, "list": [1, {"a": None}], "yes": True}
    assert await client.set_session_context("thread", EMAIL, values) == values
    assert await client.set_session_context("thread", EMAIL, {"number": 2, "yes": None, "no": None}) == {
        "text": "naïve \U0001f600",
        "number": 2,
        "list": [1, {"a": None}],
    }
    assert (
        await client.set_session_context("thread", EMAIL, {}) == (await client.get_session("thread", EMAIL))["context"]
    )
    assert (await client.get_user_context(EMAIL, "thread"))["session_context"]["number"] == 2
    await client.clear_session("thread", EMAIL)
    assert (await client.get_session("thread", EMAIL))["context"] == {}


async def test_context_that_cannot_be(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    await client.set_session_context("thread", EMAIL, {"kept": "x" * 9_000})
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    before = await dump(database_config)
    wrong: list[Any] = [
        None,
        [("a", 1)],
        {1: "x"},
        {"": "x"},
        {"a\nb": "x"},
        {"k" * 129: "x"},
        {"a": float("nan")},
        {"a": {1, 2}},
        {"a": b"x"},
        {"a": "nul \x00"},
        {"a": ["half \ud800"]},
        {"a": {7: "x"}},
        {"a": deep},
        {"a": "x" * 16_385},
        {"more": "x" * 9_000},
    ]
    for values in wrong:
        with pytest.raises(InvalidRequestError):
            await client.set_session_context("thread", EMAIL, values)
    assert await dump(database_config) == before


async def test_nothing_internal_is_shown(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    await client.record_turn(EMAIL, said("hi", "ho"), session_id="thread")
    shown = str([await client.list_sessions(EMAIL, limit=1), await client.get_session("thread", EMAIL)])
    (session,) = rows_of(await dump(database_config), "muxi_sessions")
    assert set((await client.get_session("thread", EMAIL)).keys()) == {
        "session_id",
        "channel",
        "audience",
        "active",
        "message_count",
        "context",
        "created_at",
        "last_activity",
    }
    assert "pk" not in shown
    assert session["session_id"] == "thread"


@pytest.mark.parametrize(
    "values",
    [
        {"password": "hunter2"},
        {"login": {"api_key": TOKEN}},
        {"notes": ["fine", f"use {TOKEN}"]},
        {TOKEN: "fine"},
    ],
)
async def test_a_context_holds_no_secret(
    client: AsyncFormationClient, database_config: FormationConfig, values: dict[str, Any]
) -> None:
    """It is part of every prompt of its conversation."""
    await client.set_session_context("ticket", EMAIL, {"step": "address"})
    before = await dump(database_config)
    with pytest.raises(SecretRefusedError) as raised:
        await client.set_session_context("ticket", EMAIL, {"step": "payment", **values})
    assert TOKEN not in str(raised.value)
    assert await dump(database_config) == before


async def test_one_session_of_each_audience_is_active(client: AsyncFormationClient, time: Time) -> None:
    for number in range(3):
        for who in (EMAIL, SLACK):
            await client.record_turn(who, said("Hello"), session_id=f"private-{number}")
            await client.record_turn(who, said("Hello"), session_id=f"shared-{number}", audience="shared")
    await client.record_turn(EMAIL, said("Hello"), session_id="private-1")
    for who, active in ((EMAIL, {"private-1", "shared-2"}), (SLACK, {"private-2", "shared-2"})):
        listed = (await client.list_sessions(who))["sessions"]
        assert {each["session_id"] for each in listed if each["active"]} == active
        for each in listed:
            assert (await client.get_session(each["session_id"], who)) == each
    everybody = (await client.list_sessions("usr_alice"))["sessions"]
    assert sum(each["active"] for each in everybody) == 4
    time.advance(86_400)
    assert not any(each["active"] for each in (await client.list_sessions("usr_alice"))["sessions"])


async def test_the_current_session_is_found_by_its_index(client: AsyncFormationClient) -> None:
    """However many there are: neither gone through nor sorted, in the load and in the transaction of a turn."""
    formation = await client._lifecycle.formation()
    dialect = formation.database.dialect
    shape = Shape(dialect=dialect, start="public_id", session=False, searching=False, shared=False)
    loading = (
        gathering(shape)
        .parts["session"]
        .params(
            formation_id=client.formation_id, public_id="usr_alice", identifier_pk=1, audience="private", idle_since=1
        )
    )
    plans: list[str] = []

    def seed(tx: Transaction, hit: Hit) -> None:
        common = {"formation_id": tx.formation_id, "user_pk": hit.member_pk, "identifier_pk": hit.identifier_pk}
        last = {"audience": "shared", "created_at": tx.now, "last_activity_at": tx.now}
        rows = [{**common, **last, "pk": pk, "session_id": f"s{pk}"} for pk in tx.new_keys(2_000)]
        tx.connection.execute(insert(sessions), rows)
        if dialect == "postgresql":
            tx.connection.exec_driver_sql("ANALYZE muxi_sessions")

    def explain(tx: Transaction, hit: Hit) -> None:
        sent: list[tuple[str, Any]] = []

        def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
            sent.append((statement, parameters))

        if dialect == "postgresql":
            tx.connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        listen(tx.connection, "before_cursor_execute", note)
        tx.connection.execute(loading)
        assert current_session(tx, hit, 60) is None
        remove(tx.connection, "before_cursor_execute", note)
        for statement, parameters in sent:
            how = "EXPLAIN" if dialect == "postgresql" else "EXPLAIN QUERY PLAN"
            rows = tx.connection.exec_driver_sql(f"{how} {statement}", parameters).all()
            plans.append("\n".join(str(row) for row in rows))

    await formation.sessions._access.write(formation.parse(EMAIL), seed, Caller("test"), create=False)
    await formation.sessions._access.read(formation.parse(EMAIL), explain)
    assert len(plans) == 2
    for plan in plans:
        assert "ix_sessions_current" in plan, plan
        assert not re.search("Sort|TEMP B-TREE FOR ORDER BY|SCAN muxi_sessions|Scan on muxi_sessions", plan), plan
