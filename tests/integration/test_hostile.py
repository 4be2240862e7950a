"""Hostile input at every door: refused by the class that is promised, with nothing written, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.errors import InvalidIdentifierError, InvalidRequestError, TooLargeError
from tests.formations import client_of, dump
from tests.hostile import HOSTILE, VALID_BUT_ODD

Door = Callable[[AsyncFormationClient, Any], Awaitable[Any]]

DOORS: dict[str, Door] = {
    "resolve": lambda client, given: client.resolve_user(given, create_user=True),
    "find": lambda client, given: client.find_user(given),
    "chat": lambda client, given: client.chat("Hello!", user_id=given),
    "get_user": lambda client, given: client.get_user(given),
    "get_user_identifiers": lambda client, given: client.get_user_identifiers(given),
    "session": lambda client, given: client.get_session_messages("ses_1", given),
    "delete": lambda client, given: client.delete_user(given),
    "unlink": lambda client, given: client.unlink_user_identifier(given),
    "associate": lambda client, given: client.associate_user_identifiers(["fine", given]),
    "associate, keyed": lambda client, given: client.associate_user_identifiers(["fine", given], idempotency_key="k"),
    "associate with it": lambda client, given: client.associate_user_identifiers(["fine"], given),
}


@pytest.fixture
async def client(database_config: FormationConfig) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(database_config) as client:
        await client.create_user("usr_alice")
        await client.associate_user_identifiers(["alice@example.com", ("U98765ABC", "slack")], "usr_alice")
        yield client


async def test_hostile_identifiers_at_every_door(
    client: AsyncFormationClient, database_config: FormationConfig, subtests: pytest.Subtests
) -> None:
    assert len(HOSTILE) >= 60
    before = await dump(database_config)
    for name, given, kind in HOSTILE:
        with subtests.test(name):
            for door, call in DOORS.items():
                if given is None and door == "associate with it":
                    continue  # nobody given: a new user
                with pytest.raises(kind) as caught:
                    await call(client, given)
                assert type(caught.value) is kind, door
                assert len(str(caught.value)) < 1000, door
                str(caught.value).encode()  # whatever was sent, the message can be printed
            assert await dump(database_config) == before


async def test_a_public_id_is_no_identifier(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    before = await dump(database_config)
    for given in ("usr_alice", " usr_alice", "usr_stranger", {"identifier": "usr_alice"}, ("usr_alice", None)):
        with pytest.raises(InvalidIdentifierError):
            await client.associate_user_identifiers(["fine", given])
        with pytest.raises(InvalidIdentifierError):
            await client.unlink_user_identifier(given, force=True)
    assert await dump(database_config) == before


async def test_hostile_public_ids_make_no_user(
    client: AsyncFormationClient, database_config: FormationConfig, subtests: pytest.Subtests
) -> None:
    before = await dump(database_config)
    for name, given, _ in HOSTILE:
        if given is not None:
            with subtests.test(name), pytest.raises(InvalidRequestError):
                await client.create_user(given)
    with pytest.raises(InvalidRequestError):
        await client.create_user("alice")
    assert await dump(database_config) == before


async def test_what_looks_hostile_and_is_not_comes_back_as_it_was_given(
    client: AsyncFormationClient, subtests: pytest.Subtests
) -> None:
    for name, text in VALID_BUT_ODD:
        with subtests.test(name):
            made = await client.resolve_user(text, create_user=True)
            assert made["created"]
            assert await client.get_user_identifiers(text) == [text]
            typed = await client.associate_user_identifiers([(text, "internal")], on_conflict="absorb")
            assert await client.find_user((text, "internal")) is not None
            assert text in await client.get_user_identifiers(typed["muxi_user_id"])
            linked = await client.associate_user_identifiers([{"identifier": text, "type": "crm", "scope": text[:255]}])
            scoped = {"identifier": text, "type": "crm", "scope": text[:255]}
            assert (await client.resolve_user(scoped))["muxi_user_id"] == linked["muxi_user_id"]
            await client.unlink_user_identifier(scoped, force=True)
            assert await client.find_user(scoped) is None


# Other texts

WRONG: list[tuple[str, Any]] = [
    ("a number", 7),
    ("true", True),
    ("bytes", b"text"),
    ("a list", ["text"]),
    ("a dict", {"text": 1}),
    ("an object", object()),
    ("NUL", "a\0b"),
    ("lone surrogate", "a\ud800"),
    ("surrogates in pairs", "\ud83d\ude00"),
    ("a megabyte", "a" * 1_000_000),
]
EMPTY: list[tuple[str, Any]] = [("empty", "")]
BLANK: list[tuple[str, Any]] = [("none", None), ("empty", ""), ("blank", " \n\t "), ("ideographic blank", "\u3000")]

TEXTS: dict[str, tuple[Door, list[tuple[str, Any]]]] = {
    "message": (lambda client, text: client.chat(text, user_id="a stranger"), WRONG + BLANK),
    "session_id": (lambda client, text: client.chat("Hello!", "a stranger", session_id=text), WRONG + EMPTY),
    "session_id of a session": (lambda client, text: client.get_session_messages(text, "usr_alice"), WRONG + EMPTY),
    "source": (lambda client, text: client.associate_user_identifiers(["fine"], source=text), WRONG),
    "reason": (lambda client, text: client.associate_user_identifiers(["fine"], reason=text), WRONG),
    "reason of a merge": (
        lambda client, text: client.associate_user_identifiers(
            ["alice@example.com"], "usr_alice", on_conflict="merge", reason=text
        ),
        WRONG,
    ),
    "idempotency_key": (
        lambda client, text: client.associate_user_identifiers(["fine"], idempotency_key=text),
        [*WRONG, *EMPTY, ("256 characters", "k" * 256)],
    ),
    "idempotency_key with a user": (
        lambda client, text: client.associate_user_identifiers(["fine"], "alice@example.com", idempotency_key=text),
        [*WRONG, *EMPTY],
    ),
    "source of an unlink": (
        lambda client, text: client.unlink_user_identifier("alice@example.com", source=text),
        WRONG,
    ),
    "reason of an unlink": (
        lambda client, text: client.unlink_user_identifier("alice@example.com", reason=text),
        WRONG,
    ),
    "source of a user": (lambda client, text: client.create_user(source=text), WRONG),
    "reason of a user": (lambda client, text: client.create_user("usr_new", reason=text), WRONG),
    "reason of a delete": (lambda client, text: client.delete_user("usr_alice", reason=text), WRONG),
    "on_conflict": (
        lambda client, text: client.associate_user_identifiers(["fine"], on_conflict=text),
        [*WRONG, *EMPTY, ("none", None), ("another case", "MERGE")],
    ),
    "verified": (
        lambda client, text: client.associate_user_identifiers(["fine"], verified=text),
        [("a text", "false"), ("a number", 1), ("none", None)],
    ),
    "force": (
        lambda client, text: client.unlink_user_identifier("alice@example.com", force=text),
        [("a text", "false"), ("a number", 1), ("none", None)],
    ),
    "include_merged": (
        lambda client, text: client.delete_user("usr_alice", include_merged=text),
        [("a text", "false"), ("a number", 1), ("none", None)],
    ),
    "identifiers": (
        lambda client, given: client.associate_user_identifiers(given),
        [
            ("a text", "alice@example.com"),
            ("bytes", b"alice"),
            ("bytearray", bytearray(b"alice")),
            ("memoryview", memoryview(b"alice")),
            ("none", None),
            ("a number", 7),
            ("a dict", {"identifier": "x"}),
            ("a set", {"x"}),
            ("a generator", (each for each in "xy")),
            ("nothing", []),
            ("too many", ["x"] * 1001),
        ],
    ),
}


async def test_hostile_texts(
    client: AsyncFormationClient, database_config: FormationConfig, subtests: pytest.Subtests
) -> None:
    before = await dump(database_config)
    for name, (call, texts) in TEXTS.items():
        for kind, text in texts:
            with subtests.test(f"{name}: {kind}"):
                with pytest.raises(InvalidRequestError) as caught:
                    await call(client, text)
                assert type(caught.value) is (
                    TooLargeError if (name, kind) == ("message", "a megabyte") else InvalidRequestError
                )
                assert len(str(caught.value)) < 500
                str(caught.value).encode()
                assert await dump(database_config) == before


async def test_an_actor_that_no_database_can_keep(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        await client.find_user("nothing-yet")
        before = await dump(database_config)
        for actor in ("\0", "\ud800", "x" * 1001, 7):
            client._actor = actor  # type: ignore[assignment]
            for call in (client.create_user(), client.resolve_user("new", True), client.chat("Hello!", "new")):
                with pytest.raises(InvalidRequestError, match="actor"):
                    await call
        assert await dump(database_config) == before


async def test_odd_texts_are_kept_as_they_are(client: AsyncFormationClient) -> None:
    messages = [
        "x",
        "🦊 \u202eright to left\u202c and ali\u200bce",
        "two\r\nlines\tand\x07 a bell",
        "Robert'); DROP TABLE muxi_messages;-- %s :x $1 ?",
        "{{user_id}} ${x} %(name)s {0}",
        "\U000e0041\uffff\ue000\u0378",
        "a" * 100_000,
    ]
    session = "thread 🦊/1'; --"
    for message in messages:
        await client.chat(message, user_id="alice@example.com", session_id=session)
    found = await client.get_session_messages(session, "alice@example.com")
    assert [one["content"] for one in found["messages"] if one["role"] == "user"] == messages
    odd = "it's \U0001f98a, 100 % :x"
    key = "k" * 255
    linked = await client.associate_user_identifiers(["odd"], source=odd, reason="r" * 1000, idempotency_key=key)
    again = await client.associate_user_identifiers(["odd"], source=odd, reason="r" * 1000, idempotency_key=key)
    assert linked == again
    (record,) = await client.get_user_identifiers("odd", detailed=True)
    assert record["source"] == odd
