"""Succession: an identifier takes the place of another, with its sessions; a secret the place of a secret."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.errors import (
    AmbiguousIdentifierError,
    IdentifierConflictError,
    IdentifierLimitError,
    IdentifierNotFoundError,
    InvalidIdentifierError,
    InvalidRequestError,
    UserNotFoundError,
)
from muxi_identity.identifiers import IdentifierRules, TypeRule
from tests.formations import Time, client_of, dump, rows_of
from tests.invariants import check_invariants

OLD, NEW = ("U98765ABC", "slack"), ("W98765ABC", "slack")
KEY, NEXT = "key_7Hq2mZx9Lw4Tn8Rb5Vc1", "key_Qa1Ws2Ed3Rf4Tg5Yh6Uj"


@pytest.fixture
async def client(database_config: FormationConfig) -> AsyncIterator[AsyncFormationClient]:
    time = Time()
    async with client_of(database_config, time) as client:
        await client.create_user("usr_alice")
        slack = {"identifier": OLD[0], "type": "slack", "metadata": {"team": "T1"}, "verified": True}
        await client.associate_user_identifiers(["alice@x.com", slack, (KEY, "api_key")], "usr_alice")
        yield client
        await check_invariants(database_config, now=time.at)


async def who(client: AsyncFormationClient, identifier: Any) -> str | None:
    found = await client.find_user(identifier)
    return found and found["muxi_user_id"]


async def test_the_new_one_goes_on_where_the_old_one_was(client: AsyncFormationClient) -> None:
    session = (await client.chat("My budget is 5", OLD)).session_id
    replaced = await client.replace_identifier(OLD, NEW[0], reason="workspace migrated")
    assert replaced == {
        "muxi_user_id": "usr_alice",
        "old": {"identifier": OLD[0], "type": "slack"},
        "new": {"identifier": NEW[0], "type": "slack"},
        "already_replaced": False,
    }
    assert (await who(client, OLD), await who(client, NEW)) == (None, "usr_alice")
    reply = await client.chat("What's my budget?", NEW)
    assert (reply.session_id, "5" in reply.text) == (session, True)
    assert (await client.get_session_messages(session, NEW))["count"] == 4
    # Whoever is given the old one next is a stranger.
    stranger = await client.chat("What's my budget?", OLD)
    assert stranger.user_id != "usr_alice"
    assert "5" not in stranger.text
    record = (await client.get_user_identifiers("usr_alice", detailed=True))[-1]
    assert (record["identifier"], record["metadata"], record["verified"]) == (NEW[0], {"team": "T1"}, False)


async def test_proof_must_be_given_anew(client: AsyncFormationClient) -> None:
    await client.replace_identifier(OLD, NEW, verified=True, source="slack")
    record = (await client.get_user_identifiers("usr_alice", detailed=True))[-1]
    assert (record["verified"], record["source"]) == (True, "slack")


async def test_it_stays_with_its_member(client: AsyncFormationClient) -> None:
    await client.create_user("usr_b")
    merged = await client.merge_users("usr_b", OLD)
    await client.replace_identifier(OLD, NEW)
    assert await who(client, NEW) == "usr_b"
    await client.unmerge_users(str(merged["merge_id"]))
    assert await who(client, NEW) == "usr_alice"


async def test_what_the_person_has_already_only_retires_the_old_one(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([NEW[0]], "usr_alice")  # bare
    mine = (await client.chat("My budget is 5", OLD)).session_id
    await client.replace_identifier(OLD, NEW, verified=True)
    records = await client.get_user_identifiers("usr_alice", detailed=True)
    assert [(one["identifier"], one["type"], one["verified"]) for one in records][1:] == [
        (records[1]["identifier"], "api_key", False),
        (NEW[0], "slack", True),
    ]
    assert (await client.chat("What's my budget?", NEW)).session_id != mine


async def test_sent_again_it_is_answered_alike(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    first = await client.replace_identifier(OLD, NEW)
    rotated = await client.rotate_identifier((KEY, "api_key"), NEXT)
    before = await dump(database_config)
    assert await client.replace_identifier(OLD, NEW[0]) == {**first, "already_replaced": True}
    assert await client.replace_identifier(OLD[0], NEW) == {**first, "already_replaced": True}
    for old in (KEY, (KEY, "api_key")):
        assert await client.rotate_identifier(old, NEXT) == {**rotated, "already_replaced": True}
    for pair in ((OLD, "alice@x.com"), (OLD, "nobody"), (NEW, OLD), ((OLD[0], "github"), NEW)):
        if pair[0] is not NEW:
            with pytest.raises(IdentifierNotFoundError):
                await client.replace_identifier(*pair)
    assert await dump(database_config) == before
    await client.replace_identifier(NEW, OLD)  # and back
    assert await who(client, OLD) == "usr_alice"


async def test_what_is_refused(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    await client.resolve_user(NEW, create_user=True)
    await client.associate_user_identifiers([("77", "telegram"), ("77", "github")], "usr_alice")
    before = await dump(database_config)
    with pytest.raises(IdentifierConflictError) as caught:
        await client.replace_identifier(OLD, NEW)
    assert caught.value.conflicts == [{"identifier": NEW[0], "type": "slack", "muxi_user_id": await who(client, NEW)}]
    for old, new, error in (
        ("nobody@x.com", "somebody@x.com", IdentifierNotFoundError),
        ("77", "78", AmbiguousIdentifierError),
        (OLD, OLD, InvalidRequestError),
        ("alice@x.com", "Alice@X.com", InvalidRequestError),
        ("alice@x.com", "no address", InvalidIdentifierError),
        ("alice@x.com", "null", InvalidIdentifierError),
        (OLD, "usr_alice", InvalidIdentifierError),
        ("usr_alice", NEW, InvalidIdentifierError),
        (KEY, NEXT, InvalidRequestError),
        (OLD, (NEXT, "api_key"), InvalidRequestError),
        (OLD, (KEY, "internal"), InvalidIdentifierError),
    ):
        with pytest.raises(error) as refused:
            await client.replace_identifier(old, new)
        assert KEY not in str(refused.value)
        assert NEXT not in str(refused.value)
    for old, new in ((OLD, NEXT), ("alice@x.com", (NEXT, "api_key")), (KEY, (NEXT, "slack"))):
        with pytest.raises(InvalidRequestError):
            await client.rotate_identifier(old, new)
    assert await dump(database_config) == before


async def test_a_limit_of_another_type_holds(database_config: FormationConfig) -> None:
    types = {**database_config.identity.rules.types, "crm": TypeRule(max_per_user=1)}
    identity = dataclasses.replace(database_config.identity, rules=IdentifierRules(types=types, max_per_user=2))
    async with AsyncFormationClient(dataclasses.replace(database_config, identity=identity)) as client:
        await client.associate_user_identifiers([("A", "slack"), ("7", "crm")])
        await client.replace_identifier(("7", "crm"), "8")
        await client.replace_identifier(("A", "slack"), "B")
        with pytest.raises(IdentifierLimitError):
            await client.replace_identifier(("B", "slack"), ("9", "crm"))


async def test_a_rotated_secret_is_revoked_for_ever(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    session = (await client.chat("My budget is 5", KEY)).session_id
    rotated = await client.rotate_identifier(KEY, NEXT)
    assert (rotated["old"]["type"], rotated["new"]["type"]) == ("api_key", "api_key")
    assert (await client.chat("What's my budget?", NEXT)).session_id == session
    for old in (KEY, (KEY, "api_key")):
        assert await client.find_user(old) is None
        with pytest.raises(UserNotFoundError):
            await client.chat("Hello!", old)
        with pytest.raises(InvalidIdentifierError):
            await client.associate_user_identifiers([old], "usr_alice")
    with pytest.raises(InvalidIdentifierError):
        await client.rotate_identifier(NEXT, KEY)  # back is no way
    everything = repr(await dump(database_config)) + repr(rotated) + repr(await client.get_user_history("usr_alice"))
    assert KEY not in everything
    assert NEXT not in everything


async def test_a_secret_that_wrote_in_bare_before_it_was_known_for_one(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.associate_user_identifiers([NEXT], "usr_alice")  # as an ordinary identifier
    await client.rotate_identifier(KEY, (NEXT, "api_key"))
    assert (await who(client, (NEXT, "api_key")), await who(client, KEY)) == ("usr_alice", None)
    assert NEXT not in repr(await dump(database_config))
    assert [row["secret"] for row in rows_of(await dump(database_config), "muxi_identifiers")].count(0) == 2
