"""The attack list: ways to become somebody else, or to have somebody else's data join one's own. Each is tried."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.errors import IdentifierConflictError, InvalidIdentifierError, MergeConflictError
from tests.formations import dump, rows_of
from tests.invariants import check_invariants

VICTIM = "victim@x.com"
PLANTED = "My bank is Mallory's"


@pytest.fixture
async def client(database_config: FormationConfig) -> AsyncIterator[AsyncFormationClient]:
    """Mallory wrote in first, as the victim."""
    async with AsyncFormationClient(database_config) as client:
        await client.chat(PLANTED, VICTIM)
        yield client
        await check_invariants(database_config)


async def planted(client: AsyncFormationClient, user_id: Any) -> bool:
    return "Mallory" in (await client.chat("What's my bank?", user_id)).text


async def who(client: AsyncFormationClient, identifier: Any) -> str | None:
    found = await client.find_user(identifier)
    return found and found["muxi_user_id"]


@pytest.mark.parametrize("given", [None, "usr_victim"])
@pytest.mark.parametrize("others", [[], [("1001", "github")]])
@pytest.mark.parametrize("whole", [True, False], ids=["call", "identifier"])
async def test_pre_hijacking_by_an_unverified_address(
    client: AsyncFormationClient, given: str | None, others: list[Any], whole: bool
) -> None:
    mallory = await who(client, VICTIM)
    if given:
        await client.create_user(given)
    proved: Any = VICTIM if whole else {"identifier": VICTIM, "verified": True}
    linked = await client.associate_user_identifiers([proved, *others], given, verified=whole)
    assert linked["muxi_user_id"] not in (None, mallory)
    assert linked["created"] == (given is None)
    assert linked["merge_ids"] == []
    assert await who(client, VICTIM) == linked["muxi_user_id"]
    assert not await planted(client, VICTIM)
    # Nothing is lost: it lies where it was said, and whoever is sure may join it.
    assert await planted(client, mallory)
    # Sent again, nothing changes.
    again = await client.associate_user_identifiers([proved, *others], given, verified=whole)
    assert (again["muxi_user_id"], again["new_identifiers"]) == (linked["muxi_user_id"], [])


async def test_pre_hijacking_twice_over(client: AsyncFormationClient) -> None:
    """Mallory holds both of the victim's names, each as a user of its own."""
    await client.chat(PLANTED, ("1001", "github"))
    linked = await client.associate_user_identifiers([VICTIM, ("1001", "github")], verified=True)
    assert linked["created"]
    assert not await planted(client, VICTIM)
    assert not await planted(client, ("1001", "github"))


async def test_proof_of_one_is_no_proof_of_another(client: AsyncFormationClient) -> None:
    """Mallory proves an address of his own, beside the victim's: where only proof counts, he gets nothing."""
    config = client._lifecycle.config
    identity = dataclasses.replace(config.identity, match="verified")
    async with AsyncFormationClient(dataclasses.replace(config, identity=identity)) as strict:
        await strict.create_user("usr_settled")
        await strict.associate_user_identifiers(["settled@x.com"], "usr_settled")
        with pytest.raises(IdentifierConflictError):
            await strict.associate_user_identifiers(
                [{"identifier": "mallory@x.com", "verified": True}, "settled@x.com"]
            )
        assert await who(strict, "mallory@x.com") is None


async def test_under_absorb_the_caller_asks_for_what_was_said_before(client: AsyncFormationClient) -> None:
    """It joins as a merge, where the victim is known: what Mallory planted can be taken out again, exactly."""
    await client.create_user("usr_victim")
    linked = await client.associate_user_identifiers([VICTIM], "usr_victim", on_conflict="absorb", verified=True)
    assert await planted(client, "usr_victim")
    (merge_id,) = linked["merge_ids"]
    await client.unmerge_users(merge_id)
    assert not await planted(client, "usr_victim")


