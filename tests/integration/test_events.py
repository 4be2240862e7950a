"""Events: to webhooks at least once and in order, to callbacks after the commit, and to nobody where nobody asked."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

from muxi_identity import (
    AsyncFormationClient,
    ClientClosedError,
    EventNotFoundError,
    FormationClient,
    FormationConfig,
    InvalidRequestError,
    MergeConflictError,
)
from muxi_identity.client.lifecycle import Lifecycle
from muxi_identity.events import callbacks, rows, sending
from muxi_identity.formation import Clock
from muxi_identity.identity.outbox import announce_task_run
from muxi_identity.identity.running import Caller
from muxi_identity.models import EVENT_TYPES, EventPayload
from tests.formations import Time, client_of, dump, is_heartbeat, rows_of
from tests.invariants import check_invariants
from tests.receiver import PATIENCE, Received, Receiver, receiving, told

SLACK = ("U98765ABC", "slack")
MAIL = "alice@email.com"
LEASE = rows.LEASE_SECONDS
TO_THE_END = sum(rows.PAUSES) * 2


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


class NearNow(Time):
    """A clock that begins now, so that signatures are taken, and can be advanced."""

    def __init__(self) -> None:
        import time

        self.at = time.time_ns() // 1000


def by_user(received: list[Received]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for each in received:
        found[each.user_id].append(each.type)
    return found


async def outbox(config: FormationConfig) -> list[dict[str, Any]]:
    return sorted(rows_of(await dump(config), "muxi_outbox"), key=lambda row: row["position"])


# What is told


async def test_what_happens_is_told(database_config: FormationConfig, receiver: Receiver) -> None:
    config = told(database_config, receiver.webhook())
    async with AsyncFormationClient(config) as client:
        alice = (await client.chat("Hello!", MAIL)).user_id
        slack = (await client.chat("Hello!", SLACK)).user_id
        linked = await client.associate_user_identifiers([MAIL, SLACK], on_conflict="merge", reason="on the phone")
        await client.unlink_user_identifier(SLACK)
        await client.delete_user(alice, include_merged=True)
        assert await client.deliver_events() == {"delivered": 7, "retried": 0, "given_up": 0}
        assert await client.deliver_events() == {"delivered": 0, "retried": 0, "given_up": 0}
    assert by_user(receiver.received) == {
        alice: ["user.create", "identifier.link", "user.merge", "identifier.unlink", "user.delete"],
        slack: ["user.create", "identifier.link"],
    }
    assert receiver.types.index("user.merge") == 4  # after everything of both
    merge = next(each for each in receiver.received if each.type == "user.merge")
    assert merge.payload["data"] == {
        "formation_id": config.id,
        "muxi_user_id": alice,
        "other_user_id": slack,
        "merge_id": linked["merge_ids"][0],
    }
    assert set(merge.payload) == {"id", "type", "timestamp", "data"}
    assert len({each.id for each in receiver.received}) == 7
    everything = json.dumps([each.payload for each in receiver.received])
    for text in (MAIL, "U98765ABC", "phone", "embedded"):  # ids alone
        assert text not in everything
    assert await outbox(config) == []


async def test_what_is_told_is_what_the_history_says(database_config: FormationConfig, receiver: Receiver) -> None:
    config = told(database_config, receiver.webhook())
    async with AsyncFormationClient(config) as client:
        await client.associate_user_identifiers([MAIL, SLACK])  # a link that is one statement where nobody listens
        await client.associate_user_identifiers([("583231", "github")], user_id=MAIL)
        await client.associate_user_identifiers([MAIL], verified=True)
        await client.resolve_user({"identifier": "U7", "type": "slack", "verified": True}, create_user=True)
        await client.resolve_user("new@email.com", create_user=True)
        await client.create_user("usr_bob")
        asked = await client.create_link_code(SLACK)
        await client.redeem_link_code(asked["code"], "new@email.com", confirm=True)
        with pytest.raises(MergeConflictError):
            await client.delete_user(MAIL)
        await client.deliver_events(limit=1_000)
    tables = await check_invariants(config)
    written = sorted((row["event"].replace(":", "."), row["user_id"]) for row in tables["history"])
    assert sorted((each.type, each.user_id) for each in receiver.received) == written


async def test_only_what_was_asked_for(database_config: FormationConfig, receiver: Receiver) -> None:
    config = told(database_config, receiver.webhook(["user.merge", "task_run.finish"]))
    async with AsyncFormationClient(config) as client:
        await client.chat("Hello!", MAIL)
        await client.chat("Hello!", SLACK)
        assert await outbox(config) == []
        assert not (await client._formation())._runner.tells_of_newcomers
        await client.associate_user_identifiers([MAIL, SLACK], on_conflict="merge")
        assert [row["type"] for row in await outbox(config)] == ["user.merge"]
        await client.deliver_events()
    assert receiver.types == ["user.merge"]


async def test_nobody_asked(database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """First contact and plain links stay one statement, and no outbox is written."""
    async with AsyncFormationClient(database_config) as client:
        formation = await client._formation()
        calls: list[str] = []
        real = formation.database.transact

        async def transact(work: Any) -> Any:
            if not is_heartbeat(work):
                calls.append("transact")
            return await real(work)

        monkeypatch.setattr(formation.database, "transact", transact)
        await client.associate_user_identifiers([MAIL, SLACK])
        await client.resolve_user("new@email.com", create_user=True)
        assert calls == []
        await client.associate_user_identifiers([MAIL, "new@email.com"], on_conflict="merge")
        assert calls == ["transact"]
        assert await client.deliver_events() == {"delivered": 0, "retried": 0, "given_up": 0}
    assert await outbox(database_config) == []


async def test_finished_runs_are_told(database_config: FormationConfig, receiver: Receiver) -> None:
    """What the scheduler calls in the transaction that records the end of a run."""
    heard: list[EventPayload] = []
    config = told(database_config, receiver.webhook())
    async with AsyncFormationClient(config, on_event=heard.append) as client:
        await client.associate_user_identifiers([MAIL], user_id=(await client.create_user("usr_a"))["muxi_user_id"])
        await client.chat("Hello!", SLACK)
        formation = await client._formation()
        hit = await formation._resolver.existing(formation.parse(SLACK))
        await client.associate_user_identifiers([MAIL, SLACK], on_conflict="merge")
        await formation._runner.change(
            lambda tx: announce_task_run(tx, hit.member_pk, task_id="tsk_1", run_id="run_1", status="succeeded"),
            Caller("worker"),
        )
        await client.deliver_events()
    for payload in (receiver.received[-1].payload, heard[-1]):
        assert payload["type"] == "task_run.finish"
        assert payload["data"] == {
            "formation_id": config.id,
            "muxi_user_id": "usr_a",  # the root, not the member that the task was recorded under
            "task_id": "tsk_1",
            "run_id": "run_1",
            "status": "succeeded",
        }


async def test_the_scheduler_tells_of_its_runs(database_config: FormationConfig, receiver: Receiver) -> None:
    config, time = told(database_config, receiver.webhook(["task_run.finish"])), NearNow()
    async with client_of(config, time) as client:
        task = await client.schedule_task(MAIL, "Hello!", cron="0 9 * * *")
        time.advance(2 * 86_400)
        (run,) = await client.run_due_tasks()
        assert (await client.deliver_events())["delivered"] == 1
    assert receiver.received[0].payload["data"] == {
        "formation_id": config.id,
        "muxi_user_id": task["muxi_user_id"],
        "task_id": task["task_id"],
        "run_id": run["run_id"],
        "status": "succeeded",
    }


async def test_what_was_rolled_back_is_not_told(database_config: FormationConfig, receiver: Receiver) -> None:
    heard: list[EventPayload] = []
    config = told(database_config, receiver.webhook())
    async with AsyncFormationClient(config, on_event=heard.append) as client:
        formation = await client._formation()

        def fail(tx: Any) -> None:
            announce_task_run(tx, 1, task_id="t", run_id="r", status="succeeded")
            from muxi_identity.identity.people import new_user

            new_user(tx, established=True)
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            await formation._runner.change(fail, Caller("x"))
        assert await outbox(config) == []
    assert heard == []


# Order


async def test_in_order_for_each_user_by_several_workers(database_config: FormationConfig, receiver: Receiver) -> None:
    config = told(database_config, receiver.webhook())
    receiver.answers = [500 if number % 7 == 3 else 200 for number in range(200)]
    time = NearNow()
    clients = [client_of(config, time) for _ in range(3)]
    try:
        people = [f"user-{number}@email.com" for number in range(5)]
        for turn in range(6):
            await asyncio.gather(
                *(
                    clients[number % 3].associate_user_identifiers([each, (f"U{number}-{turn}", "slack")])
                    for number, each in enumerate(people)
                )
            )
        expected = await outbox(config)
        for _ in range(40):
            await asyncio.gather(*(client.deliver_events(limit=50) for client in clients))
            if not await outbox(config):
                break
            time.advance(6)
        assert await outbox(config) == []
    finally:
        for client in clients:
            await client.close()
    first: dict[str, list[str]] = defaultdict(list)
    for each in receiver.received:
        if each.id not in first[each.user_id]:
            first[each.user_id].append(each.id)
    written: dict[str, list[str]] = defaultdict(list)
    for row in expected:
        written[row["user_id"]].append(row["event_id"])
    assert first == written
    assert len(receiver.received) > len(expected)  # some were refused, and came again


async def test_nothing_overtakes_what_waits_for_its_next_attempt(
    database_config: FormationConfig, receiver: Receiver
) -> None:
    config, time = told(database_config, receiver.webhook()), NearNow()
    async with client_of(config, time) as client:
        await client.create_user("usr_a")
        await client.associate_user_identifiers([MAIL], user_id="usr_a")
        await client.create_user("usr_b")
        receiver.refusing = {"usr_a"}
        assert await client.deliver_events() == {"delivered": 1, "retried": 1, "given_up": 0}
        assert [each.user_id for each in receiver.received].count("usr_b") == 1
        assert (await client.deliver_events())["delivered"] == 0
        receiver.refusing.clear()
        time.advance(8)
        assert (await client.deliver_events())["delivered"] == 2
    assert by_user(receiver.received)["usr_a"] == ["user.create", "user.create", "identifier.link"]


async def test_a_merge_waits_for_both_and_both_wait_for_it(
    database_config: FormationConfig, receiver: Receiver
) -> None:
    config, time = told(database_config, receiver.webhook()), NearNow()
    async with client_of(config, time) as client:
        await client.create_user("usr_a")
        await client.associate_user_identifiers([MAIL], user_id="usr_a")
        await client.deliver_events()
        await client.create_user("usr_b")
        await client.associate_user_identifiers([SLACK], user_id="usr_b")
        await client.associate_user_identifiers([MAIL, SLACK], user_id="usr_a", on_conflict="merge")
        await client.associate_user_identifiers([("583231", "github")], user_id="usr_a")
        receiver.received.clear()
        receiver.answers = [500]  # the making of usr_b
        await client.deliver_events()
        assert len(receiver.received) == 1
        time.advance(8)
        await client.deliver_events()
    assert [(each.type, each.user_id) for each in receiver.received[1:]] == [
        ("user.create", "usr_b"),
        ("identifier.link", "usr_b"),
        ("user.merge", "usr_a"),
        ("identifier.link", "usr_a"),
    ]


async def test_the_order_of_the_outbox_is_that_of_the_commits(
    database_config: FormationConfig, receiver: Receiver
) -> None:
    """Many clients change one person at once, and somebody watches: nothing appears before what was there already."""
    config = told(database_config, receiver.webhook())
    heard: list[str] = []
    clients = [AsyncFormationClient(config, on_event=lambda event: heard.append(event["id"])) for _ in range(3)]
    await clients[0].create_user("usr_a")

    async def link(number: int) -> None:
        await clients[number % 3].associate_user_identifiers([(f"U{number}", "slack")], user_id="usr_a")

    linking = asyncio.gather(*(link(number) for number in range(40)))
    seen: list[int] = []
    looks = 0
    while not linking.done():
        await asyncio.sleep(0)  # reading SQLite waits for nothing
        found = [row["position"] for row in await outbox(config)]
        assert found[: len(seen)] == seen, "an event came before one that was there"
        looks += len(found) > len(seen)
        seen = found
    await linking
    assert looks > 3, "nobody watched"
    written = [row["event_id"] for row in await outbox(config)]
    for client in clients:
        await client.close()
    assert len(written) == 41
    assert sorted(heard) == sorted(written)
    await check_invariants(config)


# Failures


async def test_what_is_no_success_is_tried_again(database_config: FormationConfig, receiver: Receiver) -> None:
    config = told(database_config, receiver.webhook())
    receiver.headers = {"location": receiver.url}  # a redirect would lead back here
    statuses = [300, 301, 302, 307, 308, 400, 404, 410, 429, 500, 503]
    receiver.answers = list(statuses)
    async with AsyncFormationClient(config) as client:
        for status in statuses:
            await client.create_user(f"usr_{status}")
        assert await client.deliver_events() == {"delivered": 0, "retried": len(statuses), "given_up": 0}
    written = await outbox(config)
    assert {row["error"] for row in written} == {f"HTTP {status}" for status in statuses}
    assert {(row["attempts"], row["claim"]) for row in written} == {(1, None)}
    assert len(receiver.received) == len(statuses)


async def test_it_waits_as_long_as_it_is_asked_to(database_config: FormationConfig, receiver: Receiver) -> None:
    config, time = told(database_config, receiver.webhook()), NearNow()
    async with client_of(config, time) as client:
        await client.create_user("usr_a")
        receiver.answers, receiver.headers = [429, 429, 429], {"retry-after": "120"}
        await client.deliver_events()
        (row,) = await outbox(config)
        assert 115_000_000 < row["due_at"] - time.at <= 120_000_000
        for nonsense in ("-5", "soon", "9" * 400):
            receiver.headers = {"retry-after": nonsense}
            time.advance(86_500)
            receiver.received.clear()
            await client.deliver_events()


async def test_the_webhook_is_down_then_up(database_config: FormationConfig, receiver: Receiver) -> None:
    config, time = told(database_config, receiver.webhook()), NearNow()
    async with client_of(config, time) as client:
        await client.create_user("usr_a")
        await receiver.stop()
        assert (await client.deliver_events())["retried"] == 1
        (row,) = await outbox(config)
        assert row["error"].startswith("not delivered: ")
        assert "secret-path" not in row["error"]
        await receiver.start()
        assert (await client.deliver_events())["delivered"] == 0
        time.advance(rows.PAUSES[0] * 1.2)
        assert (await client.deliver_events())["delivered"] == 1
    assert receiver.types == ["user.create"]


async def test_a_webhook_that_does_not_answer(
    database_config: FormationConfig, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SEND_SECONDS", 0.1)
    config = told(database_config, receiver.webhook())
    receiver.gate.clear()
    async with AsyncFormationClient(config) as client:
        await client.create_user("usr_a")
        assert (await client.deliver_events())["retried"] == 1
    (row,) = await outbox(config)
    assert row["error"] == "no answer in 0.1 seconds"


async def test_it_is_given_up_and_the_next_goes_on(database_config: FormationConfig, receiver: Receiver) -> None:
    config, time = told(database_config, receiver.webhook()), NearNow()
    async with client_of(config, time) as client:
        await client.create_user("usr_a")
        receiver.answers = [500] * (len(rows.PAUSES) + 1)
        reports, due = [], []
        for pause in [*rows.PAUSES, 0]:
            reports.append(await client.deliver_events())
            due += [(row["due_at"] - time.at) / 1e6 for row in await outbox(config) if row["failed_at"] is None]
            time.advance(pause * 1.2)
        for pause, waited in zip(rows.PAUSES, due, strict=True):
            assert 0.79 * pause < waited < 1.21 * pause
        assert [each["given_up"] for each in reports] == [0] * len(rows.PAUSES) + [1]
        await client.associate_user_identifiers([MAIL], user_id="usr_a")
        assert (await client.deliver_events())["delivered"] == 1

        page = await client.list_dead_events()
        (dead,) = page["events"]
        assert dead == {
            "event_id": receiver.received[0].id,
            "type": "user.create",
            "muxi_user_id": "usr_a",
            "webhook": f"http://127.0.0.1:{receiver.port}",
            "attempts": len(rows.PAUSES) + 1,
            "error": "HTTP 500",
            "created_at": dead["created_at"],
            "failed_at": dead["failed_at"],
        }
        assert "secret-path" not in repr(page)
        assert await client.retry_dead_event(dead["event_id"]) == {"event_id": dead["event_id"], "webhooks": 1}
        assert (await client.deliver_events())["delivered"] == 1
        assert receiver.received[-1].id == dead["event_id"]
        assert (await client.list_dead_events())["count"] == 0
        with pytest.raises(EventNotFoundError):
            await client.retry_dead_event(dead["event_id"])


async def test_pages_of_what_was_given_up(
    database_config: FormationConfig, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "PAUSES", ())
    config = told(database_config, receiver.webhook())
    receiver.answers = [500] * 20
    async with client_of(config, NearNow()) as client:
        for number in range(7):
            await client.create_user(f"usr_{number}")
        assert (await client.deliver_events())["given_up"] == 7
        seen, cursor = [], None
        while True:
            page = await client.list_dead_events(limit=3, cursor=cursor)
            seen += [each["muxi_user_id"] for each in page["events"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert sorted(seen) == [f"usr_{number}" for number in range(7)]
        for limit in (0, 501, True, "5"):
            with pytest.raises(InvalidRequestError):
                await client.list_dead_events(limit=limit)  # type: ignore[arg-type]
        for wrong in ("", "x" * 44, "\ud800", 5):
            with pytest.raises(InvalidRequestError):
                await client.list_dead_events(cursor=wrong)  # type: ignore[arg-type]
        for wrong in ("", "x" * 65, "\x00", None):
            with pytest.raises((InvalidRequestError, EventNotFoundError)):
                await client.retry_dead_event(wrong)  # type: ignore[arg-type]
    async with AsyncFormationClient(dataclasses.replace(config, id="test-elsewhere-2")) as elsewhere:
        assert (await elsewhere.list_dead_events())["count"] == 0


async def test_old_dead_letters_and_those_of_webhooks_that_are_gone_are_dropped(
    database_config: FormationConfig, receiver: Receiver
) -> None:
    config, time = told(database_config, receiver.webhook()), NearNow()
    async with client_of(config, time) as client:
        await client.create_user("usr_a")
    other = dataclasses.replace(receiver.webhook(), url=type(config.webhooks[0].url)(receiver.url + "2"))
    async with client_of(told(config, other), time) as client:
        await client.create_user("usr_b")
        await client.deliver_events()
        assert [row["user_id"] for row in await outbox(config)] == ["usr_a"]
        time.advance(rows.KEEP_SECONDS + 10)
        await client.create_user("usr_c")
        (await client._formation()).events._tidied_at = 0
        await client.deliver_events()
    assert [row["user_id"] for row in await outbox(config)] == []


async def test_a_lease_that_ended_is_another_workers(database_config: FormationConfig, receiver: Receiver) -> None:
    """A worker is paused while it delivers: the event comes twice, and the late worker changes nothing any more."""
    config, time = told(database_config, receiver.webhook()), NearNow()
    async with client_of(config, time) as slow, client_of(config, time) as quick:
        await slow.create_user("usr_a")
        receiver.gate.clear()
        delivering = asyncio.create_task(slow.deliver_events())
        await receiver.wait_for(1)
        assert (await quick.deliver_events())["delivered"] == 0  # it is claimed
        time.advance(LEASE + 1)
        again = asyncio.create_task(quick.deliver_events())
        await receiver.wait_for(2)
        receiver.gate.set()
        reports = [await delivering, await again]
        assert [each["delivered"] for each in reports] == [0, 1]
    assert [each.id for each in receiver.received] == [receiver.received[0].id] * 2
    assert await outbox(config) == []


# Workers


async def test_run_events_delivers_as_they_come(database_config: FormationConfig, receiver: Receiver) -> None:
    config = told(database_config, receiver.webhook())
    async with AsyncFormationClient(config) as client:
        worker = asyncio.create_task(client.run_events(poll_seconds=60))
        await client.create_user("usr_a")
        await receiver.wait_for(1)
        await client.create_user("usr_b")
        await receiver.wait_for(2)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
    assert receiver.types == ["user.create"] * 2


async def test_run_events_hears_of_other_processes_by_polling(
    database_config: FormationConfig, receiver: Receiver
) -> None:
    config = told(database_config, receiver.webhook())
    async with AsyncFormationClient(config) as worker, AsyncFormationClient(config) as other:
        running = asyncio.create_task(worker.run_events(poll_seconds=0.02))
        await other.create_user("usr_a")
        await receiver.wait_for(1)
        await worker.close()
        await asyncio.wait_for(running, PATIENCE)  # it ends without an error


async def test_closing_gives_back_what_was_just_claimed(
    database_config: FormationConfig, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = told(database_config, receiver.webhook())
    client = AsyncFormationClient(config)
    await client.create_user("usr_a")
    runner = (await client._lifecycle.formation())._runner
    change, claimed, gate = runner.change, asyncio.Event(), asyncio.Event()

    async def claim_slowly(work: Any, caller: Any) -> Any:
        result = await change(work, caller)
        if isinstance(result, rows.Due):
            claimed.set()
            await gate.wait()
        return result

    monkeypatch.setattr(runner, "change", claim_slowly)
    running = asyncio.create_task(client.run_events(concurrency=1))
    await asyncio.wait_for(claimed.wait(), PATIENCE)
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait_for(closing, PATIENCE)
    await asyncio.wait_for(running, PATIENCE)
    (row,) = await outbox(config)
    assert row["claim"] is None
    assert receiver.received == []


async def test_closing_gives_back_what_was_being_sent(database_config: FormationConfig, receiver: Receiver) -> None:
    config = told(database_config, receiver.webhook())
    client = AsyncFormationClient(config)
    await client.create_user("usr_a")
    receiver.gate.clear()
    running = asyncio.create_task(client.run_events())
    await receiver.wait_for(1)
    await client.close()
    await asyncio.wait_for(running, PATIENCE)
    (row,) = await outbox(config)
    assert row["claim"] is None
    receiver.gate.set()
    async with AsyncFormationClient(config) as client:
        assert (await client.deliver_events())["delivered"] == 1
    with pytest.raises(ClientClosedError):
        await (await closed(config)).deliver_events()


async def closed(config: FormationConfig) -> AsyncFormationClient:
    client = AsyncFormationClient(config)
    await client.close()
    return client


def test_the_blocking_client_runs_until_it_is_closed_from_another_thread(
    database_config: FormationConfig,
) -> None:
    ready, results = threading.Event(), []
    client = FormationClient(database_config, on_event=lambda event: ready.set())

    def work() -> None:
        try:
            results.append(client.run_events(poll_seconds=0.05))
        except ClientClosedError as error:
            results.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    client.create_user("usr_a")
    assert ready.wait(PATIENCE)
    client.close()
    worker.join(PATIENCE)
    assert not worker.is_alive()
    assert results == [None]


async def test_arguments(database_config: FormationConfig) -> None:
    async with AsyncFormationClient(database_config) as client:
        for limit in (0, -1, 100_001, True, "5"):
            with pytest.raises(InvalidRequestError):
                await client.deliver_events(limit=limit)  # type: ignore[arg-type]
        for options in ({"concurrency": 0}, {"concurrency": 65}, {"poll_seconds": 0}, {"poll_seconds": "1"}):
            with pytest.raises(InvalidRequestError):
                await client.run_events(**options)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError):
        AsyncFormationClient(database_config, on_event="nothing")  # type: ignore[arg-type]


async def test_several_webhooks_do_not_wait_for_each_other(database_config: FormationConfig) -> None:
    async with receiving() as one, receiving() as other:
        config, time = told(database_config, one.webhook(), other.webhook(["user.create"])), NearNow()
        one.answers = [500]
        async with client_of(config, time) as client:
            await client.associate_user_identifiers([MAIL])
            assert await client.deliver_events() == {"delivered": 1, "retried": 1, "given_up": 0}
            assert other.types == ["user.create"]
            time.advance(8)
            assert (await client.deliver_events())["delivered"] == 2
        assert one.types == ["user.create", "user.create", "identifier.link"]
        assert one.received[0].id == other.received[0].id


# Callbacks


@pytest.mark.parametrize("kind", ["function", "coroutine", "object"])
async def test_a_callback_is_told_after_the_commit_in_order(database_config: FormationConfig, kind: str) -> None:
    heard: list[EventPayload] = []
    known: list[bool] = []
    arrived = asyncio.Event()

    async def hear(event: EventPayload) -> None:
        if event["type"] == "user.create":
            known.append(event["data"]["muxi_user_id"] in repr(await client.list_users(limit=500)))
        heard.append(event)
        if len(heard) == 15:
            arrived.set()

    def hear_plainly(event: EventPayload) -> None:
        asyncio.run_coroutine_threadsafe(hear(event), loop).result(PATIENCE)

    class Listener:
        async def __call__(self, event: EventPayload) -> None:
            await hear(event)

    loop = asyncio.get_running_loop()
    listener: Any = {"function": hear_plainly, "coroutine": hear, "object": Listener()}[kind]
    client = AsyncFormationClient(database_config, on_event=listener)
    async with client:
        for number in range(5):
            who = (await client.resolve_user(f"user-{number}@email.com", create_user=True))["muxi_user_id"]
            await client.associate_user_identifiers([(f"U{number}", "slack")], user_id=who)
        await asyncio.wait_for(arrived.wait(), PATIENCE)
    assert [each["type"] for each in heard] == ["user.create", "identifier.link", "identifier.link"] * 5
    assert known == [True] * 5
    assert {each["type"] for each in heard} <= set(EVENT_TYPES)


async def test_what_a_callback_raises_is_logged_and_harms_nothing(
    database_config: FormationConfig, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def fail(event: EventPayload) -> None:
        heard.append(event["type"])
        raise ValueError("mine")

    with caplog.at_level(logging.ERROR, logger="muxi_identity.events"):
        async with AsyncFormationClient(database_config, on_event=fail) as client:
            await client.create_user("usr_a")
            await client.associate_user_identifiers([MAIL], user_id="usr_a")
            assert (await client.get_user(MAIL))["muxi_user_id"] == "usr_a"
    assert heard == ["user.create", "identifier.link"]
    assert caplog.text.count("on_event failed for evt_") == 2


async def test_closing_tells_what_is_left(database_config: FormationConfig) -> None:
    heard: list[EventPayload] = []
    async with AsyncFormationClient(database_config, on_event=heard.append) as client:
        for number in range(20):
            await client.create_user(f"usr_{number}")
    assert len(heard) == 20


async def test_a_callback_that_never_returns(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(callbacks, "MOST_WAITING", 3)
    monkeypatch.setattr(callbacks, "_CLOSING_SECONDS", 0.1)

    async def never(event: EventPayload) -> None:
        await asyncio.Event().wait()

    async with AsyncFormationClient(database_config, on_event=never) as client:
        for number in range(8):
            await client.create_user(f"usr_{number}")  # nobody waits for the callback
        assert (await client.list_users())["count"] == 8
    assert "events behind" in caplog.text
    assert "closed with 3 events" in caplog.text


def test_a_callback_may_use_the_blocking_client(database_config: FormationConfig) -> None:
    seen: list[str] = []
    done = threading.Event()

    def hear(event: EventPayload) -> None:
        seen.append(client.get_user(event["data"]["muxi_user_id"])["muxi_user_id"])
        done.set()

    with FormationClient(database_config, on_event=hear) as client:
        client.create_user("usr_a")
        assert done.wait(PATIENCE)
    assert seen == ["usr_a"]


async def test_the_lifecycle_hands_the_callback_on(database_config: FormationConfig) -> None:
    heard: list[EventPayload] = []
    client = AsyncFormationClient(database_config)
    client._lifecycle = Lifecycle(database_config, responder=None, clock=Clock(Time()), on_event=heard.append)
    async with client:
        await client.create_user("usr_a")
    assert heard[0]["timestamp"].startswith("2027-")
