"""Events and link codes across processes: one wins, nothing is lost, and a killed worker's events come again."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

from muxi_identity import AsyncFormationClient, FormationConfig, LinkCodeError
from tests.formations import client_of
from tests.integration.test_events import NearNow, outbox
from tests.integration.test_lifecycle import environment
from tests.invariants import check_invariants
from tests.races.processes import PATIENCE, Swarm, call, mapping_of
from tests.receiver import Receiver, receiving, told

WORKER = """
import asyncio, json, os
from muxi_identity import AsyncFormationClient, FormationConfig
async def main():
    async with AsyncFormationClient(FormationConfig.from_mapping(json.loads(os.environ["TEST_MAPPING"]))) as client:
        print("ready", flush=True)
        await client.run_events(poll_seconds=0.05, concurrency=3)
asyncio.run(main())
"""


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def start_worker(config: FormationConfig, receiver: Receiver) -> asyncio.subprocess.Process:
    assert config.secret_key is not None
    mapping: dict[str, Any] = {**mapping_of(config), "webhooks": [{"url": receiver.url, "secret": receiver.key}]}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WORKER,
        stdout=asyncio.subprocess.PIPE,
        env=environment(TEST_MAPPING=json.dumps(mapping), MUXI_SECRET_KEY=config.secret_key.reveal()),
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"ready\n"
    return process


async def end(process: asyncio.subprocess.Process, how: signal.Signals) -> None:
    process.send_signal(how)
    await asyncio.wait_for(process.wait(), PATIENCE)
    assert process.stdout is not None
    await process.stdout.read()
    process._transport.close()  # type: ignore[attr-defined]


async def test_workers_share_the_events_and_keep_the_order(
    database_config: FormationConfig, receiver: Receiver
) -> None:
    config = told(database_config, receiver.webhook())
    workers = [await start_worker(config, receiver) for _ in range(2)]
    async with AsyncFormationClient(config) as client:
        for turn in range(4):
            await asyncio.gather(
                *(
                    client.associate_user_identifiers([f"user-{number}@email.com", (f"U{number}-{turn}", "slack")])
                    for number in range(8)
                )
            )
        await receiver.wait_for(8 * (1 + 2 + 3))
    for worker in workers:
        await end(worker, signal.SIGKILL)
    assert set(Counter(each.id for each in receiver.received).values()) == {1}
    kinds: dict[str, list[str]] = defaultdict(list)
    for each in receiver.received:
        kinds[each.user_id].append(each.type)
    assert list(kinds.values()) == [["user.create", *["identifier.link"] * 5]] * 8


async def test_what_a_killed_worker_was_sending_comes_again(
    database_config: FormationConfig, receiver: Receiver
) -> None:
    config, time = told(database_config, receiver.webhook()), NearNow()
    async with client_of(config, time) as client:
        for number in range(6):
            await client.associate_user_identifiers([(f"U{number}", "slack")])
        receiver.gate.clear()
        worker = await start_worker(config, receiver)
        await receiver.wait_for(3)  # as many as it sends at a time
        await end(worker, signal.SIGKILL)
        receiver.gate.set()
        lost = [each.id for each in receiver.received]
        held = [row["event_id"] for row in await outbox(config) if row["claim"]]
        assert sorted(lost) == sorted(held)
        await client.deliver_events()
        assert not {each.id for each in receiver.received[3:]} & set(lost)  # still under the dead worker's lease
        time.advance(120)  # the dead worker went by the machine's clock
        await client.deliver_events()
    assert await outbox(config) == []
    times = Counter(each.id for each in receiver.received)
    assert len(times) == 12
    assert {event: number for event, number in times.items() if number > 1} == dict.fromkeys(lost, 2)


async def test_one_of_several_processes_redeems_a_code(database_config: FormationConfig, swarm: Swarm) -> None:
    for turn in range(3):
        async with AsyncFormationClient(database_config) as client:
            await client.chat("Hello!", "asking@email.com")
            code = (await client.create_link_code("asking@email.com"))["code"]
        calls = [
            [
                call("redeem_link_code", code, f"user-{turn}-{process}-{number}@email.com", confirm=True)
                for number in range(3)
            ]
            for process in range(swarm.number)
        ]
        outcomes = await asyncio.to_thread(swarm.run_flat, database_config, calls)
        assert [each.trace for each in outcomes if each.trace] == []
        assert [each.value["joined"] for each in outcomes if each.error is None] == [True]
        assert {type(each.error) for each in outcomes if each.error is not None} == {LinkCodeError}
    tables = await check_invariants(database_config)
    assert len(tables["merges"]) == 3


async def test_guesses_of_several_processes_are_counted_together(
    database_config: FormationConfig, swarm: Swarm
) -> None:
    async with AsyncFormationClient(database_config) as client:
        await client.chat("Hello!", "guessing@email.com")
    calls = [[call("redeem_link_code", "0000-0000", "guessing@email.com")] * 5 for _ in range(swarm.number)]
    outcomes = await asyncio.to_thread(swarm.run_flat, database_config, calls)
    codes = Counter(each.error.code if each.error else each.trace for each in outcomes)
    assert codes == {"LINK_CODE_INVALID": 5, "LINK_CODE_LIMITED": 5 * swarm.number - 5}
