"""Links that race with links, first contacts, merges, unlinking and deleting, in several processes."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from muxi_identity import AsyncFormationClient, FormationConfig
from muxi_identity.errors import MuxiError
from tests.invariants import check_invariants, check_invariants_now, events, live
from tests.long import LONG
from tests.races.processes import Call, Outcome, Swarm, call, values, variant

ROUNDS = 20 if LONG else 3
# Another process's cache may be old for a while, and these tests ask what is in the database.
UNCACHED = {"cache": {"ttl": 1e-6}}


def codes(outcomes: list[Outcome]) -> Counter[str]:
    """Count how calls ended; an error that is none of the library's fails the test."""
    for outcome in outcomes:
        assert outcome.trace is None, outcome.trace
    return Counter("ok" if outcome.error is None else outcome.error.code for outcome in outcomes)


def errors(outcomes: list[Outcome], kind: type[MuxiError]) -> list[MuxiError]:
    return [outcome.error for outcome in outcomes if isinstance(outcome.error, kind)]


def link(*arguments: object, **options: object) -> Call:
    return call("associate_user_identifiers", *arguments, **options)


def test_two_users_race_for_one_identifier(database_config: FormationConfig, swarm: Swarm) -> None:
    values(swarm.run_flat(database_config, [[call("create_user", "usr_a"), call("create_user", "usr_b")]]))
    for place in range(ROUNDS * 2):
        name = (f"U{place}", "slack")
        outcomes = swarm.run_flat(
            database_config, [[link([name], "usr_a")], [link([name], "usr_b")], [], []], identity=UNCACHED
        )
        assert codes(outcomes) == {"ok": 1, "IDENTIFIER_CONFLICT": 1}
        (won,) = [outcome.value for outcome in outcomes if outcome.error is None]
        (lost,) = [outcome.error for outcome in outcomes if outcome.error is not None]
        assert lost.conflicts == [{"identifier": name[0], "type": "slack", "muxi_user_id": won["muxi_user_id"]}]
    tables = check_invariants_now(database_config)
    assert len(tables["identifiers"]) == ROUNDS * 2


def test_all_race_for_one_that_was_unlinked(database_config: FormationConfig, swarm: Swarm) -> None:
    """Tombstones lie in the bucket; typed and untyped spellings of it are one identifier in a link."""
    people = [f"usr_{number}" for number in range(16)]
    values(swarm.run_flat(database_config, [[call("create_user", person) for person in people]]))
    for place in range(ROUNDS):
        spellings = itertools.cycle(["U1", ("U1", "slack")])
        shares = [[link([next(spellings)], person) for person in people[start::4]] for start in range(4)]
        outcomes = swarm.run_flat(database_config, shares, identity=UNCACHED)
        assert codes(outcomes) == {"ok": 1, "IDENTIFIER_CONFLICT": 15}
        values(swarm.run_flat(database_config, [[call("unlink_user_identifier", "U1", force=True)]], identity=UNCACHED))
        assert len(check_invariants_now(database_config)["identifiers"]) == place + 1


def test_the_same_identifiers_in_any_order(database_config: FormationConfig, swarm: Swarm) -> None:
    for place in range(ROUNDS):
        names = [
            f"a{place}@x.com",
            (f"U{place}", "slack"),
            (f"{1000 + place}", "github"),
            f"web-{place}",
            f"+44{place}",
        ]
        orders = list(itertools.permutations(names))
        shares = [[link(list(order)) for order in random.sample(orders, 4)] for _ in range(4)]
        results = values(swarm.run_flat(database_config, shares, identity=UNCACHED))
        assert len({result["muxi_user_id"] for result in results}) == 1
        assert sum(result["created"] for result in results) == 1
        assert sum(len(result["new_identifiers"]) for result in results) == 5
        assert all(len(result["new_identifiers"]) + len(result["existing_identifiers"]) == 5 for result in results)
    tables = check_invariants_now(database_config)
    assert len(tables["users"]) == ROUNDS
    assert len(tables["identifiers"]) == 5 * ROUNDS


def test_the_same_identifiers_for_one_user(database_config: FormationConfig, swarm: Swarm) -> None:
    """With a user given: the way of one statement, and all want the same root."""
    values(swarm.run_flat(database_config, [[call("create_user", "usr_a")]]))
    for place in range(ROUNDS):
        names = [(f"{place}-{number}", "slack") for number in range(5)]
        shares = [[link(random.sample(names, 5), "usr_a") for _ in range(4)] for _ in range(4)]
        results = values(swarm.run_flat(database_config, shares))
        assert {result["muxi_user_id"] for result in results} == {"usr_a"}
        assert sum(len(result["new_identifiers"]) for result in results) == 5
    assert len(check_invariants_now(database_config)["identifiers"]) == 5 * ROUNDS


