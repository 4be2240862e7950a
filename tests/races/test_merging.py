"""Merges that race with merges, unmerges, splits, links, unlinks, chat turns and deletes, from several processes.

However they end, no deadlock surfaces, the tables are sound, and what came through an identifier is where it is.
"""

from __future__ import annotations

from typing import Any

import pytest

from muxi_identity import FormationConfig
from tests.invariants import Tables, check_invariants_now, events, live
from tests.races.processes import Call, Outcome, Swarm, call, values
from tests.races.test_linking import ROUNDS, UNCACHED, codes, link

# What may be lost to whoever was quicker. Never a time-out, a deadlock, or "call again".
LOST = {
    "ok",
    "IDENTIFIER_CONFLICT",
    "IDENTIFIER_NOT_FOUND",
    "LAST_IDENTIFIER",
    "MERGE_CONFLICT",
    "MERGE_NOT_FOUND",
    "USER_NOT_FOUND",
}


def merge(*pair: object) -> Call:
    return call("merge_users", *pair)


def run(config: FormationConfig, swarm: Swarm, *shares: list[Call]) -> list[Outcome]:
    return swarm.run_flat(config, shares, identity=UNCACHED)


def one(config: FormationConfig, swarm: Swarm, *calls: Call) -> list[Any]:
    """Run calls one after the other."""
    return [values(run(config, swarm, [each]))[0] for each in calls]


def people(config: FormationConfig, swarm: Swarm, place: int, *names: str) -> list[str]:
    """Make users with an identifier each; return their public ids."""
    users = [f"usr_{name}{place}" for name in names]
    values(run(config, swarm, [call("create_user", user) for user in users]))
    values(run(config, swarm, [link([(f"{user}-1", "slack")], user) for user in users]))
    return users


def roots(tables: Tables) -> dict[str, str]:
    """Return who answers for each user."""
    by_pk = {row["pk"]: row["public_id"] for row in tables["users"]}
    return {row["public_id"]: by_pk[row["root_pk"]] for row in tables["users"]}


def test_one_into_the_other_against_the_other_into_the_one(database_config: FormationConfig, swarm: Swarm) -> None:
    for place in range(ROUNDS):
        a, b = people(database_config, swarm, place, "a", "b")
        outcomes = run(database_config, swarm, *[[merge(a, b), merge(b, a)] * 2 for _ in range(4)])
        results = values(outcomes)
        assert len({result["merge_id"] for result in results}) == 1
        assert len({result["muxi_user_id"] for result in results}) == 1
        assert sum(not result["already_merged"] for result in results) == 1
    assert len(check_invariants_now(database_config)["merges"]) == ROUNDS


def test_a_ring_and_every_pair(database_config: FormationConfig, swarm: Swarm) -> None:
    for place in range(3):
        users = people(database_config, swarm, place, *"abcdefgh")
        calls = [merge(user, other) for user in users for other in users if user != other]
        values(run(database_config, swarm, *[calls[start::4] for start in range(4)]))
        tables = check_invariants_now(database_config)
        assert len({roots(tables)[user] for user in users}) == 1
        assert len(tables["merges"]) == 7 * (place + 1)


def test_undoing_at_once(database_config: FormationConfig, swarm: Swarm) -> None:
    for place in range(ROUNDS):
        a, b = people(database_config, swarm, place, "a", "b")
        (merged,) = one(database_config, swarm, merge(a, b))
        undo = call("unmerge_users", merged["merge_id"])
        results = values(run(database_config, swarm, *[[undo] * 2 for _ in range(4)]))
        assert sum(not result["already_undone"] for result in results) == 1
        assert len({result["undone_at"] for result in results}) == 1
    assert len(events(check_invariants_now(database_config), "user:unmerge")) == ROUNDS


def test_nested_merges_are_undone_while_others_merge(database_config: FormationConfig, swarm: Swarm) -> None:
    for place in range(ROUNDS):
        a, b, c, d = people(database_config, swarm, place, *"abcd")
        made = one(database_config, swarm, merge(c, d), merge(b, c), merge(a, b))
        undo = [call("unmerge_users", each["merge_id"]) for each in made]
        outcomes = run(database_config, swarm, [undo[1]], [undo[2], merge(d, a)], [merge(a, c)], [undo[0], merge(b, d)])
        assert codes(outcomes) == {"ok": 6}
        tables = check_invariants_now(database_config)
        undone = [row for row in tables["merges"] if row["undone_at"] is not None]
        assert {each["merge_id"] for each in made} <= {row["merge_id"] for row in undone}


def test_with_links_unlinks_and_chats(database_config: FormationConfig, swarm: Swarm) -> None:
    for place in range(ROUNDS):
        a, b, c = people(database_config, swarm, place, *"abc")
        names = [(f"{user}-1", "slack") for user in (a, b, c)]
        chats = [call("chat", f"My colour {place}-{number} is blue", names[number % 3]) for number in range(6)]
        outcomes = run(
            database_config,
            swarm,
            [merge(a, b), merge(c, a), *chats[:3]],
            [link([names[1], f"new-{place}"], a, on_conflict="merge"), *chats[3:]],
            [call("unlink_user_identifier", names[2], force=True), link([names[2]], b, on_conflict="merge")],
            [merge(b, c), link([(f"x-{place}", "github")], c), link([(f"x-{place}", "github")], b)],
        )
        assert set(codes(outcomes)) <= LOST
        tables = check_invariants_now(database_config)
        assert len({roots(tables)[user] for user in (a, b, c)}) == 1


