"""Linking, row by row of its table: who is linked to whom, who is merged, what is raised, what is kept."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
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
    InvalidRequestError,
    LastIdentifierError,
    MergeConflictError,
    SessionNotFoundError,
    UserExistsError,
    UserNotFoundError,
)
from muxi_identity.identifiers import BUILT_IN_TYPES, IdentifierRules, TypeRule
from muxi_identity.models import iso
from tests.formations import Time, client_of, dump, rows_of

RESULT_KEYS = {
    "muxi_user_id",
    "created",
    "identifiers",
    "new_identifiers",
    "existing_identifiers",
    "skipped",
    "merge_ids",
}


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    time.govern_caches(monkeypatch)
    return time


@pytest.fixture
async def client(database_config: FormationConfig, time: Time) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(database_config, time) as client:
        yield client


async def visitor(client: AsyncFormationClient, identifier: Any) -> str:
    """Somebody writes in; nobody links them."""
    made = await client.resolve_user(identifier, create_user=True)
    assert made["created"]
    return made["muxi_user_id"]


async def who(client: AsyncFormationClient, identifier: Any) -> str | None:
    found = await client.find_user(identifier)
    return None if found is None else found["muxi_user_id"]


async def events_of(config: FormationConfig) -> list[dict[str, Any]]:
    return sorted(rows_of(await dump(config), "muxi_history"), key=lambda row: (row["at"], row["pk"]))


# The table


async def test_a_given_user_gets_all(client: AsyncFormationClient) -> None:
    await client.create_user("usr_alice")
    result = await client.associate_user_identifiers(
        ["alice@example.com", ("U98765ABC", "slack"), {"identifier": "user_123", "type": "internal"}], "usr_alice"
    )
    assert result == {
        "muxi_user_id": "usr_alice",
        "created": False,
        "identifiers": [
            {"identifier": "alice@example.com", "type": "email"},
            {"identifier": "U98765ABC", "type": "slack"},
            {"identifier": "user_123", "type": "internal"},
        ],
        "new_identifiers": ["alice@example.com", "U98765ABC", "user_123"],
        "existing_identifiers": [],
        "skipped": [],
        "merge_ids": [],
    }
    assert await client.get_user_identifiers("usr_alice") == ["alice@example.com", "U98765ABC", "user_123"]


async def test_nobody_given_and_none_known_makes_one_user(client: AsyncFormationClient) -> None:
    result = await client.associate_user_identifiers(["a@example.com", ("A", "slack")])
    assert set(result) == RESULT_KEYS
    assert result["created"]
    assert (await client.get_user(result["muxi_user_id"]))["established"]
    assert (await client.list_users())["count"] == 1


async def test_nobody_given_and_one_known_links_the_rest_to_that_user(client: AsyncFormationClient) -> None:
    known = await visitor(client, "a@example.com")
    result = await client.associate_user_identifiers([("A", "slack"), "A@Example.com", ("7", "github")])
    assert (result["muxi_user_id"], result["created"]) == (known, False)
    assert result["new_identifiers"] == ["A", "7"]
    assert result["existing_identifiers"] == ["A@Example.com"]
    assert await client.get_user_identifiers(known) == ["a@example.com", "A", "7"]


async def test_nobody_given_and_several_known_conflicts(client: AsyncFormationClient) -> None:
    one, two = await visitor(client, "a@example.com"), await visitor(client, ("A", "slack"))
    with pytest.raises(IdentifierConflictError) as caught:
        await client.associate_user_identifiers(["a@example.com", ("A", "slack"), "new"])
    assert caught.value.conflicts == [
        {"identifier": "a@example.com", "type": "email", "muxi_user_id": one},
        {"identifier": "A", "type": "slack", "muxi_user_id": two},
    ]
    assert await who(client, "new") is None


async def test_all_conflicts_are_named_at_once_and_the_other_modes_too(client: AsyncFormationClient) -> None:
    await client.create_user("usr_alice")
    owners = {name: await visitor(client, (name, "slack")) for name in ("B", "C", "D")}
    with pytest.raises(IdentifierConflictError) as caught:
        await client.associate_user_identifiers([("D", "slack"), "new@example.com", ("B", "slack"), "C"], "usr_alice")
    assert caught.value.code == "IDENTIFIER_CONFLICT"
    assert [(one["identifier"], one["type"], one["muxi_user_id"]) for one in caught.value.conflicts] == [
        ("D", "slack", owners["D"]),
        ("B", "slack", owners["B"]),
        ("C", None, owners["C"]),
    ]
    text = str(caught.value)
    assert all(name in text and owner in text for name, owner in owners.items())
    assert '"absorb"' in text
    assert '"merge"' in text


async def test_the_user_given_is_not_named_as_being_in_conflict_with_itself(client: AsyncFormationClient) -> None:
    # Both spellings of one identifier have an owner: the bare one is another's.
    other = await visitor(client, "A")
    mine = await visitor(client, ("A", "slack"))
    with pytest.raises(IdentifierConflictError) as caught:
        await client.associate_user_identifiers([("A", "slack")], mine)
    assert [one["muxi_user_id"] for one in caught.value.conflicts] == [other]


# Every mode, by whether a user is given, and whether a visitor's and an established user's identifiers are among them

EXPECTED = {
    # (mode, given, visitors' identifiers, established users' identifiers) -> survivor and merged, or conflict
    ("raise", None, 0, 0): ("new", 0),
    ("raise", None, 1, 0): ("visitor", 0),
    ("raise", None, 0, 1): ("settled", 0),
    ("raise", "given", 0, 0): ("given", 0),
    ("absorb", None, 0, 0): ("new", 0),
    ("absorb", None, 1, 0): ("visitor", 0),
    ("absorb", None, 2, 0): ("visitor", 1),
    ("absorb", None, 0, 1): ("settled", 0),
    ("absorb", None, 1, 1): ("settled", 1),
    ("absorb", None, 2, 1): ("settled", 2),
    ("absorb", "given", 0, 0): ("given", 0),
    ("absorb", "given", 1, 0): ("given", 1),
    ("absorb", "given", 2, 0): ("given", 2),
    ("merge", None, 0, 0): ("new", 0),
    ("merge", None, 1, 0): ("visitor", 0),
    ("merge", None, 2, 0): ("visitor", 1),
    ("merge", None, 0, 1): ("settled", 0),
    ("merge", None, 1, 1): ("settled", 1),
    ("merge", None, 2, 1): ("settled", 2),
    ("merge", None, 0, 2): ("settled", 1),
    ("merge", None, 1, 2): ("settled", 2),
    ("merge", None, 2, 2): ("settled", 3),
    ("merge", "given", 0, 0): ("given", 0),
    ("merge", "given", 1, 0): ("given", 1),
    ("merge", "given", 2, 0): ("given", 2),
    ("merge", "given", 0, 1): ("given", 1),
    ("merge", "given", 1, 1): ("given", 2),
    ("merge", "given", 2, 1): ("given", 3),
    ("merge", "given", 0, 2): ("given", 2),
    ("merge", "given", 1, 2): ("given", 3),
    ("merge", "given", 2, 2): ("given", 4),
}


async def test_every_mode_with_every_combination_of_owners(
    client: AsyncFormationClient, subtests: pytest.Subtests
) -> None:
    combinations = itertools.product(("raise", "absorb", "merge"), (None, "given"), (0, 1, 2), (0, 1, 2))
    for number, (mode, given, visitors, settled) in enumerate(combinations):
        with subtests.test(f"{mode}, {given}, {visitors} visitors, {settled} settled"):
            # Visitors come first: whoever is oldest is one of them.
            theirs = [f"v{number}-{index}" for index in range(visitors)]
            people = {"visitor": [await visitor(client, each) for each in theirs], "settled": [], "given": []}
            for index in range(settled):
                theirs.append(f"s{number}-{index}")
                people["settled"].append((await client.associate_user_identifiers([theirs[-1]]))["muxi_user_id"])
            if given:
                people["given"].append((await client.create_user())["muxi_user_id"])
            request = [*reversed(theirs), f"n{number}"]
            call = client.associate_user_identifiers(
                request,
                people["given"][0] if given else None,
                on_conflict=mode,  # type: ignore[arg-type]
            )
            expected = EXPECTED.get((mode, given, visitors, settled))
            if expected is None:
                with pytest.raises(IdentifierConflictError):
                    await call
                assert await who(client, f"n{number}") is None
                owners = [await who(client, each) for each in theirs]
                assert owners == [*people["visitor"], *people["settled"]]
                continue
            result = await call
            kind, merged = expected
            assert set(result) == RESULT_KEYS
            assert result["created"] == (kind == "new")
            if kind != "new":
                assert result["muxi_user_id"] == people[kind][0]
            assert len(result["merge_ids"]) == len(set(result["merge_ids"])) == merged
            assert result["existing_identifiers"] == [*reversed(theirs)]
            assert result["new_identifiers"] == [f"n{number}"]
            for identifier in request:
                assert await who(client, identifier) == result["muxi_user_id"]
            record = await client.get_user(f"n{number}")
            assert sorted(record["merged_users"]) == sorted(
                {*itertools.chain(*people.values())} - {result["muxi_user_id"]}
            )
            assert record["established"]


async def test_the_survivor_is_the_established_one_even_if_younger_and_else_the_oldest(
    client: AsyncFormationClient,
) -> None:
    oldest, younger = await visitor(client, "oldest"), await visitor(client, "younger")
    settled = (await client.associate_user_identifiers(["settled"]))["muxi_user_id"]
    assert (await client.associate_user_identifiers(["younger", "oldest"], on_conflict="absorb"))[
        "muxi_user_id"
    ] == oldest
    # What absorbed is established now: another absorption needs its consent.
    with pytest.raises(IdentifierConflictError):
        await client.associate_user_identifiers(["settled", "oldest"], on_conflict="absorb")
    merged = await client.associate_user_identifiers(["settled", "oldest"], on_conflict="merge")
    assert merged["muxi_user_id"] == oldest  # both established: the oldest again
    assert (await client.get_user(oldest))["merged_users"] == [younger, settled]


async def test_the_same_merge_again_changes_nothing(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await visitor(client, ("A", "slack"))
    first = await client.associate_user_identifiers(["a@example.com", ("A", "slack")], on_conflict="merge")
    before = await dump(database_config)
    again = await client.associate_user_identifiers(["a@example.com", ("A", "slack")], on_conflict="merge")
    assert again == {
        **first,
        "new_identifiers": [],
        "existing_identifiers": ["a@example.com", "A"],
        "merge_ids": [],
    }
    assert await dump(database_config) == before


async def test_linking_again_writes_nothing(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    request = ["a@example.com", {"identifier": "A", "type": "slack", "metadata": {"team": "T1"}, "verified": True}]
    await client.associate_user_identifiers(request)
    before = await dump(database_config)
    again = await client.associate_user_identifiers(request)
    assert again["existing_identifiers"] == ["a@example.com", "A"]
    assert await dump(database_config) == before


async def test_what_a_request_says_twice_is_linked_once(client: AsyncFormationClient) -> None:
    result = await client.associate_user_identifiers(
        ["A", ("A", "slack"), "a@example.com", ("A@EXAMPLE.com", "email"), ("A", "slack"), 77, "77"]
    )
    assert len(result["identifiers"]) == 7
    assert result["new_identifiers"] == ["A", "A@EXAMPLE.com", "77"]
    records = await client.get_user_identifiers(result["muxi_user_id"], detailed=True)
    assert [(one["identifier"], one["type"]) for one in records] == [
        ("A", "slack"),
        ("A@EXAMPLE.com", "email"),
        ("77", None),
    ]


# Anonymous identifiers


async def test_absorb_promotes_a_visitor_and_retires_the_device(client: AsyncFormationClient) -> None:
    device = ("device-1", "anonymous")
    await client.chat("My budget is $5,000", user_id=device)
    before = await who(client, device)
    result = await client.associate_user_identifiers(["ann@example.com", device], on_conflict="absorb")
    assert result["muxi_user_id"] == before
    assert result["existing_identifiers"] == ["device-1"]
    assert "$5,000" in (await client.chat("What's my budget?", user_id="ann@example.com")).text
    assert await client.get_user_identifiers(before) == ["ann@example.com"]
    assert await who(client, device) is None
    nobody = await client.chat("What's my budget?", user_id=device)
    assert nobody.user_id != before
    assert "$5,000" not in nobody.text


@pytest.mark.parametrize("alone", [True, False])
async def test_absorb_promotes_into_a_given_user(client: AsyncFormationClient, alone: bool) -> None:
    await client.create_user("usr_ann")
    device = ("device-1", "anonymous")
    await client.chat("My budget is $5,000", user_id=device)
    request = [device] if alone else ["ann@example.com", device]
    result = await client.associate_user_identifiers(request, "usr_ann", on_conflict="absorb")
    assert len(result["merge_ids"]) == 1
    assert "$5,000" in (await client.chat("What's my budget?", user_id="usr_ann")).text
    assert (await client.chat("What's my budget?", user_id=device)).user_id != "usr_ann"


async def test_absorb_skips_the_device_of_somebody_established(client: AsyncFormationClient) -> None:
    device = ("device-1", "anonymous")
    await client.create_user("usr_bob")
    await client.associate_user_identifiers([device], "usr_bob")
    result = await client.associate_user_identifiers(["ann@example.com", device], on_conflict="absorb")
    assert (result["skipped"], result["new_identifiers"]) == (["device-1"], ["ann@example.com"])
    assert await who(client, device) == "usr_bob"
    assert result["muxi_user_id"] != "usr_bob"


async def test_absorb_leaves_an_unknown_device_alone(client: AsyncFormationClient) -> None:
    result = await client.associate_user_identifiers(
        ["ann@example.com", ("device-1", "anonymous")], on_conflict="absorb"
    )
    assert result["skipped"] == ["device-1"]
    assert await who(client, ("device-1", "anonymous")) is None


async def test_anonymous_identifiers_alone_need_a_user(client: AsyncFormationClient) -> None:
    with pytest.raises(InvalidRequestError, match="Anonymous"):
        await client.associate_user_identifiers([("device-1", "anonymous")], on_conflict="absorb")


# What auto-matching may rely on, and what proof does


async def matching(config: FormationConfig, match: Any) -> FormationConfig:
    return dataclasses.replace(config, identity=dataclasses.replace(config.identity, match=match))


async def test_match_none_links_nothing_by_itself(database_config: FormationConfig, time: Time) -> None:
    async with client_of(await matching(database_config, "none"), time) as client:
        known = await visitor(client, "a@example.com")
        for mode in ("raise", "absorb"):
            with pytest.raises(IdentifierConflictError) as caught:
                await client.associate_user_identifiers(["a@example.com", ("A", "slack")], on_conflict=mode)
            assert [one["muxi_user_id"] for one in caught.value.conflicts] == [known]
        assert (await client.associate_user_identifiers([("A", "slack")], known))["muxi_user_id"] == known
        # Whoever says so in the call is obeyed.
        merged = await client.associate_user_identifiers(["a@example.com", "new"], on_conflict="merge")
        assert merged["muxi_user_id"] == known


async def test_match_verified_relies_on_verified_identifiers_alone(
    database_config: FormationConfig, time: Time
) -> None:
    async with client_of(await matching(database_config, "verified"), time) as client:
        await visitor(client, "hearsay@example.com")
        with pytest.raises(IdentifierConflictError):
            await client.associate_user_identifiers(["hearsay@example.com", ("A", "slack")])
        proved = (await client.associate_user_identifiers(["proved@example.com"], verified=True))["muxi_user_id"]
        assert (await client.associate_user_identifiers(["proved@example.com", ("A", "slack")]))[
            "muxi_user_id"
        ] == proved


async def test_match_verified_keeps_the_hijacker_out(database_config: FormationConfig, time: Time) -> None:
    """Somebody writes in first under the victim's address and waits for the victim to sign in."""
    async with client_of(await matching(database_config, "verified"), time) as client:
        hijacker = (await client.chat("My name is Mallory", user_id="victim@example.com")).user_id
        result = await client.associate_user_identifiers(["victim@example.com", ("1001", "github")], verified=True)
        assert result["created"]
        assert result["muxi_user_id"] != hijacker
        assert await who(client, "victim@example.com") == result["muxi_user_id"]
        assert "Mallory" not in (await client.chat("What is my name?", user_id="victim@example.com")).text