def test_link_with_first_contact(database_config: FormationConfig, swarm: Swarm) -> None:
    """Somebody writes in while the same identifier is linked: with "absorb" it always ends with one person."""
    for place in range(ROUNDS):
        name = (f"U{place}", "slack")
        shares = [
            [link([f"a{place}@x.com", name], on_conflict="absorb")],
            [call("chat", f"My budget is {place}", name)],
            [call("resolve_user", name, True)],
            [link([name, f"a{place}@x.com"], on_conflict="absorb")],
        ]
        outcomes = swarm.run_flat(database_config, shares, identity=UNCACHED)
        assert codes(outcomes) == {"ok": 4}
        (linked,), _, _, (again,) = [[outcomes[place].value] for place in range(4)]
        assert linked["muxi_user_id"] == again["muxi_user_id"]
        answers = values(
            swarm.run_flat(
                database_config,
                [[call("resolve_user", name), call("resolve_user", f"a{place}@x.com")]] * 4,
                identity=UNCACHED,
            )
        )
        assert {answer["muxi_user_id"] for answer in answers} == {linked["muxi_user_id"]}
    tables = check_invariants_now(database_config)
    assert len({row["root_pk"] for row in tables["users"]}) == ROUNDS
    # What was said is there, under a member of the one person.
    assert len(tables["memories"]) == ROUNDS


def test_a_link_that_adds_the_type_with_first_contact_under_it(database_config: FormationConfig, swarm: Swarm) -> None:
    """The bare row is given the type at the very moment in which the typed spelling makes first contact."""
    for place in range(ROUNDS * 2):
        bare, typed = f"U{place}", (f"U{place}", "slack")
        (owner,) = values(swarm.run_flat(database_config, [[call("resolve_user", bare, True)]], identity=UNCACHED))
        shares = [[link([typed], owner["muxi_user_id"])], *[[call("resolve_user", typed, True)] * 4] * 3]
        outcomes = swarm.run_flat(database_config, shares, identity=UNCACHED)
        answers = values(outcomes[1:])
        assert len({answer["muxi_user_id"] for answer in answers}) == 1
        if answers[0]["muxi_user_id"] == owner["muxi_user_id"]:
            assert codes(outcomes) == {"ok": 13}
        else:
            assert codes(outcomes) == {"ok": 12, "IDENTIFIER_CONFLICT": 1}
        check_invariants_now(database_config)


@pytest.mark.parametrize("mode", ["absorb", "merge"])
def test_crossing_merges(database_config: FormationConfig, swarm: Swarm, mode: str) -> None:
    """A is merged into B while B is merged into A: one of them happens, and both callers are told of one person."""
    for place in range(ROUNDS):
        names = [f"{place}-{number}" for number in range(4)]
        made = values(
            swarm.run_flat(database_config, [[call("resolve_user", name, True) for name in names]], identity=UNCACHED)
        )
        people = [answer["muxi_user_id"] for answer in made]
        shares = [[link(random.sample(names, 4), person, on_conflict=mode)] for person in people]
        outcomes = swarm.run_flat(database_config, shares, identity=UNCACHED)
        if mode == "merge":
            assert codes(outcomes) == {"ok": 4}
        else:
            # The first link establishes its user, so that the others find it established, or merged already.
            assert set(codes(outcomes)) <= {"ok", "IDENTIFIER_CONFLICT"}
        roots = {outcome.value["muxi_user_id"] for outcome in outcomes if outcome.error is None}
        assert len(roots) == 1
        answers = values(
            swarm.run_flat(database_config, [[call("resolve_user", name) for name in names]], identity=UNCACHED)
        )
        assert {answer["muxi_user_id"] for answer in answers} == roots
    tables = check_invariants_now(database_config)
    assert len({row["root_pk"] for row in tables["users"]}) == ROUNDS
    assert len(tables["merges"]) == 3 * ROUNDS