def test_with_deletes(database_config: FormationConfig, swarm: Swarm) -> None:
    """Whoever is deleted is whom the name means then: an unmerge in between must not give another one away."""
    survivors = 0
    for place in range(ROUNDS * 2):
        a, b = people(database_config, swarm, place, "a", "b")
        (merged,) = one(database_config, swarm, merge(a, b))
        outcomes = run(
            database_config,
            swarm,
            [call("unmerge_users", merged["merge_id"])],
            [call("delete_user", (f"{b}-1", "slack"), include_merged=True)],
            [call("chat", "My budget is 5", (f"{b}-1", "slack"))],
            [merge(a, f"nobody-{place}"), call("get_user", a)],
        )
        assert set(codes(outcomes)) <= LOST
        tables = check_invariants_now(database_config)
        left = {user["public_id"] for user in tables["users"]}
        assert b not in left
        undone = outcomes[0].error is None
        assert undone == (a in left)
        survivors += undone
    assert len(events(tables, "user:delete")) == ROUNDS * 2


def test_merging_who_is_deleted(database_config: FormationConfig, swarm: Swarm) -> None:
    for place in range(ROUNDS):
        a, b, c = people(database_config, swarm, place, *"abc")
        outcomes = run(
            database_config,
            swarm,
            [merge(a, b)],
            [call("delete_user", b, include_merged=True)],
            [merge(c, b)],
            [call("chat", "My budget is 5", (f"{b}-1", "slack"))],
        )
        assert set(codes(outcomes)) <= LOST
        check_invariants_now(database_config)


def test_splits_with_chats(database_config: FormationConfig, swarm: Swarm) -> None:
    """Turns through the identifier that leaves: each is recorded where it is when the turn ends, whole."""
    for place in range(ROUNDS):
        (a,) = people(database_config, swarm, place, "a")
        name = (f"leaving-{place}", "slack")
        one(database_config, swarm, link([name], a))
        chats = [call("chat", f"My colour {place}-{number} is blue", name) for number in range(4)]
        outcomes = run(
            database_config,
            swarm,
            chats,
            [call("split_user", a, [name])],
            [call("chat", f"My shape {place}-{number} is round", name, session_id="s") for number in range(4)],
            [merge(a, name), call("chat", "My size is big", a)],
        )
        assert set(codes(outcomes)) <= LOST
        assert sum(outcome.error is None for outcome in outcomes[:4]) == 4
        tables = check_invariants_now(database_config)
        (row,) = [row for row in live(tables) if row["spelling"] == name[0]]
        through = [each for each in tables["messages"] if each["identifier_pk"] == row["pk"]]
        assert len(through) == 16
        assert {each["user_pk"] for each in through} == {row["user_pk"]}


def test_splits_with_splits_and_unmerges(database_config: FormationConfig, swarm: Swarm) -> None:
    for place in range(ROUNDS):
        a, b = people(database_config, swarm, place, "a", "b")
        names = [(f"{place}-{number}", "slack") for number in range(3)]
        (_, merged) = one(database_config, swarm, link(names, b), merge(a, b))
        outcomes = run(
            database_config,
            swarm,
            [call("split_user", a, names[:2])],
            [call("split_user", b, names[1:])],
            [call("unmerge_users", merged["merge_id"]), merge(b, names[0])],
            [call("unlink_user_identifier", names[2], force=True), merge(names[1], a)],
        )
        assert set(codes(outcomes)) <= LOST
        check_invariants_now(database_config)


@pytest.mark.parametrize("kind", ["slack", "api_key"])
def test_successions_at_once(database_config: FormationConfig, swarm: Swarm, kind: str) -> None:
    """One identifier has one successor, and those who come later find the old one gone."""
    method = "rotate_identifier" if kind == "api_key" else "replace_identifier"
    for place in range(ROUNDS):
        (a,) = people(database_config, swarm, place, "a")
        old = (f"old_key_{place:08}", kind)
        one(database_config, swarm, link([old], a), call("chat", "My budget is 5", old))
        outcomes = run(
            database_config,
            swarm,
            *[[call(method, old, (f"new_key_{number:08}_{place}", kind)) for _ in range(2)] for number in range(3)],
            # A chat under an ordinary identifier that was replaced makes a new user, who could be asked to hand it on.
            [call("chat", "My colour is blue", old) if kind == "api_key" else call("find_user", old)] * 2,
        )
        done = outcomes[:6]
        assert set(codes(done)) <= {"ok", "IDENTIFIER_NOT_FOUND"}
        assert codes(done)["ok"] == 2
        assert sum(not o.value["already_replaced"] for o in done if o.error is None) == 1
        assert set(codes(outcomes[6:])) <= {"ok", "USER_NOT_FOUND"}
        tables = check_invariants_now(database_config)
        theirs = next(row["pk"] for row in tables["users"] if row["public_id"] == a)
        assert sorted(row["type"] for row in live(tables) if row["user_pk"] == theirs) == sorted(["slack", kind])


def test_everything_at_once(database_config: FormationConfig, swarm: Swarm) -> None:
    users = people(database_config, swarm, 0, *"abcd")
    names = [(f"{user}-1", "slack") for user in users]
    known: list[str] = []
    for place in range(ROUNDS):
        shares = [
            [merge(users[place % 4], users[(place + 1) % 4]), merge(names[1], users[3]), merge(users[2], names[0])],
            [call("unmerge_users", merge_id) for merge_id in known[-4:]] or [merge(users[0], users[3])],
            [
                call("split_user", users[place % 4], [names[(place + 2) % 4]]),
                link([names[place % 4], f"more-{place}"], users[1], on_conflict="absorb"),
            ],
            [call("chat", f"My colour {place} is blue", name) for name in names],
        ]
        outcomes = run(database_config, swarm, *shares)
        assert set(codes(outcomes)) <= LOST
        tables = check_invariants_now(database_config)
        known = [row["merge_id"] for row in tables["merges"] if row["undone_at"] is None]
