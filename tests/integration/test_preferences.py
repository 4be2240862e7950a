"""Preferences: typed values by key that follow the person, whichever identifier calls."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from muxi_identity import AsyncFormationClient, FormationClient, FormationConfig
from muxi_identity.context.preferences import rows
from muxi_identity.errors import (
    AmbiguousIdentifierError,
    InvalidRequestError,
    MuxiError,
    PreferenceNotFoundError,
    SecretRefusedError,
    TooLargeError,
    UserNotFoundError,
)
from muxi_identity.identity.running import Caller
from tests.formations import Time, client_of, dump, rows_of
from tests.invariants import check_invariants

EMAIL, SLACK, WEB = ("alice@example.com", "email"), ("U98765ABC", "slack"), ("user_123", "internal")
VALUES: list[Any] = [
    *(
        "de",
        "",
        "true",
        "1",
        "null",
        'O\'Hara \\ "%_" ; DROP TABLE muxi_users;--',
        "\n\t\u2028",
        "👩‍👩‍👧 ñ ß",
        "a" * 7_900,
    ),
    *(0, -1, 1, 2**63, -(2**80), 10**300, True, False, None),
    *(0.0, -0.0, 0.1, 1.0, 1e22, 5e-324, 1.7976931348623157e308),
    *([], {}, [[]], {"": {}}, [1, 1.0, True, "1", None], {"b": 1, "a": [{"c": {"d": [None]}}]}),
]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def client(database_config: FormationConfig, time: Time) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(database_config, time) as client:
        yield client


def same(one: Any, other: Any) -> bool:
    """Equal, type for type, at every depth, in the same order, with the sign of zero."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


# Values and keys


async def test_values_come_back_with_their_types(client: AsyncFormationClient) -> None:
    for number, value in enumerate(VALUES):
        record = await client.set_preference(WEB, f"key {number}", value)
        assert same(record["value"], value)
    found = await client.get_preferences(WEB)
    assert all(same(found[f"key {number}"], value) for number, value in enumerate(VALUES))
    assert same((await client.get_preference(WEB, "key 3"))["value"], "1")


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
)
TEXT_KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=10)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT_KEYS, inner, max_size=4))


@given(value=JSON)
@example(value={"-0": -0.0})
@settings(max_examples=60, deadline=None)
def test_any_json_value_comes_back(value: Any) -> None:
    """Through the text that is stored; both databases give a text back as it is (the test above)."""
    try:
        _, written = rows.write_preference("key", value)
    except (SecretRefusedError, TooLargeError):
        return
    assert same(rows.json.loads(written), value)


@pytest.fixture(scope="module")
def shared() -> Any:
    with FormationClient.ephemeral() as formation:
        yield formation


@given(value=JSON)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_value_comes_back_from_a_database(shared: FormationClient, value: Any) -> None:
    try:
        record = shared.set_preference("user_123", "key", value)
    except (SecretRefusedError, TooLargeError):
        return
    assert same(record["value"], value)
    assert same(shared.get_preferences("user_123")["key"], value)


class Text(str):
    """No plain text: it may say something else of itself than it holds."""

    def __str__(self) -> str:
        return "another"


circle: list[Any] = []
circle.append(circle)
wide: Any = None
for _ in range(15):
    wide = [wide] * 100
deep: Any = None
for _ in range(17):
    deep = [deep]


NO_VALUES: list[tuple[Any, type[MuxiError]]] = [
    (float("nan"), InvalidRequestError),
    (float("inf"), InvalidRequestError),
    ([-float("inf")], InvalidRequestError),
    ({1: "a"}, InvalidRequestError),
    ({None: "a"}, InvalidRequestError),
    ({"a": {True: 1}}, InvalidRequestError),
    ({"a", "b"}, InvalidRequestError),
    (b"bytes", InvalidRequestError),
    ((1, 2), InvalidRequestError),
    (object(), InvalidRequestError),
    ("\x00", InvalidRequestError),
    (["\ud800"], InvalidRequestError),
    ({"\x00": 1}, InvalidRequestError),
    (Text("de"), InvalidRequestError),
    ("a" * 8_000, TooLargeError),
    (list(range(3_000)), TooLargeError),
    (10**10_000, TooLargeError),
    (circle, TooLargeError),
    (wide, TooLargeError),
    (deep, TooLargeError),
]