def test_merges_in_a_ring(database_config: FormationConfig, swarm: Swarm) -> None:
    """Sixteen links, each of two neighbours, without anybody given: all become one person."""
    for place in range(3):
        names = [f"{place}-{number}" for number in range(16)]
        values(
            swarm.run_flat(database_config, [[call("resolve_user", name, True) for name in names]], identity=UNCACHED)
        )
        calls = [link([name, names[number - 1]], on_conflict="merge") for number, name in enumerate(names)]
        outcomes = swarm.run_flat(database_config, [calls[start::4] for start in range(4)], identity=UNCACHED)
        assert codes(outcomes) == {"ok": 16}
        answers = values(
            swarm.run_flat(database_config, [[call("resolve_user", name) for name in names]], identity=UNCACHED)
        )
        assert len({answer["muxi_user_id"] for answer in answers}) == 1
    assert len(check_invariants_now(database_config)["merges"]) == 3 * 15


def test_link_with_unlink(database_config: FormationConfig, swarm: Swarm) -> None:
    values(swarm.run_flat(database_config, [[call("create_user", f"usr_{number}") for number in range(3)]]))
    unlink = call("unlink_user_identifier", ("U1", "slack"), force=True)
    for _ in range(ROUNDS):
        shares = [[link([("U1", "slack")], f"usr_{number}"), unlink] * 3 for number in range(3)]
        outcomes = swarm.run_flat(database_config, [*shares, [unlink] * 3], identity=UNCACHED)
        assert set(codes(outcomes)) <= {"ok", "IDENTIFIER_CONFLICT", "IDENTIFIER_NOT_FOUND"}
        linked = sum(bool(o.value) and bool(o.value.get("new_identifiers")) for o in outcomes if o.error is None)
        tables = check_invariants_now(database_config)
        assert linked >= 1
        assert len(live(tables)) <= 1
    assert len(events(tables, "identifier:link")) == len(tables["identifiers"])


def test_link_with_delete(database_config: FormationConfig, swarm: Swarm) -> None:
    """Whoever comes second finds the user gone, or the identifier deleted with it; nothing hangs in the air."""
    for place in range(ROUNDS):
        values(swarm.run_flat(database_config, [[call("create_user", "usr_a")]], identity=UNCACHED))
        values(swarm.run_flat(database_config, [[link([f"first-{place}"], "usr_a")]], identity=UNCACHED))
        shares = [
            [link([(f"{place}-{number}", "slack")], "usr_a") for number in range(4)],
            [call("delete_user", "usr_a")],
            [link([f"first-{place}", f"new-{place}"], "usr_a")],
            [call("chat", "My budget is 5", f"first-{place}")] * 4,
        ]
        outcomes = swarm.run_flat(database_config, shares, identity=UNCACHED)
        assert set(codes(outcomes)) <= {"ok", "USER_NOT_FOUND", "IDENTIFIER_CONFLICT"}
        assert outcomes[4].error is None
        tables = check_invariants_now(database_config)
        assert "usr_a" not in {user["public_id"] for user in tables["users"]}
    assert len(events(tables, "user:delete")) == ROUNDS


def test_first_contact_with_delete(database_config: FormationConfig, swarm: Swarm) -> None:
    """The bucket is emptied while others insert into it: its slots begin anew, and still nobody is made twice."""
    stir = [call("resolve_user", "U1", True), call("unlink_user_identifier", "U1", force=True)]
    delete = [call("delete_user", "U1")]
    for _ in range(ROUNDS):
        outcomes = swarm.run_flat(
            database_config, [stir * 4, stir * 4, [*delete, *stir] * 3, delete * 4], identity=UNCACHED
        )
        assert set(codes(outcomes)) <= {"ok", "IDENTIFIER_NOT_FOUND", "USER_NOT_FOUND"}
        assert len(live(check_invariants_now(database_config))) <= 1


