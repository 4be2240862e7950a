"""History and explanation: what happened to a person, and why two identifiers are one person, or are not."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.errors import InvalidRequestError, UserNotFoundError
from tests.formations import Time, client_of, dump, rows_of

SLACK = ("U98765ABC", "slack")
KEY = "key_7Hq2mZx9Lw4Tn8Rb5Vc1"


@pytest.fixture
async def client(database_config: FormationConfig) -> AsyncIterator[AsyncFormationClient]:
    client = client_of(database_config, Time())
    client._actor = "sam"
    async with client:
        yield client


def told(page: Any) -> list[tuple[str, str | None, str | None]]:
    return [
        (event["event"], event["other_user_id"], event["identifier"] and event["identifier"]["identifier"])
        for event in page["events"]
    ]


async def test_a_history_tells_both_sides(client: AsyncFormationClient) -> None:
    for name in ("a", "b"):
        await client.create_user(f"usr_{name}")
        await client.associate_user_identifiers([f"{name}@x.com"], f"usr_{name}")
    merge_id = str((await client.merge_users("usr_a", "usr_b", reason="twins"))["merge_id"])
    await client.associate_user_identifiers([SLACK], "b@x.com")  # recorded of usr_a, and usr_b's all the same
    await client.unmerge_users(merge_id, reason="no twins")
    own = [("identifier:link", None, "b@x.com"), ("user:create", None, None)]
    page = await client.get_user_history("usr_b")
    assert told(page) == [
        ("user:unmerge", "usr_b", None),
        ("identifier:link", None, "U98765ABC"),
        ("user:merge", "usr_b", None),
        *own,
    ]
    assert [event["reason"] for event in page["events"]] == ["no twins", None, "twins", None, None]
    assert {event["actor"] for event in page["events"]} == {"sam"}
    assert page["events"][0]["merge_id"] == page["events"][2]["merge_id"] == merge_id
    assert "_pk" not in repr(page)
    split = await client.split_user("usr_b", [SLACK])
    new = str(split["new_user_id"])
    assert told(await client.get_user_history(SLACK)) == [
        ("identifier:move", "usr_b", "U98765ABC"),
        ("user:split", new, None),
        ("user:create", None, None),
        ("identifier:link", None, "U98765ABC"),
    ]
    await client.replace_identifier("b@x.com", "b@y.com")
    assert told(await client.get_user_history("usr_b"))[0] == ("identifier:replace", None, "b@y.com")


async def test_pages_neither_repeat_nor_leave_out(client: AsyncFormationClient) -> None:
    await client.create_user("usr_a")
    for start in range(3):
        await client.associate_user_identifiers([f"n{start}-{number}" for number in range(7)], "usr_a")
    whole = (await client.get_user_history("usr_a", limit=500))["events"]
    assert len(whole) == 22
    for limit in (1, 2, 3, 7, 21, 22):
        found, cursor = [], None
        while True:
            page = await client.get_user_history("usr_a", limit=limit, cursor=cursor)
            assert page["count"] == len(page["events"]) <= limit
            found += page["events"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            await client.associate_user_identifiers([f"later-{limit}-{len(found)}"])  # somebody else's
        assert found == whole


async def test_cursors_and_limits_of_strangers_are_refused(client: AsyncFormationClient) -> None:
    await client.create_user("usr_a")
    made_up = [[1], [1, -1], ["1", 1], [2**63, 0], [1, 2**31], [True, 0], [1.0, 0], None, "x", {"a": 1}]
    cursors: list[Any] = [base64.urlsafe_b64encode(json.dumps(each).encode()).decode() for each in made_up]
    for cursor in [*cursors, "", "!", "é", "[" * 100_000, 7, b"x", "\x00"]:
        with pytest.raises(InvalidRequestError, match="cursor"):
            await client.get_user_history("usr_a", cursor=cursor)
    for limit in (0, -1, 501, "5", None, True, 1.5):
        with pytest.raises(InvalidRequestError, match="limit"):
            await client.get_user_history("usr_a", limit=limit)  # type: ignore[arg-type]
    with pytest.raises(UserNotFoundError):
        await client.get_user_history("usr_nobody")


async def test_the_log_holds_no_identifiers_and_no_reasons_of_the_deleted(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    await client.create_user("usr_a")
    await client.create_user("usr_b")
    merge_id = str((await client.merge_users("usr_a", "usr_b", reason="Bob is Ann"))["merge_id"])
    await client.associate_user_identifiers(["bob@x.com"], "usr_b", reason="Bob's address")
    await client.unmerge_users(merge_id, reason="Bob is Bob")
    await client.delete_user("usr_b")
    log = repr(rows_of(await dump(database_config), "muxi_history"))
    assert "Bob" not in log
    assert "bob@x.com" not in log
    assert told(await client.get_user_history("usr_a"))[0] == ("user:unmerge", "usr_b", None)


async def test_one_user_is_explained_by_its_links(client: AsyncFormationClient) -> None:
    await client.chat("Hello!", "alice@x.com")
    await client.associate_user_identifiers(["alice@x.com", SLACK], source="okta", reason="same login")
    why = await client.explain(SLACK, "Alice@X.com")
    alice = why["a"]
    assert (why["same"], why["were_same"], why["a"] == why["b"]) == (True, False, True)
    assert [step["event"] for step in why["steps"]] == ["user:create", "identifier:link", "identifier:link"]
    lines = why["text"].splitlines()
    assert lines[0] == f"U98765ABC and Alice@X.com are one person, {alice}."
    assert lines[1].endswith(f" UTC: {alice} was created by sam, from chat.")
    assert lines[3].endswith(f" UTC: U98765ABC was linked to {alice} by sam, from okta, because: same login.")
    assert why["steps"][2]["at"][:19].replace("T", " ") in lines[3]


async def test_merged_ones_are_explained_by_the_merges_between_them(client: AsyncFormationClient) -> None:
    for name in ("a", "b", "c", "d"):
        await client.create_user(f"usr_{name}")
    for pair in (("usr_c", "usr_d"), ("usr_a", "usr_b"), ("usr_a", "usr_c")):
        await client.merge_users(*pair)
    why = await client.explain("usr_b", "usr_d")
    assert why["same"]
    merges = [step for step in why["steps"] if step["event"] == "user:merge"]
    assert [(step["muxi_user_id"], step["other_user_id"]) for step in merges] == [
        ("usr_c", "usr_d"),
        ("usr_a", "usr_b"),
        ("usr_a", "usr_c"),
    ]
    assert "usr_d was merged into usr_c by sam" in why["text"]
    # Of two that were joined directly, others' merges are not told.
    why = await client.explain("usr_c", "usr_d")
    assert [step["other_user_id"] for step in why["steps"] if step["event"] == "user:merge"] == ["usr_d"]


async def test_two_that_never_met(client: AsyncFormationClient) -> None:
    await client.create_user("usr_a")
    await client.create_user("usr_b")
    why = await client.explain("usr_a", "usr_b")
    assert (why["same"], why["were_same"], why["a"], why["b"]) == (False, False, "usr_a", "usr_b")
    assert "Nothing ever made them one." in why["text"]
    for pair in (("usr_a", "nobody@x.com"), ("usr_nobody", "usr_a"), ((KEY, "api_key"), "usr_a")):
        with pytest.raises(UserNotFoundError) as caught:
            await client.explain(*pair)
        assert KEY not in str(caught.value)


async def test_two_that_were_one_through_a_third(client: AsyncFormationClient) -> None:
    for name in ("a", "b", "c"):
        await client.create_user(f"usr_{name}")
    first = str((await client.merge_users("usr_c", "usr_a"))["merge_id"])
    second = str((await client.merge_users("usr_c", "usr_b"))["merge_id"])
    await client.unmerge_users(first, reason="mixed up")
    await client.unmerge_users(second)
    why = await client.explain("usr_a", "usr_b")
    assert (why["same"], why["were_same"]) == (False, True)
    assert [step["event"] for step in why["steps"] if step["merge_id"]] == ["user:merge"] * 2 + ["user:unmerge"] * 2
    assert "the merge of usr_a into usr_c was undone by sam, because: mixed up." in why["text"]
    # Merged at different times into the same one, they never met.
    await client.create_user("usr_d")
    third = str((await client.merge_users("usr_c", "usr_d"))["merge_id"])
    assert not (await client.explain("usr_d", "usr_a"))["were_same"]
    await client.unmerge_users(third)
    assert not (await client.explain("usr_d", "usr_b"))["were_same"]


async def test_an_undone_merge_is_told_of_the_two_that_were_merged(client: AsyncFormationClient) -> None:
    for name in ("a", "b", "c"):
        await client.create_user(f"usr_{name}")
    merged = str((await client.merge_users("usr_a", "usr_b"))["merge_id"])
    await client.merge_users("usr_c", "usr_a")
    await client.unmerge_users(merged)
    why = await client.explain("usr_a", "usr_b")
    # The history names usr_c, who the person was by then: of that merge the listener was told nothing.
    assert why["steps"][-1]["muxi_user_id"] == "usr_c"
    assert why["text"].splitlines()[-1].endswith("the merge of usr_b into usr_a was undone by sam.")
    assert "into usr_c" not in why["text"]


async def test_split_and_unlinked_ones(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers(["a@x.com", SLACK, (KEY, "api_key")])
    split = await client.split_user("a@x.com", [SLACK], reason="wrong Ann")
    why = await client.explain("a@x.com", SLACK)
    assert (why["same"], why["were_same"], why["b"]) == (False, True, split["new_user_id"])
    assert f"U98765ABC was split off {why['a']} and given to {why['b']} by sam, because: wrong Ann." in why["text"]
    await client.unlink_user_identifier(KEY)
    why = await client.explain(KEY, "a@x.com")
    assert (why["same"], why["were_same"], why["a"]) == (False, True, None)
    assert "belongs to nobody any more" in why["text"]
    assert "was unlinked from" in why["text"]
    assert KEY not in repr(why)