async def test_under_absorb_a_strict_formation_takes_the_identifier_alone(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    identity = dataclasses.replace(database_config.identity, match="verified")
    async with AsyncFormationClient(dataclasses.replace(database_config, identity=identity)) as strict:
        await strict.associate_user_identifiers([VICTIM, ("1001", "github")], on_conflict="absorb", verified=True)
        assert await who(strict, VICTIM) == await who(strict, ("1001", "github"))
        assert not await planted(strict, VICTIM)


async def test_proof_does_not_take_from_whoever_was_established_or_proved(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([VICTIM])
    owner = await who(client, VICTIM)
    await client.create_user("usr_mallory")
    with pytest.raises(IdentifierConflictError):
        await client.associate_user_identifiers([VICTIM], "usr_mallory", verified=True)
    with pytest.raises(IdentifierConflictError):
        await client.associate_user_identifiers([VICTIM], "usr_mallory", on_conflict="absorb", verified=True)
    assert await who(client, VICTIM) == owner


@pytest.mark.parametrize(
    "junk", ["null", "undefined", "[object Object]", "None", "guest", "0", "true", "", "\u200b", "${user.id}"]
)
async def test_nobody_is_merged_through_a_junk_identifier(
    client: AsyncFormationClient, database_config: FormationConfig, junk: str
) -> None:
    """A broken front end sends the same for everybody: linked, it would make one person of them all."""
    before = rows_of(await dump(database_config), "muxi_users")
    for call in (
        client.associate_user_identifiers([VICTIM, junk], on_conflict="merge"),
        client.merge_users(VICTIM, junk),
        client.split_user(VICTIM, [junk]),
        client.replace_identifier(VICTIM, junk),
        client.replace_identifier(junk, VICTIM),
        client.rotate_identifier(junk, "key_0123456789ab"),
        client.explain(junk, VICTIM),
        client.get_user_history(junk),
    ):
        with pytest.raises(InvalidIdentifierError):
            await call
    assert rows_of(await dump(database_config), "muxi_users") == before


async def test_a_shared_device_joins_nobody(client: AsyncFormationClient) -> None:
    """Ann, then Bob, sign in at the same kiosk: what each did there goes along, and nothing of the other."""
    kiosk = ("kiosk-1", "anonymous")
    people = []
    for name in ("ann", "bob"):
        await client.chat(f"My pet is {name}'s", kiosk)
        linked = await client.associate_user_identifiers([f"{name}@x.com", kiosk], on_conflict="absorb")
        people.append(linked["muxi_user_id"])
        assert f"{name}'s" in (await client.chat("What's my pet?", f"{name}@x.com")).text
        assert await who(client, kiosk) is None
    assert len(set(people)) == 2
    assert "bob" not in (await client.chat("What's my pet?", "ann@x.com")).text


async def test_merges_make_no_circle(client: AsyncFormationClient) -> None:
    for name in ("a", "b", "c"):
        await client.create_user(f"usr_{name}")
    ids = {}
    for pair in (("usr_a", "usr_b"), ("usr_b", "usr_c"), ("usr_c", "usr_a"), ("usr_b", "usr_a")):
        merged = await client.merge_users(*pair)
        ids[pair] = merged["merge_id"]
        assert merged["muxi_user_id"] == "usr_a"
    assert ids[("usr_c", "usr_a")] == ids[("usr_b", "usr_c")]
    assert ids[("usr_b", "usr_a")] == ids[("usr_a", "usr_b")]
    with pytest.raises(MergeConflictError):
        await client.merge_users("usr_a", "usr_a")
    # Out of the middle, and in again from below: still no circle.
    await client.unmerge_users(str(ids[("usr_a", "usr_b")]))
    await client.merge_users("usr_b", "usr_a")
    assert {await who(client, f"usr_{name}") for name in "abc"} == {"usr_a", "usr_b"} - {"usr_a"} | {
        await who(client, "usr_c")
    }


async def test_nobody_leaves_with_what_another_channel_wrote(client: AsyncFormationClient) -> None:
    """A split takes what came through the identifier, not the person's memory."""
    await client.associate_user_identifiers(["ann@x.com", ("M", "slack")])
    await client.chat("My pin is 1234", "ann@x.com")
    await client.split_user("ann@x.com", [("M", "slack")])
    assert "1234" not in (await client.chat("What's my pin?", ("M", "slack"))).text
