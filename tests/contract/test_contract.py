"""One table of scenarios, everybody, and equal outcomes: results and exceptions."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from muxi_identity import AsyncChannel, AsyncFormationClient, MuxiError, errors
from muxi_identity.client import lifecycle
from muxi_identity.context.export import archive
from muxi_identity.server.examples import example_of
from muxi_identity.storage import sharing
from muxi_identity.storage.opening import make_database
from tests.contract.parties import PARTIES, Calls, normal, parties
from tests.contract.scenarios import SCENARIOS, Scenario
from tests.postgres import PostgresCluster

pytestmark = pytest.mark.asyncio(loop_scope="module")

# By party and call: the errors that were seen, and None for a call that went well.
SEEN: defaultdict[str, defaultdict[str, set[str | None]]] = defaultdict(lambda: defaultdict(set))
DETAILS: defaultdict[str, set[frozenset[str]]] = defaultdict(set)
"""By an error's code: what its details have held."""
TOLD: dict[Scenario, dict[str, Any]] = {}

ELSEWHERE = {
    "cache_info": "a property of the process that has the cache",
    "close": "every scenario ends with it",
    "ephemeral": "makes an embedded formation",
    "formation_id": "no call",
    "get_credential_secret": "embedded only",
    "deliver_events": "embedded only",
    "run_due_tasks": "embedded only",
    "run_events": "embedded only",
    "run_tasks": "embedded only",
}
# A race, a broken installation or a full disk: other tests bring these about, in every kind of client.
NOT_HERE = {
    *("IdentityChangedError", "ConfigurationError", "StorageUnavailableError", "RequestInProgressError", "MuxiError")
}
NOT_OF = {
    # Only a task that has run is finished, and those of a served formation run on the server.
    "pause_task": {"InvalidScheduleError"},
    "resume_task": {"InvalidScheduleError"},
    # A server that has the answer itself gives it without asking the engine.
    "record_turn": {"SessionNotFoundError"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everybody(
    tmp_path_factory: pytest.TempPathFactory, postgres_cluster: PostgresCluster
) -> AsyncIterator[dict[str, Calls]]:
    def note(party: str, name: str, error: str | None) -> None:
        SEEN[party][name].add(error)

    # Thousands of small writes: nobody pulls the plug, so nobody waits for the disk.
    patch = pytest.MonkeyPatch()
    for module in (lifecycle, sharing):
        patch.setattr(module, "make_database", lambda config, durable=True: make_database(config, durable=False))
    patch.setattr(archive, "MAX_ROWS", 100)
    async with parties(tmp_path_factory.mktemp("contract"), postgres_cluster.create_database, note) as opened:
        yield opened
    patch.undo()


async def wipe(calls: Calls) -> None:
    for user in (await calls.list_users(limit=500))["users"]:
        await calls.delete_user(user["muxi_user_id"], include_merged=True)


async def tell(everybody: dict[str, Calls], scenario: Scenario) -> dict[str, Any]:
    """Return what everybody tells; each is asked once in a process."""
    if scenario not in TOLD:
        TOLD[scenario] = {}
        for party in PARTIES:
            await wipe(everybody[party])
            TOLD[scenario][party] = normal(await scenario(everybody[party]))
        note_details(TOLD[scenario]["embedded"])
    return TOLD[scenario]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_everybody_tells_the_same(everybody: dict[str, Calls], scenario: Scenario) -> None:
    told = await tell(everybody, scenario)
    wrong = [party + each for party in PARTIES for each in differences(told["embedded"], told[party])]
    assert not wrong, "\n".join(wrong)


def note_details(outcome: Any) -> None:
    if isinstance(outcome, dict):
        if {"code", "retryable", "details"} <= outcome.keys():
            DETAILS[outcome["code"]].add(frozenset(outcome["details"]))
        for each in outcome.values():
            note_details(each)
    elif isinstance(outcome, list):
        for each in outcome:
            note_details(each)


async def test_the_examples_of_errors_tell_what_errors_tell(everybody: dict[str, Calls]) -> None:
    for scenario in SCENARIOS:  # those that another process has run
        await tell(everybody, scenario)
    kinds = {
        kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MuxiError)
    }
    assert len(DETAILS) > 20
    for code, details in DETAILS.items():
        if code != "INVALID_REQUEST":  # its example is of a body that the framework has read
            assert frozenset(example_of(kinds[code])["error"]["details"]) in details, code


def differences(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """Yield where two outcomes differ: the whole of them would be pages."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{at}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from differences(mine, theirs, f"{at}[{number}]")
    elif one != other or type(one) is not type(other):
        yield f"{at}: {one!r:.300} != {other!r:.300}"


def raised_by(call: Any) -> set[str]:
    """Return the errors that the docstring of a call names."""
    section = (inspect.getdoc(call) or "").partition("Raises:")[2].partition(">>>")[0]
    return {name for name in re.findall(r"\b([A-Z]\w+Error)\b", section) if hasattr(errors, name)}


async def test_every_call_and_every_error_of_it_has_its_scenario(everybody: dict[str, Calls]) -> None:
    for scenario in SCENARIOS:
        await tell(everybody, scenario)
    public = {
        name: getattr(kind, name)
        for kind in (AsyncChannel, AsyncFormationClient)
        for name in dir(kind)
        if not name.startswith("_") and name not in ELSEWHERE
    }
    for party in PARTIES[1:]:
        seen = SEEN[party]
        assert public.keys() <= seen.keys(), party
        missing = {}
        for name, call in public.items():
            wanted = raised_by(call) - NOT_HERE - NOT_OF.get(name, set())
            lacking = {each for each in wanted if not any(covers(one, each) for one in seen[name] if one)}
            if lacking or (None not in seen[name]):
                missing[name] = lacking
        assert missing == {}, party


def covers(seen: str, wanted: str) -> bool:
    return issubclass(getattr(errors, seen), getattr(errors, wanted)) and issubclass(getattr(errors, seen), MuxiError)
