"""Link codes: what they join, and everything that somebody may try with one."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
from typing import Any

import pytest

from muxi_identity import (
    AsyncFormationClient,
    FormationConfig,
    IdentifierLimitError,
    InvalidRequestError,
    LinkCodeError,
    LinkCodeLimitError,
    MuxiError,
    UserNotFoundError,
)
from muxi_identity.config import Secret
from muxi_identity.identity import attempts
from muxi_identity.identity.codes import new_code
from tests.formations import Time, client_of, dump, rows_of
from tests.invariants import check_invariants
from tests.races.processes import variant

SLACK = ("U98765ABC", "slack")
MAIL = "alice@email.com"
PHONE = ("+14155550123x", "internal")
FORGED = "0000-0000"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def client(database_config: FormationConfig, time: Time) -> Any:
    async with client_of(database_config, time) as client:
        yield client


async def owner(client: AsyncFormationClient, identifier: Any) -> str:
    return (await client.resolve_user(identifier))["muxi_user_id"]


async def refused(client: AsyncFormationClient, code: Any, identifier: Any, **options: Any) -> None:
    with pytest.raises(LinkCodeError) as caught:
        await client.redeem_link_code(code, identifier, **options)
    assert caught.value.code == "LINK_CODE_INVALID"
    assert str(caught.value) == "That link code is not valid, or not any more; ask for a new one in the other channel."
    assert caught.value.details == {}


# What it is for


async def test_a_code_joins_two_channels(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    told = await client.chat("My budget is $5,000", SLACK)
    await client.chat("My colour is green", MAIL)
    asked = await client.create_link_code(SLACK)

    shown = await client.redeem_link_code(asked["code"], MAIL)
    assert shown == {
        "joined": False,
        "already_one": False,
        "yours": [{"type": "email", "hint": "a...@email.com"}],
        "theirs": [{"type": "slack", "hint": "U9...C"}],
        "expires_at": asked["expires_at"],
        "muxi_user_id": None,
        "merge_id": None,
    }
    assert await owner(client, SLACK) != await owner(client, MAIL)

    joined = await client.redeem_link_code(asked["code"].lower().replace("-", " "), MAIL, confirm=True)
    assert joined["joined"]
    assert joined["muxi_user_id"] == told.user_id
    assert await owner(client, SLACK) == await owner(client, MAIL) == told.user_id
    assert "5,000" in (await client.chat("What's my budget?", MAIL)).text
    known = await client.get_user_identifiers(MAIL, detailed=True)
    assert [(each["verified"], each["source"]) for each in known] == [(True, "link_code")] * 2
    tables = await check_invariants(database_config, now=Time().at + 10**9)
    (merge,) = tables["merges"]
    assert (merge["merge_id"], merge["mode"], merge["source"]) == (joined["merge_id"], "link_code", "link_code")
    assert tables["link_codes"] == []
    assert "updated" not in str(tables["history"])
    (person,) = (await client.list_users())["users"]
    assert person["established"]


async def test_those_who_are_one_already_are_only_verified(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([SLACK, MAIL])
    asked = await client.create_link_code(SLACK)
    joined = await client.redeem_link_code(asked["code"], MAIL, confirm=True)
    assert (joined["joined"], joined["already_one"], joined["merge_id"]) == (True, True, None)
    assert all(each["verified"] for each in await client.get_user_identifiers(MAIL, detailed=True))


async def test_the_established_one_stays(client: AsyncFormationClient) -> None:
    await client.chat("Hello!", SLACK)  # the older one, but nobody ever meant it
    await client.create_user("usr_alice")
    await client.associate_user_identifiers([MAIL], user_id="usr_alice")
    asked = await client.create_link_code(SLACK)
    assert (await client.redeem_link_code(asked["code"], MAIL, confirm=True))["muxi_user_id"] == "usr_alice"


async def test_proof_that_was_there_stays_as_it_was(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([MAIL], verified=True, source="oauth")
    before = (await client.get_user_identifiers(MAIL, detailed=True))[0]["verified_at"]
    asked = await client.create_link_code(MAIL)
    await client.redeem_link_code(asked["code"], SLACK, confirm=True)
    found = {each["identifier"]: each for each in await client.get_user_identifiers(MAIL, detailed=True)}
    assert (found[MAIL]["source"], found[MAIL]["verified_at"]) == ("oauth", before)
    assert found[SLACK[0]]["source"] == "link_code"


async def test_hints_of_both_sides_show_no_whole_value(client: AsyncFormationClient) -> None:
    key = "key_" + "0123456789abcdef" * 2
    every = [MAIL, SLACK, (key, "api_key"), ("ab", "internal"), *((f"mobile-{n}", "internal") for n in range(30))]
    await client.associate_user_identifiers(every)
    asked = await client.create_link_code(SLACK)
    shown = await client.redeem_link_code(asked["code"], "bob@email.com")
    assert len(shown["theirs"]) == 20
    text = json.dumps(shown)
    for value in (MAIL, SLACK[0], key, "mobile-3"):
        assert value not in text
    assert not any(each["hint"] == "ab" for each in shown["theirs"])


# Attacks


async def test_a_code_cannot_be_guessed(client: AsyncFormationClient, time: Time) -> None:
    asked = await client.create_link_code(SLACK)
    for _ in range(attempts.MOST_BY_IDENTIFIER):
        await refused(client, FORGED, MAIL)
    for code in (FORGED, asked["code"]):  # also the right one
        with pytest.raises(LinkCodeLimitError) as caught:
            await client.redeem_link_code(code, MAIL, confirm=True)
    assert caught.value.code == "LINK_CODE_LIMITED"
    assert caught.value.retryable
    assert 590 <= caught.value.retry_after <= 600
    assert (await client.redeem_link_code(asked["code"], PHONE))["joined"] is False  # others are not held up
    time.advance(caught.value.retry_after)
    fresh = await client.create_link_code(SLACK)
    assert (await client.redeem_link_code(fresh["code"], MAIL, confirm=True))["joined"]


async def test_identifiers_made_for_guessing_meet_the_limit_of_the_formation(
    client: AsyncFormationClient, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    monkeypatch.setattr(attempts, "MOST_IN_FORMATION", 12)
    asked = await client.create_link_code(SLACK)
    for number in range(12):
        await refused(client, new_code(), f"guesser-{number}")
    with pytest.raises(LinkCodeLimitError):
        await client.redeem_link_code(asked["code"], "guesser-99", confirm=True)
    time.advance(attempts.WINDOW_SECONDS + 1)
    asked = await client.create_link_code(SLACK)
    assert (await client.redeem_link_code(asked["code"], "guesser-99"))["joined"] is False


async def test_guesses_that_come_at_once_are_all_counted(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.chat("Hello!", MAIL)
    tried = await asyncio.gather(
        *(client.redeem_link_code(new_code(), MAIL) for _ in range(20)), return_exceptions=True
    )
    kinds = [type(each) for each in tried]
    assert kinds.count(LinkCodeError) == attempts.MOST_BY_IDENTIFIER
    assert kinds.count(LinkCodeLimitError) == 20 - attempts.MOST_BY_IDENTIFIER
    counted = rows_of(await dump(database_config), "muxi_link_attempts")
    assert sorted(row["failures"] for row in counted) == [attempts.MOST_BY_IDENTIFIER] * 2


async def test_a_code_is_good_once(client: AsyncFormationClient) -> None:
    asked = await client.create_link_code(SLACK)
    await client.redeem_link_code(asked["code"], MAIL, confirm=True)
    await refused(client, asked["code"], MAIL, confirm=True)
    await refused(client, asked["code"], PHONE, confirm=True)


async def test_one_code_is_open_at_a_time(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    first = await client.create_link_code(SLACK)
    second = await client.create_link_code(SLACK)
    await refused(client, first["code"], MAIL)
    assert (await client.redeem_link_code(second["code"], MAIL))["joined"] is False
    made = await asyncio.gather(*(client.create_link_code(SLACK) for _ in range(8)))
    assert len(rows_of(await dump(database_config), "muxi_link_codes")) == 1
    open_ones = 0
    for number, each in enumerate(made):
        try:
            await client.redeem_link_code(each["code"], f"other-{number}")
            open_ones += 1
        except LinkCodeError:
            pass
    assert open_ones == 1


async def test_a_code_expires(client: AsyncFormationClient, time: Time) -> None:
    asked = await client.create_link_code(SLACK)
    time.advance(599)
    assert (await client.redeem_link_code(asked["code"], MAIL))["joined"] is False
    time.advance(1)
    await refused(client, asked["code"], MAIL, confirm=True)


async def test_a_code_is_of_its_formation(database_config: FormationConfig) -> None:
    other_config = dataclasses.replace(database_config, id=f"test-{secrets.token_hex(8)}")
    async with AsyncFormationClient(database_config) as one, AsyncFormationClient(other_config) as other:
        asked = await one.create_link_code(SLACK)
        await other.chat("Hello!", SLACK)
        await refused(other, asked["code"], MAIL, confirm=True)
        assert (await one.redeem_link_code(asked["code"], MAIL))["joined"] is False


async def test_a_code_of_another_key_is_none(database_config: FormationConfig, client: AsyncFormationClient) -> None:
    """The rows of one formation, copied into another by somebody who can write to the database, open nothing there."""
    asked = await client.create_link_code(SLACK)
    kept = rows_of(await dump(database_config), "muxi_link_codes")[0]["code_hash"]
    other = dataclasses.replace(
        database_config, id=f"test-{secrets.token_hex(8)}", secret_key=Secret(secrets.token_hex(32))
    )
    async with AsyncFormationClient(other) as elsewhere:
        await elsewhere.create_link_code(SLACK)
        formation = await elsewhere._formation()
        assert formation._bucket.fingerprint("link code " + asked["code"].replace("-", "")) != kept


async def test_nobody_redeems_in_the_channel_that_asked(client: AsyncFormationClient) -> None:
    asked = await client.create_link_code(SLACK)
    await refused(client, asked["code"], SLACK, confirm=True)
    await refused(client, asked["code"], "U98765ABC", confirm=True)  # the same, without its type
    assert (await client.redeem_link_code(asked["code"], MAIL))["joined"] is False


async def test_a_code_dies_with_its_identifier(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([SLACK, PHONE])
    asked = await client.create_link_code(SLACK)
    await client.unlink_user_identifier(SLACK)
    await refused(client, asked["code"], MAIL, confirm=True)
    await client.chat("Hello!", SLACK)  # somebody else's now
    await refused(client, asked["code"], MAIL, confirm=True)
    assert await owner(client, PHONE) != await owner(client, MAIL)


async def test_a_code_dies_with_its_person(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    asked = await client.create_link_code(SLACK)
    await client.redeem_link_code(asked["code"], MAIL)
    assert (await client.delete_user(SLACK))["counts"]["link_codes"] == 1
    await refused(client, asked["code"], MAIL, confirm=True)
    assert rows_of(await dump(database_config), "muxi_link_codes") == []


async def test_a_code_dies_when_its_identifier_expires(client: AsyncFormationClient, time: Time) -> None:
    from datetime import UTC, datetime, timedelta

    expires = datetime.fromtimestamp(time.at / 1e6, UTC) + timedelta(seconds=60)
    await client.associate_user_identifiers([{"identifier": "U1", "type": "slack", "expires_at": expires.isoformat()}])
    asked = await client.create_link_code(("U1", "slack"))
    time.advance(61)
    await refused(client, asked["code"], MAIL, confirm=True)


async def test_a_code_survives_a_merge_of_who_asked(client: AsyncFormationClient) -> None:
    """The member that asked is the same; whoever is one person with it now is joined along."""
    asked = await client.create_link_code(SLACK)
    await client.chat("Hello!", PHONE)
    await client.associate_user_identifiers([PHONE, SLACK], on_conflict="merge")
    joined = await client.redeem_link_code(asked["code"], MAIL, confirm=True)
    assert await owner(client, SLACK) == await owner(client, PHONE) == await owner(client, MAIL)
    assert joined["muxi_user_id"] == await owner(client, MAIL)


async def test_what_proves_nothing_neither_asks_nor_redeems(client: AsyncFormationClient) -> None:
    await client.create_user("usr_alice")
    asked = await client.create_link_code(SLACK)
    visitor = ("visitor-1", "anonymous")
    for who in ("usr_alice", visitor):
        with pytest.raises(InvalidRequestError):
            await client.create_link_code(who)
        with pytest.raises(InvalidRequestError):
            await client.redeem_link_code(asked["code"], who, confirm=True)
    with pytest.raises(UserNotFoundError):
        await client.create_link_code("usr_nobody")
    with pytest.raises(UserNotFoundError):  # a key that nobody linked is nobody's channel
        await client.redeem_link_code(asked["code"], ("key_" + "x" * 40, "api_key"))
    for code in (None, 5, b"7K3M-Q9T1", ["x"]):
        with pytest.raises(InvalidRequestError):
            await client.redeem_link_code(code, MAIL)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError):
        await client.redeem_link_code(asked["code"], MAIL, confirm="yes")  # type: ignore[arg-type]


async def test_hostile_codes(client: AsyncFormationClient) -> None:
    await client.create_link_code(SLACK)
    codes = ["", "\x00", "\ud800", "'; DROP TABLE muxi_users; --", "%", "________", "\u017f" * 8, "7" * 10**6]
    for number, code in enumerate(codes):
        await refused(client, code, f"user-{number}@email.com", confirm=True)


async def test_limits_hold_and_the_code_stays(database_config: FormationConfig) -> None:
    config = variant(database_config, {"max_identifiers_per_user": 2})
    async with AsyncFormationClient(config) as client:
        await client.associate_user_identifiers([MAIL, "alice@work.com"])
        asked = await client.create_link_code(SLACK)
        before = await dump(config)
        with pytest.raises(IdentifierLimitError):
            await client.redeem_link_code(asked["code"], MAIL, confirm=True)
        assert await dump(config) == before
        await client.unlink_user_identifier("alice@work.com")
        assert (await client.redeem_link_code(asked["code"], MAIL, confirm=True))["joined"]


async def test_a_preview_writes_nothing(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    asked = await client.create_link_code(SLACK)
    await client.chat("Hello!", MAIL)
    before = await dump(database_config)
    await client.redeem_link_code(asked["code"], MAIL)
    assert await dump(database_config) == before


async def test_the_code_stands_nowhere_in_clear(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    asked = await client.create_link_code(SLACK)
    plain = asked["code"].replace("-", "")
    everything = repr(await dump(database_config))
    assert asked["code"] not in everything
    assert plain not in everything
    formation = await client._formation()
    stored = rows_of(await dump(database_config), "muxi_link_codes")[0]["code_hash"]
    assert stored == formation._bucket.fingerprint(f"link code {plain}")  # keyed: no table of 40 bits undoes it


async def test_one_of_many_who_redeem_at_once_wins(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    asked = await client.create_link_code(SLACK)
    many = [f"user-{number}@email.com" for number in range(12)]
    for each in many:
        await client.chat("Hello!", each)
    done = await asyncio.gather(
        *(client.redeem_link_code(asked["code"], each, confirm=True) for each in many), return_exceptions=True
    )
    won = [each for each in done if isinstance(each, dict)]
    assert len(won) == 1
    assert {type(each) for each in done if not isinstance(each, dict)} == {LinkCodeError}
    tables = await check_invariants(database_config, now=time.at)
    assert len(tables["merges"]) == 1


async def test_two_who_redeem_each_others_codes_at_once(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    for number in range(10):
        one, other = f"a{number}@email.com", f"b{number}@email.com"
        codes = [(await client.create_link_code(each))["code"] for each in (one, other)]
        done = await asyncio.gather(
            client.redeem_link_code(codes[0], other, confirm=True),
            client.redeem_link_code(codes[1], one, confirm=True),
        )
        assert sorted(each["merge_id"] is None for each in done) == [False, True]
        assert await owner(client, one) == await owner(client, other)
    await check_invariants(database_config, now=time.at)


async def test_redeeming_meets_unlinking_deleting_and_linking(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    """Whoever is first, each person is whole, and nobody whose code was void by then is joined."""
    for number in range(12):
        asking, redeeming, other = (f"{name}{number}@email.com" for name in "xyz")
        await client.associate_user_identifiers([asking, other])
        asked = await client.create_link_code(asking)
        await client.chat("Hello!", redeeming)
        calls: list[Any] = [
            client.unlink_user_identifier(asking),
            client.delete_user(asking),
            client.associate_user_identifiers([redeeming, asking], on_conflict="merge"),
        ]
        meeting = calls.pop(number % 3)
        for rest in calls:
            rest.close()
        done = await asyncio.gather(
            client.redeem_link_code(asked["code"], redeeming, confirm=True), meeting, return_exceptions=True
        )
        for each in done:
            assert not isinstance(each, BaseException) or isinstance(each, MuxiError), repr(each)
    await check_invariants(database_config, now=time.at)
