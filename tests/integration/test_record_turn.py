"""``record_turn``: a turn of somebody's own loop, whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from muxi_identity import AsyncFormationClient, FormationConfig
from muxi_identity.errors import (
    AmbiguousIdentifierError,
    AudienceMismatchError,
    IdentifierConflictError,
    InvalidRequestError,
    SecretRefusedError,
    SessionNotFoundError,
    TooLargeError,
    UserNotFoundError,
)
from tests.formations import Time, client_of, dump, rows_of
from tests.invariants import check_invariants

EMAIL, SLACK = "alice@email.com", ("U98765ABC", "slack")
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
SAID = [{"role": "user", "content": "I am vegan."}, {"role": "assistant", "content": "Noted!"}]


@pytest.fixture
async def client(database_config: FormationConfig) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(database_config, Time()) as client:
        await client.create_user("usr_alice")
        await client.associate_user_identifiers([EMAIL, SLACK], "usr_alice")
        yield client


async def test_a_turn_is_what_the_next_context_brings(client: AsyncFormationClient) -> None:
    turn = await client.record_turn(
        EMAIL,
        SAID,
        memories=["Is vegan", {"content": "My budget is $5", "type": "fact", "key": "Budget", "value": "$5"}],
        topics=["food"],
    )
    assert turn["muxi_user_id"] == "usr_alice"
    assert turn["messages_recorded"] == 2
    mine = await client.get_user_context(EMAIL)
    assert mine["session_id"] == turn["session_id"]
    assert [(each["role"], each["content"]) for each in mine["messages"]] == [
        ("user", "I am vegan."),
        ("assistant", "Noted!"),
    ]
    assert {memory["memory_id"] for memory in mine["memories"]} == set(turn["memory_ids"])
    # Everything but the session follows the person.
    elsewhere = await client.get_user_context(SLACK)
    assert elsewhere["messages"] == []
    assert elsewhere["session_id"] is None
    for shared in ("memories", "working_memory", "synopsis"):
        assert elsewhere[shared] == mine[shared]
    assert "$5" in (await client.chat("What's my budget?", SLACK)).text


async def test_chat_and_record_turn_go_on_with_each_other(client: AsyncFormationClient) -> None:
    begun = await client.chat("Hello!", EMAIL)
    turn = await client.record_turn(EMAIL, SAID)
    assert turn["session_id"] == begun.session_id
    assert (await client.chat("And now?", EMAIL)).session_id == begun.session_id
    assert (await client.get_session(begun.session_id, EMAIL))["message_count"] == 6


async def test_what_is_learned_before_others_is_shareable(client: AsyncFormationClient) -> None:
    await client.record_turn(EMAIL, SAID, memories=["Loves secret plans"], topics=["a private matter"])
    await client.record_turn(
        SLACK,
        SAID,
        audience="shared",
        memories=["Is vegan", {"content": "Likes tea", "shareable": False}],
        topics=["food"],
    )
    public = await client.get_user_context(EMAIL, audience="shared")
    assert {memory["content"] for memory in public["memories"]} == {"Is vegan", "Likes tea"}
    assert [item["content"] for item in public["working_memory"]] == ["food"]
    assert "secret" not in str(public)
    assert "secret" not in public["synopsis"]


async def test_it_makes_first_contact_but_no_secret_does(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    turn = await client.record_turn("somebody new", SAID)
    found = await client.find_user("somebody new")
    assert found is not None
    assert found["muxi_user_id"] == turn["muxi_user_id"] != "usr_alice"
    before = await dump(database_config)
    for who in ("usr_stranger", ("key_7Hq2mZx9Lw4Tn8Rb5Vc1", "api_key")):
        with pytest.raises(UserNotFoundError):
            await client.record_turn(who, SAID, memories=["x"])
    assert await dump(database_config) == before


async def test_secrets(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    said = [{"role": "user", "content": f"use {TOKEN}"}, {"role": "tool", "content": f"token: {TOKEN}"}]
    await client.record_turn(EMAIL, said)
    before = await dump(database_config)
    assert TOKEN not in str(before)
    for learned in (
        {"memories": ["Is vegan", f"the token is {TOKEN}"]},
        {"memories": [{"content": "GitHub", "metadata": {"token": TOKEN}}]},
        {"topics": ["food", TOKEN]},
    ):
        with pytest.raises(SecretRefusedError) as raised:
            await client.record_turn(EMAIL, SAID, **learned)
        assert TOKEN not in str(raised.value)
    assert await dump(database_config) == before


async def test_what_cannot_be_recorded_records_nothing(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.record_turn(EMAIL, SAID, session_id="dm")
    await client.associate_user_identifiers([("77", "github")])
    await client.associate_user_identifiers([("77", "telegram")])
    before = await dump(database_config)
    wrong: list[dict[str, Any]] = [
        {"messages": None},
        {"messages": "hello"},
        {"messages": [{"role": "user", "content": None}]},
        {"session_id": ""},
        {"session_id": "a\x00b"},
        {"audience": "public"},
        {"memories": "Is vegan"},
        {"memories": [7]},
        {"memories": [{"type": "fact"}]},
        {"memories": [{"content": "x", "user_id": "usr_mallory"}]},
        {"memories": [{"content": "x", "shareable": "yes"}]},
        {"memories": {"content": "x"}},
        {"topics": "food"},
        {"topics": [None]},
        {"topics": ["half \ud800"]},
    ]
    for arguments in wrong:
        with pytest.raises(InvalidRequestError):
            await client.record_turn(EMAIL, **{"messages": SAID, **arguments})
    for arguments in (
        {"messages": SAID * 5_001},
        {"messages": [{"role": "user", "content": "x" * 100_001}]},
        {"memories": ["x" * 10_001]},
        {"memories": ["x"] * 101},
        {"topics": ["x" * 301]},
        {"topics": ["x"] * 101},
    ):
        with pytest.raises(TooLargeError):
            await client.record_turn(EMAIL, **{"messages": SAID, **arguments})
    with pytest.raises(AudienceMismatchError):
        await client.record_turn(EMAIL, SAID, session_id="dm", audience="shared", memories=["x"], topics=["y"])
    with pytest.raises(AmbiguousIdentifierError):
        await client.record_turn("77", SAID)
    assert await dump(database_config) == before


async def test_turns_while_the_identifier_moves(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    """However it ends, each turn lies with whoever had the identifier, and whole."""
    await client.create_user("usr_bob")

    async def move() -> None:
        for owner in ("usr_bob", "usr_alice") * 4:
            await client.unlink_user_identifier(SLACK, force=True)
            with contextlib.suppress(IdentifierConflictError):  # a turn came between and made first contact
                await client.associate_user_identifiers([SLACK], owner)

    async def talk(number: int) -> None:
        for turn in range(4):
            said = [{"role": "user", "content": f"{number} {turn} asked"}, {"role": "assistant", "content": "so it is"}]
            await client.record_turn(
                SLACK, said, memories=[f"memory {number} {turn}"], topics=[f"topic {number} {turn}"]
            )

    await asyncio.gather(move(), *(talk(number) for number in range(4)))
    tables = await check_invariants(database_config)
    asked = [row for row in tables["messages"] if row["content"].endswith("asked")]
    assert len(asked) == 16
    learned = {row["content"].removeprefix("memory "): row for row in tables["memories"]}
    for row in asked:
        memory = learned[row["content"].removesuffix(" asked")]
        assert (memory["user_pk"], memory["identifier_pk"]) == (row["user_pk"], row["identifier_pk"])


async def test_what_was_recorded_survives_a_restart(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    turn = await client.record_turn(EMAIL, SAID, memories=["Is vegan"], topics=["food"])
    mine = await client.get_user_context(EMAIL)
    await client.close()
    async with client_of(database_config, Time()) as again:
        assert await again.get_user_context(EMAIL) == mine
        assert (await again.record_turn(EMAIL, SAID))["session_id"] == turn["session_id"]
    assert len(rows_of(await dump(database_config), "muxi_sessions")) == 1


async def test_a_turn_that_is_sent_many_times_at_once_is_recorded_once(client: AsyncFormationClient) -> None:
    async def record(**more: Any) -> Any:
        return await client.record_turn("stranger", SAID, memories=["Is vegan"], idempotency_key="turn 1", **more)

    turns = await asyncio.gather(*(record() for _ in range(8)))
    assert turns == [turns[0]] * 8
    assert (await client.get_session(turns[0]["session_id"], "stranger"))["message_count"] == 2
    assert (await client.list_memories("stranger"))["count"] == 1

    with pytest.raises(InvalidRequestError, match="another request"):
        await record(topics=["food"])
    await client.delete_user("stranger")
    with pytest.raises(SessionNotFoundError):
        await record()
    assert await client.find_user("stranger") is None


async def test_a_turn_that_failed_leaves_its_key_free(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    with pytest.raises(SecretRefusedError):
        await client.record_turn(EMAIL, SAID, memories=[TOKEN], idempotency_key="turn 1")
    turn = await client.record_turn(EMAIL, SAID, session_id="about my divorce", idempotency_key="turn 2")
    with pytest.raises(AudienceMismatchError):
        await client.record_turn(
            EMAIL, SAID, session_id="about my divorce", audience="shared", idempotency_key="turn 1"
        )
    assert (await client.record_turn(EMAIL, SAID, idempotency_key="turn 1"))["messages_recorded"] == 2

    await client.delete_user(EMAIL)
    assert turn["session_id"] not in str(await dump(database_config))