async def test_what_json_has_not_is_refused(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    await client.list_users()
    before = await dump(database_config)
    for value, error in NO_VALUES:
        with pytest.raises(error) as caught:
            await client.set_preference("somebody new", "key", value)
        assert type(caught.value) is error
        assert (error is TooLargeError) == hasattr(caught.value, "limit")
    assert await dump(database_config) == before


NO_KEYS: list[Any] = ["", "  ", "\n", "a\nb", "a\x00", "\ud800", "a\u200bb", "\u202ea", None, 5, b"key", "k" * 129]


async def test_what_is_no_key_is_refused(client: AsyncFormationClient) -> None:
    await client.set_preference(WEB, "language", "de")
    for key in NO_KEYS:
        for call in (
            client.set_preference(WEB, key, "de"),
            client.get_preference(WEB, key),
            client.delete_preference(WEB, key),
        ):
            with pytest.raises(InvalidRequestError):
                await call
    assert await client.get_preferences(WEB) == {"language": "de"}


async def test_keys_are_trimmed_composed_and_keep_their_case(client: AsyncFormationClient) -> None:
    await client.set_preference(WEB, "  cafe\u0301 ", 1)
    await client.set_preference(WEB, "Café", 2)
    await client.set_preference(WEB, "k" * 128, 3)
    assert await client.get_preferences(WEB) == {"Café": 2, "café": 1, "k" * 128: 3}
    assert (await client.get_preference(WEB, "café "))["value"] == 1
    # None of these is a pattern.
    for key in ("caf%", "caf_", "*", "caf?"):
        with pytest.raises(PreferenceNotFoundError):
            await client.get_preference(WEB, key)
        with pytest.raises(PreferenceNotFoundError):
            await client.delete_preference(WEB, key)


SECRETS: list[tuple[str, Any]] = [
    ("note", "ghp_" + "a1B2" * 9),
    ("note", "\nghp_" + "a1B2" * 9),
    ("note", ["fine", {"inner": ["my password is hunter2"]}]),
    ("note", {"ghp_" + "a1B2" * 9: 1}),
    ("ghp_" + "a1B2" * 9, "note"),
    ("password", "hunter2"),
    ("wifi password", "swordfish"),
    ("login", {"user": "bob", "password": "hunter2"}),
    ("pin", 1234),
    ("card", 4111111111111111),
    ("api_key", "abcdef123456"),
]


async def test_a_secret_is_refused_and_is_not_repeated(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.list_users()
    before = await dump(database_config)
    for key, value in SECRETS:
        with pytest.raises(SecretRefusedError) as caught:
            await client.set_preference("somebody new", key, value)
        assert "set_credential" in str(caught.value)
        assert all(part not in str(caught.value) for part in ("a1B2", "hunter2", "swordfish", "1234", "abcdef"))
    assert await dump(database_config) == before


async def test_ordinary_preferences_are_no_secrets(client: AsyncFormationClient) -> None:
    for key, value in [
        ("password manager", "1Password"),
        ("token limit", 128000),
        ("secret santa", "Bob"),
        ("passcode required", True),
        ("favourite pass", "Brenner"),
        ("keyboard", {"layout": "qwertz", "key repeat": 30}),
    ]:
        await client.set_preference(WEB, key, value)
    assert len(await client.get_preferences(WEB)) == 6


# Whose they are


async def test_what_one_channel_sets_another_reads(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([EMAIL, SLACK, WEB])
    await client.set_preference(EMAIL, "language", "de")
    for given_id in (EMAIL, SLACK, WEB):
        assert await client.get_preferences(given_id) == {"language": "de"}
    record = await client.set_preference(SLACK, "language", "fr", shareable=True)
    assert (record["value"], record["channel"], record["shareable"]) == ("fr", "slack", True)
    (seen,) = await client.get_preferences(WEB, detailed=True)
    assert seen == record == await client.get_preference(EMAIL, "language")


async def test_each_identifier_keeps_its_own_row(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    linked = await client.associate_user_identifiers([EMAIL, SLACK])
    for given_id, value in ((EMAIL, 1), (SLACK, 2), (linked["muxi_user_id"], 3), (SLACK, 4)):
        await client.set_preference(given_id, "number", value)
    found = rows_of(await dump(database_config), "muxi_preferences")
    assert sorted(row["value"] for row in found) == ["1", "3", "4"]
    assert (await client.get_preference(EMAIL, "number"))["value"] == 4
    # By the public id no channel is known.
    await client.set_preference(linked["muxi_user_id"], "number", 5)
    assert (await client.get_preference(EMAIL, "number"))["channel"] is None


async def test_the_channel_stays_after_the_identifier_has_left(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([EMAIL, SLACK])
    await client.set_preference(SLACK, "language", "de")
    await client.unlink_user_identifier(SLACK)
    assert (await client.get_preference(EMAIL, "language"))["channel"] == "slack"
    with pytest.raises(UserNotFoundError):
        await client.get_preferences(SLACK)


async def test_setting_again_keeps_the_first_time(client: AsyncFormationClient, time: Time) -> None:
    first = await client.set_preference(WEB, "language", "de")
    time.advance(60)
    second = await client.set_preference(WEB, "language", "en")
    assert second["created_at"] == first["created_at"] < second["updated_at"]


async def test_a_merge_shows_both_and_the_newest_wins(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    await client.resolve_user(EMAIL, create_user=True)
    await client.resolve_user(SLACK, create_user=True)
    await client.set_preference(EMAIL, "language", "de")
    await client.set_preference(SLACK, "language", "en")
    await client.set_preference(SLACK, "units", "metric")
    await client.set_preference(EMAIL, "theme", "dark")
    merged = await client.associate_user_identifiers([EMAIL, SLACK], on_conflict="merge")
    both = {"language": "en", "theme": "dark", "units": "metric"}
    assert await client.get_preferences(EMAIL) == await client.get_preferences(SLACK) == both
    # Set after the merge, it is the setter's own, and goes with it.
    await client.set_preference(EMAIL, "language", "fr")
    assert (await client.get_preferences(SLACK))["language"] == "fr"
    await client.unmerge_users(*merged["merge_ids"])
    assert await client.get_preferences(EMAIL) == {"language": "fr", "theme": "dark"}
    assert await client.get_preferences(SLACK) == {"language": "en", "units": "metric"}
    await check_invariants(database_config, now=time.at)


async def test_a_delete_is_of_all_members_and_an_unmerge_does_not_take_it_back(client: AsyncFormationClient) -> None:
    await client.resolve_user(EMAIL, create_user=True)
    await client.resolve_user(SLACK, create_user=True)
    for given_id in (EMAIL, SLACK):
        await client.set_preference(given_id, "language", "de")
        await client.set_preference(given_id, "units", "metric")
    merged = await client.associate_user_identifiers([EMAIL, SLACK], on_conflict="merge")
    await client.delete_preference(EMAIL, "language")
    assert await client.get_preferences(SLACK) == {"units": "metric"}
    with pytest.raises(PreferenceNotFoundError):
        await client.delete_preference(SLACK, "language")
    await client.unmerge_users(*merged["merge_ids"])
    for given_id in (EMAIL, SLACK):
        assert await client.get_preferences(given_id) == {"units": "metric"}


async def test_another_person_and_another_formation_see_nothing(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    await client.set_preference(EMAIL, "language", "de")
    await client.resolve_user(SLACK, create_user=True)
    assert await client.get_preferences(SLACK) == {}
    with pytest.raises(PreferenceNotFoundError):
        await client.delete_preference(SLACK, "language")
    other = dataclasses.replace(database_config, id=f"{database_config.id}-other")
    async with client_of(other, time) as elsewhere:
        await elsewhere.resolve_user(EMAIL, create_user=True)
        assert await elsewhere.get_preferences(EMAIL) == {}
        with pytest.raises(PreferenceNotFoundError):
            await elsewhere.delete_preference(EMAIL, "language")
    assert await client.get_preferences(EMAIL) == {"language": "de"}


async def test_deleting_the_person_leaves_nothing(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.set_preference(EMAIL, "language", "Rumpelstilz")
    await client.delete_user(EMAIL)
    assert rows_of(await dump(database_config), "muxi_preferences") == []


async def test_what_was_deleted_is_not_found_in_the_file(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    path = database_config.database.path
    await client.set_preference(EMAIL, "nickname", "Rumpelstilz")
    await client.delete_preference(EMAIL, "nickname")
    if path is not None:
        for file in path.parent.glob(f"{path.name}*"):
            assert b"Rumpelstilz" not in file.read_bytes(), file.name


async def test_unknown_people(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    await client.list_users()
    before = await dump(database_config)
    for user_id in ("unknown_1", "usr_unknown", ("key_7Hq2mZx9Lw4Tn8Rb5Vc1", "api_key")):
        for call in (
            client.get_preferences(user_id),
            client.get_preference(user_id, "language"),
            client.delete_preference(user_id, "language"),
        ):
            with pytest.raises(UserNotFoundError):
                await call
    for user_id in ("usr_unknown", ("key_7Hq2mZx9Lw4Tn8Rb5Vc1", "api_key")):
        with pytest.raises(UserNotFoundError):
            await client.set_preference(user_id, "language", "de")
    assert await dump(database_config) == before
    await client.set_preference("unknown_1", "language", "de")  # first contact
    assert await client.get_preferences("unknown_1") == {"language": "de"}
    await client.associate_user_identifiers([("12345", "telegram")])
    await client.associate_user_identifiers([("12345", "github")])
    with pytest.raises(AmbiguousIdentifierError):
        await client.set_preference("12345", "language", "de")
    assert (await client.channel("github").set_preference(12345, "language", "de"))["channel"] == "github"


async def test_shareable_must_be_said_plainly(client: AsyncFormationClient) -> None:
    for wrong in ("false", 1, None):
        with pytest.raises(InvalidRequestError):
            await client.set_preference(WEB, "language", "de", shareable=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError):
            await client.get_preferences(WEB, detailed=wrong)  # type: ignore[call-overload]


# In a transaction, as a chat turn and the one-trip load do


async def test_several_are_set_at_once_or_none(client: AsyncFormationClient) -> None:
    formation = await client._formation()
    reference = formation.parse(WEB)

    async def set_all(values: dict[str, Any], shareable: bool = False) -> None:
        await formation.preferences._access.write(
            reference, lambda tx, hit: rows.set_preferences(tx, hit, values, shareable), Caller("test")
        )

    await set_all({})
    await set_all({"language": "de", " units ": "metric"})
    with pytest.raises(SecretRefusedError):
        await set_all({"language": "en", "password": "hunter2"})
    assert await client.get_preferences(WEB) == {"language": "de", "units": "metric"}


async def test_what_others_may_read_is_the_newest_or_nothing(client: AsyncFormationClient) -> None:
    formation = await client._formation()
    await client.associate_user_identifiers([EMAIL, SLACK])
    await client.set_preference(EMAIL, "language", "de", shareable=True)
    await client.set_preference(EMAIL, "city", "Berlin", shareable=True)
    await client.set_preference(SLACK, "city", "a secret place")
    await client.set_preference(SLACK, "salary", 5)

    def work(tx: Any, hit: Any) -> list[str]:
        statement = rows.folded_preferences(tx.formation_id, rows.members_of(tx, hit), shareable_only=True)
        return [row.key for row in tx.connection.execute(statement)]

    # The city was shareable once; what replaced it is not, and the old one does not come back in its place.
    assert await formation.preferences._access.read(formation.parse(EMAIL), work) == ["language"]


async def test_their_number_is_bounded_and_replacing_is_always_possible(
    client: AsyncFormationClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_PREFERENCES", 3)
    for number in range(3):
        await client.set_preference(WEB, f"key {number}", number)
    with pytest.raises(TooLargeError) as caught:
        await client.set_preference(WEB, "key 3", 3)
    assert caught.value.limit == 3
    await client.set_preference(WEB, "key 2", "again")
    await client.delete_preference(WEB, "key 0")
    await client.set_preference(WEB, "key 3", 3)
    assert await client.get_preferences(WEB) == {"key 1": 1, "key 2": "again", "key 3": 3}


async def test_a_change_raises_the_synopsis_revision_of_whom_it_concerns(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    async def revisions() -> dict[int, int]:
        return {row["user_pk"]: row["revision"] for row in rows_of(await dump(database_config), "muxi_synopses")}

    await client.set_preference(EMAIL, "language", "de")
    await client.set_preference(SLACK, "language", "de")
    before = await revisions()
    assert len(before) == 2
    await client.associate_user_identifiers([EMAIL, SLACK], on_conflict="merge")
    await client.set_preference(EMAIL, "language", "en")
    after = await revisions()
    assert sorted(after[pk] - before[pk] for pk in before) == [0, 1]
    await client.delete_preference(EMAIL, "language")
    last = await revisions()
    assert [last[pk] - after[pk] for pk in before] == [1, 1]


# Races


async def test_the_same_key_set_at_once_is_one_row(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await asyncio.gather(*(client.set_preference(WEB, "language", number) for number in range(20)))
    found = rows_of(await dump(database_config), "muxi_preferences")
    assert len(found) == 1
    assert (await client.get_preferences(WEB))["language"] in range(20)
    await check_invariants(database_config)


async def test_sets_and_deletes_across_members_do_not_block_each_other(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    for given_id in (EMAIL, SLACK):
        await client.set_preference(given_id, "language", "de")
    await client.associate_user_identifiers([EMAIL, SLACK], on_conflict="merge")

    async def delete(given_id: Any) -> None:
        try:
            await client.delete_preference(given_id, "language")
        except PreferenceNotFoundError:
            await client.set_preference(given_id, "language", "en")

    await asyncio.gather(
        *(delete(given_id) for _ in range(10) for given_id in (EMAIL, SLACK)),
        *(client.set_preference(given_id, "language", n) for n in range(10) for given_id in (EMAIL, SLACK)),
    )
    await client.set_preference(EMAIL, "language", "last")
    assert (await client.get_preferences(SLACK))["language"] == "last"
    await check_invariants(database_config)


async def test_what_is_set_last_counts_though_the_clock_went_back(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    ahead = Time()
    ahead.advance(3600)
    async with client_of(database_config, ahead) as fast:
        await fast.set_preference(EMAIL, "language", "en")
        await fast.set_preference(EMAIL, "units", "metric")
    await client.associate_user_identifiers([EMAIL, SLACK], on_conflict="merge")
    for value in ("pt", "de"):
        assert (await client.set_preference(SLACK, "language", value))["value"] == value
        assert await client.get_preferences(EMAIL) == {"language": value, "units": "metric"}
    assert (await client.set_preference(EMAIL, "language", "fr"))["value"] == "fr"
    assert (await client.get_preferences(SLACK))["language"] == "fr"