@pytest.mark.parametrize("given", [True, False], ids=["one-statement", "transaction"])
def test_limits_hold(database_config: FormationConfig, swarm: Swarm, given: bool) -> None:
    """Sixteen links of two identifiers each want to join a person who may have nine, two of them from the CRM."""
    rules = {"max_identifiers_per_user": 9, "types": {"crm": {"max_per_user": 2}}, **UNCACHED}
    for place in range(ROUNDS // 2):
        person = f"usr_{place}"
        values(swarm.run_flat(database_config, [[call("create_user", person)]], identity=rules))
        values(swarm.run_flat(database_config, [[link([f"first-{place}"], person)]], identity=rules))
        shares = []
        for process in range(4):
            calls = []
            for number in range(4):
                new = [(f"{place}-{process}-{number}", kind) for kind in ("slack", "crm" if number == 0 else "github")]
                calls.append(link(new, person) if given else link([f"first-{place}", *new]))
            shares.append(calls)
        outcomes = swarm.run_flat(database_config, shares, identity=rules)
        assert codes(outcomes) == {"ok": 4, "IDENTIFIER_LIMIT": 12}
        tables = check_invariants_now(database_config)
        (root,) = [user["pk"] for user in tables["users"] if user["public_id"] == person]
        held = Counter(row["type"] for row in live(tables) if row["user_pk"] == root)
        assert held.total() == 9
        assert held["crm"] <= 2


def test_limits_hold_when_people_are_merged(database_config: FormationConfig, swarm: Swarm) -> None:
    rules = {"max_identifiers_per_user": 5, **UNCACHED}
    for place in range(ROUNDS // 2):
        names = [f"{place}-{number}" for number in range(8)]
        values(swarm.run_flat(database_config, [[call("resolve_user", name, True) for name in names]], identity=rules))
        pairs = [link([names[0], name], on_conflict="merge") for name in names[1:]]
        outcomes = swarm.run_flat(database_config, [pairs[start::4] for start in range(4)], identity=rules)
        assert codes(outcomes) == {"ok": 4, "IDENTIFIER_LIMIT": 3}
    tables = check_invariants_now(database_config)
    root_of = {user["pk"]: user["root_pk"] for user in tables["users"]}
    assert max(Counter(root_of[row["user_pk"]] for row in live(tables)).values()) == 5


@pytest.mark.parametrize("mode", ["raise", "absorb"])
def test_one_call_sent_sixteen_times(database_config: FormationConfig, swarm: Swarm, mode: str) -> None:
    for place in range(ROUNDS):
        values(swarm.run_flat(database_config, [[call("resolve_user", f"U{place}", True)]], identity=UNCACHED))
        sent = link(
            [f"a{place}@x.com", f"U{place}", (f"visitor-{place}", "anonymous")],
            on_conflict=mode,
            idempotency_key=f"key-{place}",
        )
        results = values(swarm.run_flat(database_config, [[sent] * 4] * 4, identity=UNCACHED))
        assert all(result == results[0] for result in results)
        assert f"a{place}@x.com" in results[0]["new_identifiers"]
    tables = check_invariants_now(database_config)
    number = 2 if mode == "absorb" else 3
    assert len(tables["identifiers"]) == number * ROUNDS
    assert len(tables["idempotency"]) == len(tables["users"]) == ROUNDS


async def test_everything_at_once_in_one_process(database_config: FormationConfig) -> None:
    """A storm of all operations on few names; whatever happened, the tables are sound and the cache tells them."""
    config = variant(database_config, {"max_identifiers_per_user": 6})
    chance = random.Random(7)
    names = [*(f"n{number}" for number in range(6)), *((f"n{number}", "slack") for number in range(6))]

    refused: set[str] = set()

    async def one(client: AsyncFormationClient) -> None:
        for _ in range(12):
            some = chance.sample(names, chance.randint(1, 3))
            mode = chance.choice(["raise", "absorb", "merge"])
            try:
                match chance.randrange(8):
                    case 0 | 1:
                        await client.resolve_user(some[0], True)
                    case 2 | 3 | 4:
                        await client.associate_user_identifiers(some, on_conflict=mode)
                    case 5:
                        await client.unlink_user_identifier(some[0], force=True)
                    case 6:
                        await client.delete_user(some[0], include_merged=True)
                    case 7:
                        await client.chat(f"My budget is {chance.random()}", some[0])
            except MuxiError as error:
                refused.add(error.code)

    async with AsyncFormationClient(config) as first, AsyncFormationClient(config) as second:
        await asyncio.gather(*(one(client) for client in (first, second) * 8))
        assert refused
        assert not refused & {"STORAGE_UNAVAILABLE", "CONFIGURATION", "IDENTITY_CHANGED"}
        await check_invariants(config)
        answers = [await find_all(client, names) for client in (first, first, second)]
    async with AsyncFormationClient(config) as fresh:
        answers.append(await find_all(fresh, names))
    assert all(answer == answers[0] for answer in answers)


async def find_all(client: AsyncFormationClient, names: Sequence[object]) -> list[str | None]:
    """Return whom each name means, or the error's code."""
    found: list[str | None] = []
    for name in names:
        try:
            answer = await client.find_user(name)
            found.append(answer and answer["muxi_user_id"])
        except MuxiError as error:
            found.append(error.code)
    return found
