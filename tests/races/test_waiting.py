"""Writers of one person at once: they wait for each other in one order, and never in a circle."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator

import pytest

from muxi_identity import AsyncFormationClient, FormationConfig
from muxi_identity.config import WorkingConfig
from muxi_identity.context.preferences import rows as preference_rows
from muxi_identity.conversation.responder import Fact, Response, Turn
from muxi_identity.errors import MemoryNotFoundError, PreferenceNotFoundError, TooLargeError
from muxi_identity.storage import errors
from tests.formations import client_of
from tests.invariants import check_invariants

EMAIL, SLACK = "alice@email.com", ("U98765ABC", "slack")
DEADLOCK = "40P01"
WORDS = [f"word {number}" for number in range(8)]


class Learning:
    """Learns a fact and sets a preference in every turn, whatever is said."""

    restartable = True

    async def respond(self, turn: Turn) -> Response:
        return Response("Noted.", [Fact("topic", turn.message, turn.message)], preferences={"language": turn.message})


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The states of all errors that PostgreSQL reports; a deadlock is answered by another attempt and else unseen."""
    seen: list[str] = []
    translate = errors._translate_postgres

    def remembering(state: str, constraint: str | None, error: BaseException) -> BaseException:
        seen.append(state)
        return translate(state, constraint, error)

    monkeypatch.setattr(errors, "_translate_postgres", remembering)
    return seen


@pytest.fixture
def config(database_config: FormationConfig) -> FormationConfig:
    return dataclasses.replace(database_config, working=WorkingConfig(ttl=3600, max_items=5))


@pytest.fixture
async def clients(config: FormationConfig) -> AsyncIterator[list[AsyncFormationClient]]:
    async with client_of(config) as one, client_of(config) as other:
        await one.associate_user_identifiers([EMAIL, SLACK])
        yield [one, other]


async def test_turns_and_preferences(
    config: FormationConfig, clients: list[AsyncFormationClient], states: list[str]
) -> None:
    one, other = clients

    async def talk(number: int) -> None:
        for turn in range(6):
            await learning.chat(f"{number} {turn}", EMAIL, session_id=f"{number}")

    async def choose() -> None:
        for number in range(12):
            await one.set_preference(EMAIL, "language", number)

    async def forget() -> None:
        for _ in range(12):
            with contextlib.suppress(PreferenceNotFoundError):
                await other.delete_preference(SLACK, "language")

    async with AsyncFormationClient(config, responder=Learning()) as learning:
        await asyncio.gather(talk(1), talk(2), choose(), choose(), forget(), forget())
    assert DEADLOCK not in states
    await check_invariants(config)


async def test_items_of_working_memory(
    config: FormationConfig, clients: list[AsyncFormationClient], states: list[str]
) -> None:
    async def note(number: int) -> None:
        chance = random.Random(number)
        for _ in range(15):
            topics = chance.sample(WORDS, 3)
            await clients[number % 2].record_turn(EMAIL, [], session_id=f"{number}", topics=topics)

    await asyncio.gather(*(note(number) for number in range(6)))
    assert DEADLOCK not in states
    await clients[0].record_turn(SLACK, [], topics=["the last one"])
    tables = await check_invariants(config)
    kept = [row["content"] for row in tables["working_memory"]]
    assert len(kept) == 5
    assert "the last one" in kept


async def test_turns_and_forgetting(
    config: FormationConfig, clients: list[AsyncFormationClient], states: list[str]
) -> None:
    one, other = clients

    async def record(number: int) -> None:
        chance = random.Random(number)
        for _ in range(10):
            said = chance.choice(WORDS)
            await one.record_turn(EMAIL, [], session_id=f"{number}", topics=[said], memories=[said])

    async def talk(number: int) -> None:
        chance = random.Random(number)
        for _ in range(10):
            said = chance.choice(WORDS)
            await learning.chat(said, EMAIL, session_id=f"{number}")
            kept = await other.add_memory(SLACK, said)
            with contextlib.suppress(MemoryNotFoundError):
                await other.delete_memory(kept["memory_id"], EMAIL)

    async with AsyncFormationClient(config, responder=Learning()) as learning:
        await asyncio.gather(record(1), record(2), talk(3), talk(4))
    assert DEADLOCK not in states
    await check_invariants(config)


async def test_clearing_sessions(
    config: FormationConfig, clients: list[AsyncFormationClient], states: list[str]
) -> None:
    person = (await clients[0].resolve_user(EMAIL))["muxi_user_id"]

    async def talk(number: int) -> None:
        chance = random.Random(number)
        for _ in range(12):
            who = chance.choice([EMAIL, SLACK])
            said = [{"role": "user", "content": "Hello"}]
            await clients[number % 2].record_turn(who, said, session_id=f"{chance.randrange(6)}")

    async def clear(number: int) -> None:
        for _ in range(12):
            await clients[number % 2].clear_sessions((EMAIL, SLACK, person)[number % 3])

    await asyncio.gather(*(talk(number) for number in range(4)), *(clear(number) for number in range(6)))
    assert DEADLOCK not in states
    await check_invariants(config)


async def test_the_bound_of_preferences_holds(
    config: FormationConfig, clients: list[AsyncFormationClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preference_rows, "MAX_PREFERENCES", 5)

    async def choose(number: int) -> bool:
        try:
            await clients[number % 2].set_preference((EMAIL, SLACK)[number % 3 % 2], f"key {number}", number)
        except TooLargeError:
            return False
        return True

    kept = await asyncio.gather(*(choose(number) for number in range(20)))
    assert sum(kept) == len(await clients[0].get_preferences(EMAIL)) == 5
    await check_invariants(config)
