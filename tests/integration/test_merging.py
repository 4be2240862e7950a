"""Merging by hand, undoing it, and splitting: what each answers, refuses, shows beforehand and writes down."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.errors import (
    AmbiguousIdentifierError,
    IdentifierConflictError,
    IdentifierLimitError,
    IdentifierNotFoundError,
    InvalidIdentifierError,
    InvalidRequestError,
    LastIdentifierError,
    MergeConflictError,
    MergeNotFoundError,
    UserNotFoundError,
)
from muxi_identity.identifiers import IdentifierRules
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import credentials, preferences
from tests.formations import Time, client_of, dump, rows_of
from tests.invariants import check_invariants

SLACK = ("U98765ABC", "slack")


@pytest.fixture
async def client(database_config: FormationConfig) -> AsyncIterator[AsyncFormationClient]:
    """Alice by e-mail, who knows a budget and a city, and somebody on Slack with another budget and a name."""
    time = Time()
    async with client_of(database_config, time) as client:
        await client.create_user("usr_alice")
        await client.associate_user_identifiers(["alice@x.com"], "usr_alice")
        await client.chat("My budget is 5", "alice@x.com")
        await client.chat("I live in Berlin", "alice@x.com")
        await client.chat("My budget is 9", SLACK)
        await client.chat("My pet is Rex", SLACK)
        yield client
        await check_invariants(database_config, now=time.at)


async def knows(client: AsyncFormationClient, user_id: Any, question: str, answer: str) -> bool:
    return answer in (await client.chat(question, user_id)).text


async def who(client: AsyncFormationClient, identifier: Any) -> str | None:
    found = await client.find_user(identifier)
    return found and found["muxi_user_id"]


async def on(client: AsyncFormationClient, user_id: Any, work: Any) -> Any:
    """Run ``work`` under the guard, as what belongs to a person is written."""
    formation = await client._formation()
    return await formation.memories._access.write(formation.parse(user_id), work, client._caller())


# Merging


async def test_a_merge_brings_everything_together_at_once(client: AsyncFormationClient) -> None:
    visitor = await who(client, SLACK)
    merged = await client.merge_users("alice@x.com", SLACK, reason="same phone number", source="support")
    assert merged == {
        "merge_id": merged["merge_id"],
        "muxi_user_id": "usr_alice",
        "merged_user_id": visitor,
        "already_merged": False,
        "merged_at": merged["merged_at"],
        "separated_at": None,
        "dry_run": False,
        "preview": None,
    }
    for name in ("alice@x.com", SLACK, "usr_alice", visitor):
        assert await who(client, name) == "usr_alice"
        assert await knows(client, name, "What's my budget?", "9")
        assert await knows(client, name, "Where do I live?", "Berlin")
    assert (await client.get_user(visitor))["merged_into"] == "usr_alice"
    assert await client.get_user_identifiers("usr_alice") == ["alice@x.com", "U98765ABC"]


async def test_the_same_two_again_have_the_same_answer(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    visitor = await who(client, SLACK)
    first = await client.merge_users("usr_alice", SLACK)
    before = await dump(database_config)
    for pair in (("usr_alice", SLACK), (SLACK, "usr_alice"), (visitor, "alice@x.com")):
        again = await client.merge_users(*pair)
        assert again == {**first, "already_merged": True}
    assert await dump(database_config) == before


async def test_of_a_chain_each_pair_names_the_merge_that_joined_it(client: AsyncFormationClient) -> None:
    for name in ("usr_b", "usr_c", "usr_d"):
        await client.create_user(name)
    cd = await client.merge_users("usr_c", "usr_d")
    ab = await client.merge_users("usr_alice", "usr_b")
    joined = await client.merge_users("usr_b", "usr_d")
    assert (joined["muxi_user_id"], joined["merged_user_id"]) == ("usr_alice", "usr_c")
    for pair, merge in (
        (("usr_c", "usr_d"), cd),
        (("usr_b", "usr_alice"), ab),
        (("usr_d", "usr_b"), joined),
        (("usr_c", "usr_alice"), joined),
    ):
        assert (await client.merge_users(*pair))["merge_id"] == merge["merge_id"]


@pytest.mark.parametrize("pair", [("usr_alice", "usr_alice"), ("usr_alice", "Alice@X.com"), (SLACK, SLACK)])
async def test_a_user_is_not_merged_with_itself(client: AsyncFormationClient, pair: tuple[Any, Any]) -> None:
    for dry_run in (True, False):
        with pytest.raises(MergeConflictError, match="itself"):
            await client.merge_users(*pair, dry_run=dry_run)


async def test_who_is_nobody_is_not_merged(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    other = dataclasses.replace(database_config, id=f"{database_config.id}-2")
    async with AsyncFormationClient(other) as elsewhere:
        await elsewhere.create_user("usr_elsewhere")
    before = await dump(database_config)
    for stranger in ("usr_elsewhere", "nobody@x.com", ("key_0123456789ab", "api_key")):
        for pair in ((stranger, "usr_alice"), ("usr_alice", stranger)):
            with pytest.raises(UserNotFoundError):
                await client.merge_users(*pair)
    for junk in ("null", "undefined", "", "guest", "[object Object]", "usr_", None, True):
        with pytest.raises(InvalidIdentifierError):
            await client.merge_users("usr_alice", junk)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="dry_run"):
        await client.merge_users("usr_alice", SLACK, dry_run="no")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="reason"):
        await client.merge_users("usr_alice", SLACK, reason="\x00")
    assert await dump(database_config) == before


async def test_an_ambiguous_name_merges_nobody(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([("12345", "telegram")], "usr_alice")
    await client.resolve_user(("12345", "github"), create_user=True)
    with pytest.raises(AmbiguousIdentifierError):
        await client.merge_users("usr_alice", "12345")


async def test_a_merge_past_a_limit_is_refused_and_previewed(database_config: FormationConfig) -> None:
    types = dict(database_config.identity.rules.types)
    types["crm"] = dataclasses.replace(types["slack"], max_per_user=1)
    rules = IdentifierRules(types=types, max_per_user=3)
    config = dataclasses.replace(database_config, identity=dataclasses.replace(database_config.identity, rules=rules))
    async with AsyncFormationClient(config) as client:
        for name in ("a", "b"):
            await client.create_user(f"usr_{name}")
            await client.associate_user_identifiers([name, (f"7{name}", "crm")], f"usr_{name}")
        preview = (await client.merge_users("usr_a", "usr_b", dry_run=True))["preview"]
        assert preview is not None
        assert preview["passed_limits"] == [
            {"type": None, "limit": 3, "count": 4},
            {"type": "crm", "limit": 1, "count": 2},
        ]
        before = await dump(config)
        with pytest.raises(IdentifierLimitError) as caught:
            await client.merge_users("usr_a", "usr_b")
        assert caught.value.limit == 3
        assert await dump(config) == before


async def test_a_preview_tells_what_would_come_together_and_writes_nothing(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    def set_both(value: str) -> Any:
        def work(tx: Transaction, hit: Hit) -> None:
            own = {"formation_id": tx.formation_id, "user_pk": hit.member_pk, "identifier_pk": hit.identifier_pk}
            times = {"created_at": tx.now, "updated_at": tx.now}
            one, other = tx.new_keys(2)
            tx.connection.execute(
                insert(preferences).values(pk=one, key="language", value=f'"{value}"', shareable=False, **own, **times)
            )
            tx.connection.execute(
                insert(credentials).values(
                    pk=other,
                    credential_id=f"cred_{value}",
                    service="github",
                    name="default",
                    ciphertext=b"never shown, and long enough to be one",
                    key_id="k",
                    preview=f"ghp_...{value}",
                    **own,
                    **times,
                )
            )

        return work

    await on(client, SLACK, set_both("de"))
    await on(client, "alice@x.com", set_both("en"))
    visitor = await who(client, SLACK)
    before = await dump(database_config)
    merged = await client.merge_users(SLACK, "usr_alice", dry_run=True)
    assert (merged["merge_id"], merged["merged_at"], merged["dry_run"]) == (None, None, True)
    preview = merged["preview"]
    assert preview is not None
    assert preview["secondary"]["muxi_user_id"] == "usr_alice"
    assert preview["secondary"]["established"]
    assert preview["primary"]["muxi_user_id"] == visitor
    assert not preview["primary"]["established"]
    assert preview["primary"]["identifiers"] == [{"identifier": "U98765ABC", "type": "slack"}]
    assert preview["primary"]["rows"] == {
        "credentials": 1,
        "memories": 2,
        "messages": 4,
        "preferences": 1,
        "sessions": 1,
        "working_memory": 4,
    }
    shown = {tuple(each["key"]): each for each in preview["equal_keys"]}
    assert preview["equal_key_count"] == 3
    assert set(shown) == {("fact", "budget"), ("language",), ("github", "default")}
    assert shown[("language",)]["primary"]["value"] == '"de"'
    assert shown[("language",)]["wins"] == "secondary"
    assert shown[("github", "default")]["secondary"]["value"] == "ghp_...en"
    assert shown[("fact", "budget")]["wins"] == "primary"
    assert "never shown" not in repr(merged)
    assert "_pk" not in repr(merged)
    assert await dump(database_config) == before
    assert await who(client, SLACK) == visitor


# Unmerging


async def test_an_unmerge_gives_each_side_its_own(client: AsyncFormationClient) -> None:
    visitor = await who(client, SLACK)
    merged = await client.merge_users("usr_alice", SLACK)
    await client.chat("My car is red", SLACK)
    await client.chat("My boat is blue", "alice@x.com")
    undone = await client.unmerge_users(str(merged["merge_id"]), reason="brothers")
    assert (undone["muxi_user_id"], undone["separated_user_id"]) == ("usr_alice", visitor)
    assert not undone["already_undone"]
    assert (await who(client, SLACK), await who(client, visitor)) == (visitor, visitor)
    assert (await client.get_user(visitor))["merged_into"] is None
    for name, told, untold in ((SLACK, ("9", "Rex", "red"), "blue"), ("alice@x.com", ("5", "Berlin", "blue"), "red")):
        asked = ["What's my budget?", "What's my pet?" if name == SLACK else "Where do I live?"]
        asked.append("What's my car?" if name == SLACK else "What's my boat?")
        for question, answer in zip(asked, told, strict=True):
            assert await knows(client, name, question, answer)
        assert not await knows(client, name, "What's my boat?" if name == SLACK else "What's my car?", untold)


async def test_undoing_again_and_what_never_was(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    merged = await client.merge_users("usr_alice", SLACK)
    first = await client.unmerge_users(str(merged["merge_id"]))
    before = await dump(database_config)
    for dry_run in (False, True):
        again = await client.unmerge_users(str(merged["merge_id"]), dry_run=dry_run)
        assert again == {**first, "already_undone": True, "dry_run": dry_run}
    for unknown in ("mrg_nobody", "'; DROP TABLE muxi_merges; --", "%", "m" * 64):
        with pytest.raises(MergeNotFoundError):
            await client.unmerge_users(unknown)
    for wrong in ("", "m" * 65, "mrg_\x00", "mrg_\ud800", None, 7, b"mrg_"):
        with pytest.raises(InvalidRequestError):
            await client.unmerge_users(wrong)  # type: ignore[arg-type]
    assert await dump(database_config) == before
    await client.delete_user(str(first["separated_user_id"]))
    with pytest.raises(MergeNotFoundError):
        await client.unmerge_users(str(merged["merge_id"]))


async def test_a_merge_of_another_formation_is_unknown(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    merged = await client.merge_users("usr_alice", SLACK)
    async with AsyncFormationClient(dataclasses.replace(database_config, id=f"{database_config.id}-2")) as elsewhere:
        with pytest.raises(MergeNotFoundError):
            await elsewhere.unmerge_users(str(merged["merge_id"]))
    assert await who(client, SLACK) == "usr_alice"


async def test_nested_merges_are_undone_in_any_order(client: AsyncFormationClient) -> None:
    """D in C, C in B, B in A: taking out the middle takes what is below along."""
    for name in ("usr_b", "usr_c", "usr_d"):
        await client.create_user(name)
    merges = {}
    for pair in (("usr_c", "usr_d"), ("usr_b", "usr_c"), ("usr_alice", "usr_b")):
        merges[pair] = str((await client.merge_users(*pair))["merge_id"])
    preview = (await client.unmerge_users(merges[("usr_b", "usr_c")], dry_run=True))["preview"]
    assert preview is not None
    assert preview["secondary"]["merged_users"] == ["usr_d"]
    assert preview["primary"]["merged_users"] == ["usr_b"]
    undone = await client.unmerge_users(merges[("usr_b", "usr_c")])
    assert (undone["muxi_user_id"], undone["separated_user_id"]) == ("usr_alice", "usr_c")
    assert [await who(client, f"usr_{name}") for name in "bcd"] == ["usr_alice", "usr_c", "usr_c"]
    await client.unmerge_users(merges[("usr_alice", "usr_b")])
    assert [await who(client, f"usr_{name}") for name in "bcd"] == ["usr_b", "usr_c", "usr_c"]
    # B and C may come together the other way round.
    await client.merge_users("usr_d", "usr_b")
    assert [await who(client, f"usr_{name}") for name in "bcd"] == ["usr_c"] * 3
    await client.unmerge_users(merges[("usr_c", "usr_d")])
    assert [await who(client, f"usr_{name}") for name in "bcd"] == ["usr_c", "usr_c", "usr_d"]


@pytest.mark.parametrize("mode", ["absorb", "merge"])
async def test_no_link_joins_again_what_was_taken_apart(
    client: AsyncFormationClient, database_config: FormationConfig, mode: Any
) -> None:
    visitor = await who(client, SLACK)
    linked = await client.associate_user_identifiers(["alice@x.com", SLACK], on_conflict=mode)
    (merge_id,) = linked["merge_ids"]
    await client.unmerge_users(merge_id)
    before = await dump(database_config)
    for given in (None, "usr_alice", visitor):
        with pytest.raises(IdentifierConflictError, match="took these users apart"):
            await client.associate_user_identifiers(["alice@x.com", SLACK], given, on_conflict=mode)
    assert await dump(database_config) == before
    # Neither through whoever either was merged with since.
    await client.create_user("usr_b")
    await client.merge_users("usr_b", visitor)
    with pytest.raises(IdentifierConflictError):
        await client.associate_user_identifiers([SLACK], "usr_alice", on_conflict="merge")
    again = await client.merge_users("usr_alice", SLACK)
    assert again["separated_at"] is not None
    assert await who(client, SLACK) == "usr_alice"


async def test_a_third_does_not_join_two_that_were_taken_apart(client: AsyncFormationClient) -> None:
    """Neither is the survivor: absorbing both would make them one all the same."""
    await client.resolve_user("b", create_user=True)
    merged = await client.merge_users(SLACK, "b")
    await client.unmerge_users(str(merged["merge_id"]))
    with pytest.raises(IdentifierConflictError) as caught:
        await client.associate_user_identifiers([SLACK, "b"], "usr_alice", on_conflict="merge")
    assert len(caught.value.conflicts) == 2
    await client.associate_user_identifiers([SLACK], "usr_alice", on_conflict="merge")
    with pytest.raises(IdentifierConflictError):
        await client.associate_user_identifiers(["b"], "usr_alice", on_conflict="merge")


async def test_an_unmerged_visitor_stays_one_that_a_link_may_absorb(client: AsyncFormationClient) -> None:
    linked = await client.associate_user_identifiers([SLACK], "usr_alice", on_conflict="absorb")
    await client.unmerge_users(linked["merge_ids"][0])
    assert not (await client.get_user(SLACK))["established"]
    await client.create_user("usr_b")
    await client.associate_user_identifiers([SLACK], "usr_b", on_conflict="absorb")
    assert await who(client, SLACK) == "usr_b"


async def test_who_was_given_an_identifier_while_merged_is_established(client: AsyncFormationClient) -> None:
    visitor = await who(client, SLACK)
    merged = await client.merge_users("usr_alice", SLACK)
    await client.associate_user_identifiers(["work@x.com"], visitor)
    await client.unmerge_users(str(merged["merge_id"]))
    assert await who(client, "work@x.com") == visitor
    assert (await client.get_user(visitor))["established"]


async def test_a_synopsis_of_both_is_dropped(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    merged = await client.merge_users("usr_alice", SLACK)
    both = await client.get_synopsis(SLACK)
    assert "Rex" in both["text"]
    assert "Berlin" in both["text"]
    await client.unmerge_users(str(merged["merge_id"]))
    assert [row["text"] for row in rows_of(await dump(database_config), "muxi_synopses")] == [None, None]
    assert "Rex" not in (await client.get_synopsis("usr_alice"))["text"]
    assert "Berlin" not in (await client.get_synopsis(SLACK))["text"]


async def test_a_split_leaves_nothing_in_the_synopsis_and_takes_its_words_along(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.merge_users("usr_alice", SLACK)
    await client.get_synopsis("usr_alice")
    await client.set_preference(SLACK, "language", "de")
    await client.schedule_task(SLACK, "Say hello", cron="0 9 * * *")
    await client.split_user("usr_alice", [SLACK])
    assert not any(row["text"] for row in rows_of(await dump(database_config), "muxi_synopses"))
    assert "Rex" not in (await client.get_synopsis("usr_alice"))["text"]
    assert "Rex" in (await client.get_synopsis(SLACK))["text"]
    assert [found["value"] for found in await client.search_memories("alice@x.com", "pet Rex")] == []
    assert [found["value"] for found in await client.search_memories(SLACK, "pet Rex")] == ["Rex"]
    assert await client.get_preferences("usr_alice") == {}
    assert (await client.list_tasks(SLACK))["count"] == 1
    assert (await client.list_tasks("usr_alice"))["count"] == 0


# Splitting


async def test_a_split_takes_what_came_through_the_identifier(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers(["bob@x.com"], "usr_alice")
    await client.chat("My bike is green", "bob@x.com")
    session = (await client.chat("My cat is Tom", "bob@x.com")).session_id
    await client.chat("My dog is Max", "usr_alice")
    counted = await client.split_user("usr_alice", ["Bob@X.com", ("bob@x.com", "email")], dry_run=True)
    assert (counted["new_user_id"], counted["rows"]) == (
        None,
        {"memories": 2, "messages": 4, "sessions": 1, "working_memory": 4},
    )
    assert await who(client, "bob@x.com") == "usr_alice"
    split = await client.split_user("alice@x.com", ["Bob@X.com", ("bob@x.com", "email")], reason="typing error")
    bob = str(split["new_user_id"])
    assert split == {**counted, "new_user_id": bob, "dry_run": False}
    assert split["identifiers"] == [{"identifier": "bob@x.com", "type": "email"}]
    assert await who(client, "bob@x.com") == bob
    assert (await client.get_user(bob))["established"]
    assert await knows(client, "bob@x.com", "What's my cat?", "Tom")
    assert not await knows(client, "bob@x.com", "What's my dog?", "Max")
    assert not await knows(client, "usr_alice", "What's my cat?", "Tom")
    assert await knows(client, "alice@x.com", "What's my dog?", "Max")
    assert (await client.get_session_messages(session, "bob@x.com"))["count"] >= 4


async def test_what_a_split_refuses(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    await client.associate_user_identifiers(["bob@x.com"], "usr_alice")
    visitor = await who(client, SLACK)
    before = await dump(database_config)
    for dry_run in (True, False):
        with pytest.raises(LastIdentifierError):
            await client.split_user("usr_alice", ["alice@x.com", "bob@x.com"], dry_run=dry_run)
        with pytest.raises(LastIdentifierError):
            await client.split_user(SLACK, [SLACK], dry_run=dry_run)
        with pytest.raises(IdentifierConflictError) as caught:
            await client.split_user("usr_alice", ["bob@x.com", SLACK], dry_run=dry_run)
        assert caught.value.conflicts == [{"identifier": SLACK[0], "type": "slack", "muxi_user_id": visitor}]
        with pytest.raises(IdentifierNotFoundError):
            await client.split_user("usr_alice", ["nobody@x.com"], dry_run=dry_run)
        with pytest.raises(UserNotFoundError):
            await client.split_user("usr_nobody", ["bob@x.com"], dry_run=dry_run)
    for wrong in ([], "bob@x.com", None, 7, ["bob@x.com"] * 1001):
        with pytest.raises(InvalidRequestError):
            await client.split_user("usr_alice", wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidIdentifierError):
        await client.split_user("usr_alice", ["usr_alice"])
    assert await dump(database_config) == before


async def test_a_split_out_of_a_merged_member(client: AsyncFormationClient) -> None:
    """All identifiers of one member may go; what its public id wrote stays with it, and the merge can be undone."""
    visitor = await who(client, SLACK)
    await client.chat("My house is old", visitor)
    merged = await client.merge_users("usr_alice", SLACK)
    split = await client.split_user("usr_alice", [SLACK])
    assert await knows(client, SLACK, "What's my pet?", "Rex")
    assert not await knows(client, SLACK, "What's my house?", "old")
    assert await knows(client, "alice@x.com", "What's my house?", "old")
    with pytest.raises(IdentifierConflictError, match="took these users apart"):
        await client.associate_user_identifiers([SLACK], visitor, on_conflict="merge")
    await client.unmerge_users(str(merged["merge_id"]))
    assert await knows(client, visitor, "What's my house?", "old")
    assert await who(client, SLACK) == split["new_user_id"]


async def test_an_identifier_of_two_spellings_must_be_told(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([("77", "telegram"), ("77", "github")], "usr_alice")
    assert await who(client, "77") == "usr_alice"
    with pytest.raises(AmbiguousIdentifierError):
        await client.split_user("usr_alice", ["77"])
    await client.split_user("usr_alice", [("77", "github")])
    with pytest.raises(AmbiguousIdentifierError):  # it was cached, while both were one person's
        await client.find_user("77")


async def test_a_person_with_ten_thousand_identifiers(database_config: FormationConfig) -> None:
    rules = IdentifierRules(max_per_user=20_000)
    config = dataclasses.replace(database_config, identity=dataclasses.replace(database_config.identity, rules=rules))
    async with AsyncFormationClient(config) as client:
        await client.create_user("usr_a")
        await client.create_user("usr_b")
        for start in range(0, 10_000, 1_000):
            await client.associate_user_identifiers([f"n{start + number}" for number in range(1_000)], "usr_a")
        preview = (await client.merge_users("usr_b", "usr_a", dry_run=True))["preview"]
        assert preview is not None
        assert (preview["secondary"]["identifier_count"], len(preview["secondary"]["identifiers"])) == (10_000, 100)
        merged = await client.merge_users("usr_b", "n1234")
        assert await who(client, "n9999") == "usr_b"
        split = await client.split_user("n0", [f"n{number}" for number in range(1_000)])
        assert await who(client, "n999") == split["new_user_id"]
        undone = await client.unmerge_users(str(merged["merge_id"]))
        assert undone["separated_user_id"] == await who(client, "n1000") == "usr_a"
        assert len((await client.get_user_history("usr_a", limit=500))["events"]) == 500
        assert (await client.explain("n1000", "n9999"))["same"]
        await check_invariants(config)