async def test_proof_takes_an_identifier_without_its_data(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.create_user("usr_victim")
    session = (await client.chat("My name is Mallory", user_id="victim@example.com")).session_id
    hijacker = await who(client, "victim@example.com")
    await client.resolve_user(("M", "slack"), create_user=True)
    result = await client.associate_user_identifiers(["victim@example.com"], "usr_victim", verified=True)
    assert result["new_identifiers"] == ["victim@example.com"]
    assert result["merge_ids"] == []
    assert await who(client, "victim@example.com") == "usr_victim"
    assert "Mallory" not in (await client.chat("What is my name?", user_id="usr_victim")).text
    assert "Mallory" in (await client.chat("What is my name?", user_id=hijacker)).text
    with pytest.raises(SessionNotFoundError):
        await client.get_session_messages(session, "victim@example.com")
    rows = rows_of(await dump(database_config), "muxi_identifiers")
    old, new = sorted((row for row in rows if row["type"] == "email"), key=lambda row: row["linked_at"])
    assert old["unlinked_at"] is not None
    assert new["unlinked_at"] is None
    assert new["verified_at"] is not None


async def test_proof_takes_nothing_from_somebody_with_a_claim(client: AsyncFormationClient) -> None:
    await client.create_user("usr_victim")
    await client.associate_user_identifiers(["linked@example.com"])
    await client.resolve_user({"identifier": "proved@example.com", "verified": True}, create_user=True)
    for identifier in ("linked@example.com", "proved@example.com"):
        with pytest.raises(IdentifierConflictError):
            await client.associate_user_identifiers([identifier], "usr_victim", verified=True)


# Types, scopes and forms


async def test_a_typed_link_gives_an_untyped_row_its_type(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    known = await visitor(client, "U98765ABC")
    result = await client.associate_user_identifiers([("U98765ABC", "slack")], known)
    assert (result["new_identifiers"], result["existing_identifiers"]) == ([], ["U98765ABC"])
    (record,) = await client.get_user_identifiers(known, detailed=True)
    assert (record["identifier"], record["type"]) == ("U98765ABC", "slack")
    assert await who(client, "U98765ABC") == await who(client, ("U98765ABC", "slack")) == known
    assert await who(client, ("U98765ABC", "github")) is None
    assert len(rows_of(await dump(database_config), "muxi_identifiers")) == 1


async def test_a_look_up_never_writes_a_type(client: AsyncFormationClient) -> None:
    known = await visitor(client, "12345")
    assert await who(client, ("12345", "telegram")) is None
    other = await visitor(client, ("12345", "telegram"))
    assert other != known
    assert await who(client, 12345) == known
    (record,) = await client.get_user_identifiers(known, detailed=True)
    assert record["type"] is None


async def test_one_untyped_row_cannot_become_two_typed_ones(client: AsyncFormationClient) -> None:
    known = await visitor(client, "12345")
    result = await client.associate_user_identifiers([("12345", "telegram"), (12345, "github")])
    assert result["muxi_user_id"] == known
    assert (result["existing_identifiers"], result["new_identifiers"]) == (["12345"], ["12345"])
    for kind in ("telegram", "github"):
        assert await who(client, ("12345", kind)) == known
    records = await client.get_user_identifiers(known, detailed=True)
    assert [one["type"] for one in records] == ["telegram", "github"]


async def test_an_untyped_and_a_typed_spelling_of_different_people_conflict_in_a_link(
    client: AsyncFormationClient,
) -> None:
    bare = await visitor(client, "U98765ABC")
    await client.create_user("usr_alice")
    with pytest.raises(IdentifierConflictError) as caught:
        await client.associate_user_identifiers([("U98765ABC", "slack")], "usr_alice")
    assert caught.value.conflicts == [{"identifier": "U98765ABC", "type": "slack", "muxi_user_id": bare}]
    absorbed = await client.associate_user_identifiers([("U98765ABC", "slack")], "usr_alice", on_conflict="absorb")
    assert len(absorbed["merge_ids"]) == 1
    assert await who(client, "U98765ABC") == "usr_alice"


async def test_equal_numbers_of_two_systems_are_ambiguous_bare(client: AsyncFormationClient) -> None:
    telegram, github = await visitor(client, ("12345", "telegram")), await visitor(client, ("12345", "github"))
    assert telegram != github
    for call in (
        client.find_user("12345"),
        client.resolve_user(12345, create_user=True),
        client.chat("Hello", user_id="12345"),
        client.get_user_identifiers("12345"),
        client.unlink_user_identifier("12345"),
        client.associate_user_identifiers(["12345"]),
        client.associate_user_identifiers(["new"], "12345"),
    ):
        with pytest.raises(AmbiguousIdentifierError) as caught:
            await call
        assert caught.value.types == ["github", "telegram"]


async def test_scopes_tell_equal_ids_of_two_workspaces_apart(client: AsyncFormationClient) -> None:
    def slack(scope: str | None) -> dict[str, Any]:
        return {"identifier": "U1", "type": "slack", "scope": scope}

    one, two = await visitor(client, slack("T1")), await visitor(client, slack("T2"))
    assert one != two
    assert await client.channel("slack", scope="T2").find_user("U1") is not None
    assert await who(client, slack("T1")) == one
    with pytest.raises(AmbiguousIdentifierError, match="scope"):
        await client.find_user(("U1", "slack"))
    await client.unlink_user_identifier(slack("T2"), force=True)
    assert await who(client, ("U1", "slack")) == one
    (record,) = await client.get_user_identifiers(one, detailed=True)
    assert record["scope"] == "T1"


async def test_every_form_of_an_identifier_means_the_same(client: AsyncFormationClient) -> None:
    forms: list[Any] = [
        ("7007", "github"),
        ["7007", "github"],
        (7007, "github"),
        {"identifier": 7007, "type": "GitHub"},
    ]
    first = await client.associate_user_identifiers([forms[0]])
    for form in forms:
        assert await who(client, form) == first["muxi_user_id"]
        again = await client.associate_user_identifiers([form])
        assert again["existing_identifiers"] == ["7007"]
    assert await client.get_user_identifiers((7007, "github")) == ["7007"]
    with pytest.raises(InvalidRequestError):
        await client.associate_user_identifiers([(True, "github")])


async def test_identifiers_come_back_as_they_were_spelt_in_linking_order(client: AsyncFormationClient) -> None:
    spellings = ["Zoe@Example.COM", "  padded  ", "Ünïcode", "a"]
    linked = await client.associate_user_identifiers(spellings)
    await client.associate_user_identifiers([("last", "slack")], linked["muxi_user_id"])
    assert await client.get_user_identifiers("zoe@example.com") == ["Zoe@Example.COM", "padded", "Ünïcode", "a", "last"]


async def test_records_show_proof_expiry_source_and_metadata(client: AsyncFormationClient, time: Time) -> None:
    linked = await client.associate_user_identifiers(
        [
            {
                "identifier": "A",
                "type": "slack",
                "scope": "T1",
                "verified": True,
                "expires_at": "2099-01-31T12:00:00+01:00",
                "metadata": {"team": "Blue", "tags": ["x"]},
            },
            "plain",
        ],
        source="sync",
    )
    first, second = await client.get_user_identifiers(linked["muxi_user_id"], detailed=True)
    assert first["created_at"] == first["verified_at"]
    assert first == {
        "identifier": "A",
        "type": "slack",
        "scope": "T1",
        "verified": True,
        "verified_at": first["created_at"],
        "source": "sync",
        "expires_at": "2099-01-31T11:00:00.000000Z",
        "created_at": first["created_at"],
        "metadata": {"team": "Blue", "tags": ["x"]},
    }
    assert (second["verified"], second["expires_at"], second["metadata"]) == (False, None, None)
    await client.associate_user_identifiers(["plain"], verified=True, source="check")
    second = (await client.get_user_identifiers("plain", detailed=True))[1]
    assert second["verified"]
    assert second["verified_at"] > second["created_at"]
    assert second["source"] == "check"


# Limits


def limited(config: FormationConfig, total: int, **caps: int) -> FormationConfig:
    types = {**BUILT_IN_TYPES, **{kind: TypeRule(max_per_user=most) for kind, most in caps.items()}}
    return dataclasses.replace(
        config, identity=dataclasses.replace(config.identity, rules=IdentifierRules(types=types, max_per_user=total))
    )


async def test_limits_in_all(database_config: FormationConfig, time: Time) -> None:
    async with client_of(limited(database_config, 3), time) as client:
        await client.create_user("usr_alice")
        await client.associate_user_identifiers(["a", "b", "c"], "usr_alice")
        for request in (["d"], ["a", "d"], ["d", "e"]):
            with pytest.raises(IdentifierLimitError) as caught:
                await client.associate_user_identifiers(request, "usr_alice")
            assert (caught.value.limit, caught.value.type) == (3, None)
        with pytest.raises(IdentifierLimitError):
            await client.associate_user_identifiers(["d", "e", "f", "g"])
        await client.associate_user_identifiers(["c", "b", "a"], "usr_alice")
        await client.unlink_user_identifier("a")
        await client.associate_user_identifiers(["d"], "usr_alice")
        await visitor(client, "e")
        for mode in ("absorb", "merge"):
            with pytest.raises(IdentifierLimitError):
                await client.associate_user_identifiers(["e"], "usr_alice", on_conflict=mode)
        # A device that is promoted is retired: it takes no place.
        await visitor(client, ("device", "anonymous"))
        promoted = await client.associate_user_identifiers([("device", "anonymous")], "usr_alice", on_conflict="absorb")
        assert len(promoted["merge_ids"]) == 1


async def test_limits_of_a_type(database_config: FormationConfig, time: Time) -> None:
    async with client_of(limited(database_config, 100, crm=1), time) as client:
        linked = await client.associate_user_identifiers([("C1", "crm"), "a"])
        for user_id in (linked["muxi_user_id"], None):
            with pytest.raises(IdentifierLimitError) as caught:
                await client.associate_user_identifiers(["a", ("C2", "crm")], user_id)
            assert (caught.value.limit, caught.value.type) == (1, "crm")
        with pytest.raises(IdentifierLimitError):
            await client.associate_user_identifiers([("C2", "crm")], linked["muxi_user_id"])
        with pytest.raises(IdentifierLimitError):
            await client.associate_user_identifiers([("C2", "crm"), ("C3", "crm")])
        # An untyped row that becomes one counts.
        await client.associate_user_identifiers(["C4"], linked["muxi_user_id"])
        with pytest.raises(IdentifierLimitError):
            await client.associate_user_identifiers([("C4", "crm")])
        await visitor(client, ("C5", "crm"))
        with pytest.raises(IdentifierLimitError):
            await client.associate_user_identifiers([("C5", "crm"), "a"], on_conflict="merge")


async def test_a_limit_that_was_lowered_takes_nothing_away(database_config: FormationConfig, time: Time) -> None:
    async with client_of(limited(database_config, 4), time) as client:
        linked = await client.associate_user_identifiers(["a", "b", "c", "d"])
    async with client_of(limited(database_config, 2), time) as client:
        again = await client.associate_user_identifiers(["a", "b", "c", "d"])
        assert again["muxi_user_id"] == linked["muxi_user_id"]
        assert again["existing_identifiers"] == ["a", "b", "c", "d"]


# Unlinking and expiry


async def test_unlinking_leaves_a_tombstone_and_relinking_makes_a_new_row(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    linked = await client.associate_user_identifiers(["a", "b"])
    session = (await client.chat("My budget is $5,000", user_id="a")).session_id
    done = await client.unlink_user_identifier("a", source="admin", reason="left")
    assert done == {
        "identifier": "a",
        "muxi_user_id": linked["muxi_user_id"],
        "message": f"a is no longer linked to {linked['muxi_user_id']}.",
    }
    assert await who(client, "a") is None
    assert "$5,000" in (await client.chat("What's my budget?", user_id="b")).text
    with pytest.raises(IdentifierNotFoundError):
        await client.unlink_user_identifier("a")
    again = await client.associate_user_identifiers(["a"], linked["muxi_user_id"])
    assert again["new_identifiers"] == ["a"]
    assert await client.get_user_identifiers("b") == ["b", "a"]
    with pytest.raises(SessionNotFoundError):  # a session belongs to the row that it was held under
        await client.get_session_messages(session, "a")
    rows = [row for row in rows_of(await dump(database_config), "muxi_identifiers") if row["spelling"] == "a"]
    assert len({row["pk"] for row in rows}) == 2
    assert sorted(row["unlinked_at"] is None for row in rows) == [False, True]


async def test_the_last_identifier_needs_force(client: AsyncFormationClient) -> None:
    linked = await client.associate_user_identifiers(["a", {"identifier": "b", "expires_at": "2099-01-01T00:00:00Z"}])
    await client.unlink_user_identifier("b")
    with pytest.raises(LastIdentifierError) as caught:
        await client.unlink_user_identifier("a")
    assert caught.value.user_id == linked["muxi_user_id"]
    await client.unlink_user_identifier("a", force=True)
    assert await client.get_user_identifiers(linked["muxi_user_id"]) == []
    assert (await client.get_user(linked["muxi_user_id"]))["identifier_count"] == 0


async def test_an_expired_identifier_is_unknown_and_can_be_linked_by_another(
    client: AsyncFormationClient, time: Time
) -> None:
    first = await client.associate_user_identifiers(
        ["stays", {"identifier": "phone-loan", "expires_at": iso(time.at + 10_000_000)}]
    )
    assert await who(client, "phone-loan") == first["muxi_user_id"]  # cached from now on
    time.advance(11)
    assert await who(client, "phone-loan") is None
    assert await client.get_user_identifiers("stays") == ["stays"]
    with pytest.raises(LastIdentifierError):
        await client.unlink_user_identifier("stays")
    await client.create_user("usr_bob")
    await client.associate_user_identifiers(["phone-loan"], "usr_bob")
    assert await who(client, "phone-loan") == "usr_bob"


async def test_a_first_contact_that_expires_does_so_through_the_cache_too(
    client: AsyncFormationClient, time: Time
) -> None:
    lent = {"identifier": "phone-loan", "expires_at": iso(time.at + 10_000_000)}
    made = await client.resolve_user(lent, create_user=True)
    assert await who(client, "phone-loan") == made["muxi_user_id"]
    time.advance(11)
    assert await who(client, "phone-loan") is None


async def test_an_expiry_can_be_moved_but_not_into_the_past(client: AsyncFormationClient, time: Time) -> None:
    await client.associate_user_identifiers([{"identifier": "a", "expires_at": iso(time.at + 10_000_000)}, "b"])
    assert await who(client, "a") is not None
    await client.associate_user_identifiers([{"identifier": "a", "expires_at": iso(time.at + 100_000_000)}])
    time.advance(11)
    assert await who(client, "a") is not None
    for identifier in ("a", "b", "new"):
        with pytest.raises(InvalidRequestError, match="expires_at"):
            await client.associate_user_identifiers([{"identifier": identifier, "expires_at": iso(time.at)}])
    time.advance(100)
    assert await who(client, "a") is None


# After a merge


async def test_public_ids_of_merged_users_keep_answering(client: AsyncFormationClient) -> None:
    for user_id in ("usr_a", "usr_b", "usr_c"):
        await client.create_user(user_id)
        await client.associate_user_identifiers([f"{user_id[4:]}@example.com"], user_id)
    await client.associate_user_identifiers(["c@example.com"], "usr_b", on_conflict="merge")
    await client.associate_user_identifiers(["b@example.com"], "usr_a", on_conflict="merge")
    for user_id in ("usr_b", "usr_c"):
        assert await who(client, user_id) == "usr_a"
        record = await client.get_user(user_id)
        assert (record["muxi_user_id"], record["merged_into"]) == ("usr_a", "usr_a")
        assert record["merged_users"] == ["usr_b", "usr_c"]
    assert (await client.get_user("usr_a"))["merged_into"] is None
    assert (await client.get_user("c@example.com"))["merged_into"] is None
    assert await client.get_user_identifiers("usr_c") == ["a@example.com", "b@example.com", "c@example.com"]
    assert [user["muxi_user_id"] for user in (await client.list_users())["users"]] == ["usr_a"]
    with pytest.raises(UserExistsError):
        await client.create_user("usr_c")
    with pytest.raises(MergeConflictError) as caught:
        await client.delete_user("usr_c")
    assert caught.value.merged_users == ["usr_b", "usr_c"]
    deleted = await client.delete_user("usr_c", include_merged=True)
    assert (deleted["muxi_user_id"], deleted["merged_users"]) == ("usr_a", ["usr_b", "usr_c"])
    for user_id in ("usr_a", "usr_b", "usr_c"):
        assert await who(client, user_id) is None


async def test_writes_go_under_the_member_that_was_named(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    for user_id in ("usr_a", "usr_b"):
        await client.create_user(user_id)
    await client.associate_user_identifiers(["b@example.com"], "usr_b")
    await client.associate_user_identifiers(["b@example.com"], "usr_a", on_conflict="merge")
    await client.associate_user_identifiers([("B", "slack")], "usr_b")  # by the merged id
    assert (await client.chat("My name is Bo", user_id="usr_b")).user_id == "usr_a"
    await client.chat("My budget is $5", user_id=("B", "slack"))
    await client.chat("My city is Oslo", user_id="usr_a")
    tables = await dump(database_config)
    pks = {row["public_id"]: row["pk"] for row in rows_of(tables, "muxi_users")}
    assert {row["user_pk"] for row in rows_of(tables, "muxi_identifiers")} == {pks["usr_b"]}
    owners = {row["content"]: row["user_pk"] for row in rows_of(tables, "muxi_memories")}
    assert [owner for content, owner in owners.items() if "Oslo" in content] == [pks["usr_a"]]
    assert [owner for content, owner in owners.items() if "Bo" in content] == [pks["usr_b"]]
    assert [owner for content, owner in owners.items() if "$5" in content] == [pks["usr_b"]]


async def test_facts_are_shared_after_a_merge_and_the_newest_wins(client: AsyncFormationClient) -> None:
    await client.chat("My budget is $5,000", user_id="web")
    await client.chat("My budget is $7,000", user_id="slack")
    await client.chat("My city is Oslo", user_id="web")
    await client.associate_user_identifiers(["web", "slack"], on_conflict="absorb")
    for channel in ("web", "slack"):
        assert "$7,000" in (await client.chat("What's my budget?", user_id=channel)).text
        assert "Oslo" in (await client.chat("What is my city?", user_id=channel)).text
    await client.chat("My budget is $9,000", user_id="web")
    assert "$9,000" in (await client.chat("What's my budget?", user_id="slack")).text


async def test_sessions_stay_apart_after_a_merge(client: AsyncFormationClient) -> None:
    web = await client.chat("Hello from the web", user_id="web", session_id="same-name")
    await client.chat("Hello from Slack", user_id="slack", session_id="same-name")
    await client.associate_user_identifiers(["web", "slack"], on_conflict="absorb")
    assert (await client.chat("Again", user_id="web", session_id="same-name")).session_id == web.session_id
    for channel, greeting, number in (("web", "Hello from the web", 4), ("slack", "Hello from Slack", 2)):
        found = await client.get_session_messages("same-name", channel)
        assert found["messages"][0]["content"] == greeting
        assert found["count"] == number
    # By public id the whole person is read, and it would be a guess which of the two is meant.
    with pytest.raises(InvalidRequestError, match="name the identifier"):
        await client.get_session_messages("same-name", web.user_id)


# Listing


async def test_pages_neither_shift_nor_repeat_while_users_come(client: AsyncFormationClient) -> None:
    made = [(await client.create_user())["muxi_user_id"] for _ in range(5)]
    seen: list[str] = []
    cursor = None
    for number in range(100):
        page = await client.list_users(limit=2, cursor=cursor)
        assert page["count"] == len(page["users"])
        seen += [user["muxi_user_id"] for user in page["users"]]
        if number < 3:
            made.append((await client.create_user())["muxi_user_id"])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made
    whole = await client.list_users(limit=8)
    assert ([user["muxi_user_id"] for user in whole["users"]], whole["next_cursor"]) == (made, None)


def _encoded(text: str | bytes) -> str:
    return base64.urlsafe_b64encode(text if isinstance(text, bytes) else text.encode()).decode()


BAD_CURSORS: list[Any] = [
    "",
    "x",
    "\ud800",
    "\0",
    "é",
    7,
    b"x",
    ["x"],
    "A" * 1_000_000,
    *(
        _encoded(text)
        for text in (
            "5",
            "null",
            "[]",
            "[1]",
            "[1, 2]",
            '["a", "b"]',
            '[true, "usr_a"]',
            '{"a": 1, "b": 2}',
            '[1, "a", 2]',
            f'[{10**30}, "usr_a"]',
            f'[{"9" * 5000}, "usr_a"]',
            f'[{-(2**63) - 1}, "usr_a"]',
            '[1, "\\ud800"]',
            '[1, "\\u0000"]',
            "[" * 100_000,
            b"\xff\xfe",
        )
    ),
]


async def test_bad_cursors_and_limits(client: AsyncFormationClient, subtests: pytest.Subtests) -> None:
    for number, cursor in enumerate(BAD_CURSORS):
        with subtests.test(f"cursor {number}"), pytest.raises(InvalidRequestError):
            await client.list_users(cursor=cursor)
    bad_limits: list[Any] = [0, -1, 501, "50", None, 1.5, True, 10**30]
    for limit in bad_limits:
        with subtests.test(f"limit {limit}"), pytest.raises(InvalidRequestError):
            await client.list_users(limit=limit)


# Users


async def test_a_chosen_id_is_found_again_as_it_is_written(client: AsyncFormationClient) -> None:
    assert (await client.create_user("  usr_alice "))["muxi_user_id"] == "usr_alice"
    assert (await client.get_user("usr_alice"))["muxi_user_id"] == "usr_alice"
    with pytest.raises(UserExistsError):
        await client.create_user("usr_alice")
    await client.delete_user("usr_alice")
    assert (await client.create_user("usr_alice"))["identifier_count"] == 0


async def test_first_contact_does_not_establish_and_linking_does(client: AsyncFormationClient) -> None:
    user_id = await visitor(client, "a")
    assert not (await client.get_user(user_id))["established"]
    await client.associate_user_identifiers(["a"])
    assert (await client.get_user(user_id))["established"]


# History


async def test_history_tells_what_was_done_by_whom_from_where_and_why(
    database_config: FormationConfig, time: Time
) -> None:
    client = client_of(database_config, time)
    client._actor = "operator"
    async with client:
        await client.create_user("usr_alice", source="crm", reason="signed a contract")
        before = time.at
        await client.associate_user_identifiers(["a@example.com", ("A", "slack")], "usr_alice", source="sync")
        visitor_id = await visitor(client, "B")
        await client.associate_user_identifiers(
            [("B", "slack")], "usr_alice", on_conflict="absorb", reason="same person"
        )
        await client.unlink_user_identifier(("A", "slack"), source="admin", reason="left")
        await client.create_user("usr_gone", reason="by mistake")
        await client.delete_user("usr_gone", source="admin")
    found = await events_of(database_config)
    named = {row["pk"]: row["spelling"] for row in rows_of(await dump(database_config), "muxi_identifiers")}
    assert [(row["event"], row["user_id"], row["other_user_id"], named.get(row["identifier_pk"])) for row in found] == [
        ("user:create", "usr_alice", None, None),
        ("identifier:link", "usr_alice", None, "a@example.com"),
        ("identifier:link", "usr_alice", None, "A"),
        ("user:create", visitor_id, None, None),
        ("identifier:link", visitor_id, None, "B"),
        ("user:merge", "usr_alice", visitor_id, None),
        ("identifier:update", "usr_alice", None, "B"),
        ("identifier:unlink", "usr_alice", None, "A"),
        ("user:create", "usr_gone", None, None),
        ("user:delete", "usr_gone", None, None),
    ]
    assert {row["actor"] for row in found} == {"operator"}
    assert [(row["source"], row["reason"]) for row in found] == [
        ("crm", "signed a contract"),
        ("sync", None),
        ("sync", None),
        ("resolve_user", None),
        ("resolve_user", None),
        (None, "same person"),
        (None, "same person"),
        ("admin", "left"),
        (None, None),  # what was said of somebody who was deleted goes
        ("admin", None),
    ]
    assert found[0]["at"] <= before < found[1]["at"] == found[2]["at"] <= time.at
    (merge,) = rows_of(await dump(database_config), "muxi_merges")
    assert (merge["merge_id"], merge["mode"]) == (found[5]["merge_id"], "absorb")
    assert (merge["actor"], merge["reason"]) == ("operator", "same person")
    # Ids alone: nothing that outlives a person names them.
    assert not any("example.com" in repr(row) for row in found)


# Idempotency


async def test_a_call_sent_again_gets_the_same_answer(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await visitor(client, "B")
    request: list[Any] = [
        "a@example.com",
        ("B", "slack"),
        ("device", "anonymous"),
        ("key_7Hq2mZx9Lw4Tn8Rb5Vc1", "api_key"),
    ]
    first = await client.associate_user_identifiers(request, on_conflict="absorb", idempotency_key="once")
    assert first["new_identifiers"]
    before = await dump(database_config)
    assert await client.associate_user_identifiers(request, on_conflict="absorb", idempotency_key="once") == first
    assert await dump(database_config) == before
    assert "a@example.com" not in repr(before["muxi_idempotency"])


async def test_a_key_is_for_one_request(client: AsyncFormationClient) -> None:
    await client.create_user("usr_a")
    await client.associate_user_identifiers(["a"], idempotency_key="once")
    other: list[dict[str, Any]] = [
        {"identifiers": ["b"]},
        {"identifiers": ["a", "b"]},
        {"identifiers": [("a", "slack")]},
        {"identifiers": [{"identifier": "a", "verified": True}]},
        {"identifiers": ["a"], "user_id": "usr_a"},
        {"identifiers": ["a"], "on_conflict": "merge"},
        {"identifiers": ["a"], "verified": True},
    ]
    for arguments in other:
        with pytest.raises(InvalidRequestError, match="idempotency_key"):
            await client.associate_user_identifiers(**arguments, idempotency_key="once")
    assert await who(client, "b") is None


async def test_a_repeated_call_is_answered_though_its_user_is_named_otherwise_by_now(
    client: AsyncFormationClient,
) -> None:
    await client.associate_user_identifiers(["a@example.com", "spare"])
    first = await client.associate_user_identifiers(["new"], "a@example.com", idempotency_key="once")
    await client.unlink_user_identifier("a@example.com")
    assert await client.associate_user_identifiers(["new"], "a@example.com", idempotency_key="once") == first
    await client.create_user("usr_other")
    await client.associate_user_identifiers(["a@example.com"], "usr_other")
    assert await client.associate_user_identifiers(["new"], "a@example.com", idempotency_key="once") == first


async def test_a_key_is_forgotten_after_a_day(client: AsyncFormationClient, time: Time) -> None:
    first = await client.associate_user_identifiers(["a"], idempotency_key="once")
    time.advance(24 * 3600 + 1)
    again = await client.associate_user_identifiers(["a"], idempotency_key="once")
    assert (again["muxi_user_id"], again["created"]) == (first["muxi_user_id"], False)


async def test_a_key_belongs_to_its_formation(database_config: FormationConfig, time: Time) -> None:
    other_config = dataclasses.replace(database_config, id=f"{database_config.id}-2")
    async with client_of(database_config, time) as one, client_of(other_config, time) as two:
        first = await one.associate_user_identifiers(["a"], idempotency_key="once")
        second = await two.associate_user_identifiers(["b"], idempotency_key="once")
        assert second["created"]
        assert second["muxi_user_id"] != first["muxi_user_id"]


async def test_a_user_that_nobody_has_is_refused_by_name(client: AsyncFormationClient) -> None:
    with pytest.raises(UserNotFoundError) as caught:
        await client.associate_user_identifiers(["a"], "usr_nobody")
    assert caught.value.user_id == "usr_nobody"
    assert json.dumps(dict(caught.value.details)) == '{"user_id": "usr_nobody"}'


async def test_another_workspace_does_not_lock_out_whoever_has_no_scope(client: AsyncFormationClient) -> None:
    first = await client.associate_user_identifiers([("U2", "slack")])
    other = await client.associate_user_identifiers([{"identifier": "U2", "type": "slack", "scope": "T2"}])
    assert first["muxi_user_id"] != other["muxi_user_id"]
    assert (await client.resolve_user(("U2", "slack")))["muxi_user_id"] == first["muxi_user_id"]
