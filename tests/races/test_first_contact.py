"""Sixty-four first contacts of one new identifier at once, from four processes: one user, and all get it."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from muxi_identity import AsyncFormationClient, FormationConfig
from tests.invariants import Tables, check_invariants_now, events, live
from tests.long import LONG
from tests.races.processes import Call, Swarm, call, values

ROUNDS = 20 if LONG else 2
TASKS = 16
# Where another process unlinks, a cached answer may be old for a while. What is tested here is the database.
UNCACHED = {"cache": {"ttl": 1e-6}}


def everywhere(swarm: Swarm, *calls: Call) -> list[list[Call]]:
    """Give each process the same calls, ``TASKS`` in all."""
    return [[calls[place % len(calls)] for place in range(TASKS)]] * swarm.number


def check_people(config: FormationConfig, number: int) -> Tables:
    """Check that there are ``number`` people, each with an identifier of its own and one create event."""
    tables = check_invariants_now(config)
    assert len(tables["users"]) == number
    assert {row["user_pk"] for row in live(tables)} == {row["pk"] for row in tables["users"]}, "an orphan user"
    assert len(events(tables, "user:create")) == number
    return tables


@pytest.mark.parametrize("threads", [False, True], ids=["tasks", "threads"])
def test_one_user_and_equal_answers(database_config: FormationConfig, swarm: Swarm, threads: bool) -> None:
    for place in range(ROUNDS):
        outcomes = swarm.run_flat(
            database_config,
            everywhere(swarm, call("resolve_user", f"U{place:08}", create_user=True)),
            threads=threads,
        )
        answers = values(outcomes)
        assert len(answers) == 64
        assert len({answer["muxi_user_id"] for answer in answers}) == 1
        assert sum(answer["created"] for answer in answers) == 1
    tables = check_people(database_config, ROUNDS)
    assert len(tables["identifiers"]) == len(events(tables, "identifier:link")) == ROUNDS


def test_through_chat(database_config: FormationConfig, swarm: Swarm) -> None:
    rounds = 3
    for place in range(rounds):
        calls = [
            [call("chat", f"My colour {process}-{task} is blue", f"U{place}") for task in range(TASKS)]
            for process in range(swarm.number)
        ]
        replies = values(swarm.run_flat(database_config, calls))
        assert len({reply["user_id"] for reply in replies}) == 1
    tables = check_people(database_config, rounds)
    # Nothing that was said is lost, and all of it is that one person's.
    for user in tables["users"]:
        said = {row["content"] for row in tables["memories"] if row["user_pk"] == user["pk"]}
        assert len(said) == 64


def test_chat_in_one_session(database_config: FormationConfig, swarm: Swarm) -> None:
    """All begin the same new session of the same new identifier."""
    replies = values(
        swarm.run_flat(database_config, everywhere(swarm, call("chat", "Hello!", ("U1", "slack"), session_id="t1")))
    )
    assert {reply["session_id"] for reply in replies} == {"t1"}
    tables = check_people(database_config, 1)
    assert len(tables["sessions"]) == 1
    assert len(tables["messages"]) == 50  # the buffer's bound


def test_typed_and_untyped_with_the_typed_row_there(database_config: FormationConfig, swarm: Swarm) -> None:
    expected = []
    for place in range(ROUNDS):
        name = f"U{place:08}"
        (first,) = values(swarm.run_flat(database_config, [[call("resolve_user", (name, "slack"), create_user=True)]]))
        answers = values(
            swarm.run_flat(
                database_config,
                everywhere(
                    swarm,
                    call("resolve_user", name, create_user=True),
                    call("resolve_user", (name, "slack"), create_user=True),
                    call("resolve_user", {"identifier": name, "type": "slack"}, create_user=True),
                ),
            )
        )
        assert {answer["muxi_user_id"] for answer in answers} == {first["muxi_user_id"]}
        assert not any(answer["created"] for answer in answers)
        expected.append(first["muxi_user_id"])
    tables = check_people(database_config, ROUNDS)
    assert {user["public_id"] for user in tables["users"]} == set(expected)
    assert {row["type"] for row in tables["identifiers"]} == {"slack"}


def test_typed_and_untyped_with_nothing_there(database_config: FormationConfig, swarm: Swarm) -> None:
    """Whoever comes first decides: a typed look-up is exact, so that a bare row is not it; a bare one is a guess.

    Either the typed row was first, and the bare spelling means that person too; or the bare row was first, and the
    typed spelling is another person. Never more than these two, and every spelling always answers the same.
    """
    people = 0
    for place in range(ROUNDS):
        name = f"U{place:08}"
        outcomes = swarm.run_flat(
            database_config,
            everywhere(
                swarm,
                call("resolve_user", name, create_user=True),
                call("resolve_user", (name, "slack"), create_user=True),
            ),
        )
        answers = values(outcomes)
        bare = {answer["muxi_user_id"] for answer in answers[0::2]}
        typed = {answer["muxi_user_id"] for answer in answers[1::2]}
        assert len(bare) == len(typed) == 1
        (again_bare, again_typed) = values(
            swarm.run_flat(database_config, [[call("resolve_user", name), call("resolve_user", (name, "slack"))]])
        )
        assert {again_bare["muxi_user_id"]} == bare
        assert {again_typed["muxi_user_id"]} == typed
        people += len(bare | typed)
        assert sum(answer["created"] for answer in answers) == len(bare | typed)
    tables = check_people(database_config, people)
    assert len(tables["identifiers"]) == people


def test_two_types_are_two_people(database_config: FormationConfig, swarm: Swarm) -> None:
    for place in range(ROUNDS):
        number = 10_000 + place
        answers = values(
            swarm.run_flat(
                database_config,
                everywhere(
                    swarm,
                    call("resolve_user", (number, "telegram"), create_user=True),
                    call("resolve_user", (number, "github"), create_user=True),
                ),
            )
        )
        telegram = {answer["muxi_user_id"] for answer in answers[0::2]}
        github = {answer["muxi_user_id"] for answer in answers[1::2]}
        assert len(telegram) == len(github) == 1
        assert telegram != github
    check_people(database_config, 2 * ROUNDS)


def test_spellings_of_one_address_are_one_user(database_config: FormationConfig, swarm: Swarm) -> None:
    for place in range(ROUNDS):
        answers = values(
            swarm.run_flat(
                database_config,
                everywhere(
                    swarm,
                    call("resolve_user", f"Alice{place}@X.com", create_user=True),
                    call("resolve_user", f"alice{place}@x.com", create_user=True),
                    call("resolve_user", f" ALICE{place}@X.COM ", create_user=True),
                    call("resolve_user", (f"aLICE{place}@x.com", "email"), create_user=True),
                ),
            )
        )
        assert len({answer["muxi_user_id"] for answer in answers}) == 1
    tables = check_people(database_config, ROUNDS)
    assert {row["type"] for row in tables["identifiers"]} == {"email"}


@pytest.mark.parametrize("given", ["U1", ("U1", "slack")], ids=["bare", "typed"])
def test_again_after_it_was_unlinked(database_config: FormationConfig, swarm: Swarm, given: object) -> None:
    """The bucket is not empty: a tombstone lies in it, so that the ordinary transaction decides."""
    for _ in range(ROUNDS):
        first_contacts = everywhere(swarm, call("resolve_user", given, True))
        answers = values(swarm.run_flat(database_config, first_contacts, identity=UNCACHED))
        assert len({answer["muxi_user_id"] for answer in answers}) == 1
        values(
            swarm.run_flat(database_config, [[call("unlink_user_identifier", given, force=True)]], identity=UNCACHED)
        )
    tables = check_invariants_now(database_config)
    assert len(tables["users"]) == len(tables["identifiers"]) == ROUNDS
    assert not live(tables)


def test_while_it_is_unlinked_again_and_again(database_config: FormationConfig, swarm: Swarm) -> None:
    """Each unlinking ends one person's time; between two of them there is one."""
    stirring = [call("unlink_user_identifier", "U1", force=True), call("resolve_user", "U1", True)]
    for _ in range(ROUNDS):
        outcomes = swarm.run_flat(database_config, everywhere(swarm, *stirring), identity=UNCACHED)
        assert not [outcome.trace for outcome in outcomes if outcome.trace]
        values(outcomes[1::2])
        assert {outcome.error.code for outcome in outcomes if outcome.error} <= {"IDENTIFIER_NOT_FOUND"}
        tables = check_invariants_now(database_config)
        assert len(live(tables)) <= 1
        assert len(tables["users"]) == len(tables["identifiers"])


async def test_in_one_process(database_config: FormationConfig) -> None:
    """Tasks of one loop, and two clients of it: what one caches the other answers."""
    async with AsyncFormationClient(database_config) as one, AsyncFormationClient(database_config) as other:
        for _ in range(10):
            name = secrets.token_hex(6)
            answers = await asyncio.gather(*(client.resolve_user(name, True) for client in (one, other) * 32))
            assert len({answer["muxi_user_id"] for answer in answers}) == 1
            assert sum(answer["created"] for answer in answers) == 1
