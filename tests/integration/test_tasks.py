"""Scheduled tasks: kept for the person, run as a turn of theirs, and what came of it, on both databases."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from muxi_identity import (
    AsyncFormationClient,
    FormationClient,
    FormationConfig,
    InvalidRequestError,
    InvalidScheduleError,
    MuxiError,
    SecretRefusedError,
    TaskNotFoundError,
    TaskRun,
    TooLargeError,
    UserNotFoundError,
)
from muxi_identity.client.lifecycle import Lifecycle
from muxi_identity.context.tasks import claims, endings, rows
from muxi_identity.context.tasks.run import Claimed
from muxi_identity.conversation import shift
from muxi_identity.conversation.responder import Fact, Response, Turn
from muxi_identity.errors import ModelError, ModelUnavailableError, StorageUnavailableError
from muxi_identity.formation import Clock
from tests.formations import Time, dump, rows_of
from tests.invariants import check_invariants

PATIENCE = 60.0
WEB, SLACK, MAIL = "user_123", ("U98765ABC", "slack"), "alice@email.com"
NEW_YEAR = datetime(2027, 1, 15, 8, tzinfo=UTC)  # what the clock of these tests begins at


class Answering:
    """Answers with what it is told to, or raises it; holds the turns whose message is in ``held``."""

    restartable = False

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.answer: Callable[[Turn], str] = lambda turn: f"Done: {turn.message}"
        self.error: BaseException | None = None
        self.held = False
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.left = asyncio.Event()
        self.at_once = 0
        self.most_at_once = 0

    async def respond(self, turn: Turn) -> Response:
        self.turns.append(turn)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.asked.set()
        try:
            if self.held:
                await self.go_on.wait()
            if self.error is not None:
                raise self.error
            return Response(self.answer(turn), [Fact("topic", turn.message, turn.message)])
        finally:
            self.at_once -= 1
            self.left.set()

    async def was_asked(self) -> None:
        await asyncio.wait_for(self.asked.wait(), PATIENCE)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def responder() -> Answering:
    return Answering()


def client_with(config: FormationConfig, time: Time, responder: Any) -> AsyncFormationClient:
    client = AsyncFormationClient(config)
    client._lifecycle = Lifecycle(config, responder=responder, clock=Clock(time))
    return client


@pytest.fixture
async def client(
    database_config: FormationConfig, time: Time, responder: Answering
) -> AsyncIterator[AsyncFormationClient]:
    async with client_with(database_config, time, responder) as client:
        yield client
        await client.find_user("nobody@x.com")  # what was begun has ended well
    await check_invariants(database_config, now=time.at)


def shown(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


async def runs_of(client: AsyncFormationClient, task: Any) -> list[TaskRun]:
    """The runs of a task, the oldest first."""
    return (await client.list_task_runs(task["task_id"]))["runs"][::-1]


# Keeping


async def test_a_single_run(client: AsyncFormationClient, time: Time) -> None:
    task = await client.schedule_task(WEB, "Call Bob", at="2027-01-15T10:00", timezone="europe/berlin")
    assert task["muxi_user_id"] == (await client.get_user(WEB))["muxi_user_id"]  # first contact
    due = shown(NEW_YEAR + timedelta(hours=1))
    assert (task["kind"], task["schedule"], task["timezone"]) == ("once", "2027-01-15T10:00:00", "Europe/Berlin")
    assert (task["status"], task["next_run_at"]) == ("active", due)
    assert await client.run_due_tasks() == []

    time.advance(3600)
    (run,) = await client.run_due_tasks()
    assert await client.run_due_tasks() == []
    assert run == (await runs_of(client, task))[0]
    assert (run["status"], run["reply"], run["error"]) == ("succeeded", "Done: Call Bob", None)
    assert (run["due_at"], run["attempt"], run["missed"]) == (due, 1, 0)
    assert run["finished_at"] is not None
    assert due <= run["started_at"] < run["finished_at"]
    assert run["muxi_user_id"] == task["muxi_user_id"]
    assert run["request_id"] is not None
    ended = await client.get_task(task["task_id"], WEB)
    assert (ended["status"], ended["next_run_at"]) == ("finished", None)


async def test_the_turn_has_a_session_of_its_own(
    client: AsyncFormationClient, time: Time, responder: Answering
) -> None:
    mine = await client.chat("Hello!", WEB)
    task = await client.schedule_task(WEB, "Anything new?", cron="0 * * * *")
    for _ in range(2):
        time.advance(3600)
        (run,) = await client.run_due_tasks()
        assert run["session_id"] == f"task:{task['task_id']}"
    said = await client.get_session_messages(run["session_id"], WEB)
    assert [message["content"] for message in said["messages"]] == ["Anything new?", "Done: Anything new?"] * 2
    # It knows the person and its own earlier runs, and nothing of the conversation.
    assert [fact.value for fact in responder.turns[1].facts] == ["Hello!"]
    assert [len(turn.messages) for turn in responder.turns[1:]] == [0, 2]
    # The identifier goes on with its own session, never with the task's, though that is the newer one.
    assert (await client.chat("And now?", WEB)).session_id == mine.session_id


async def test_a_task_is_the_persons(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time
) -> None:
    await client.associate_user_identifiers([MAIL, SLACK])
    other = await client.schedule_task(WEB, "Water the plants", cron="0 9 * * *")
    task = await client.schedule_task(MAIL, "Call Bob", at="2027-01-16T09:00")
    alice = task["muxi_user_id"]
    assert await client.get_task(task["task_id"], SLACK) == task
    assert (await client.list_tasks(SLACK))["tasks"] == [task]
    # Another person has no such task, whatever they do to it.
    attempts: list[Callable[[str], Awaitable[Any]]] = [
        lambda task_id: client.get_task(task_id, WEB),
        lambda task_id: client.update_task(task_id, WEB, message="Call Eve"),
        lambda task_id: client.pause_task(task_id, WEB),
        lambda task_id: client.resume_task(task_id, WEB),
        lambda task_id: client.delete_task(task_id, WEB),
        lambda task_id: client.list_task_runs(task_id, WEB),
    ]
    for attempt in attempts:
        for task_id in (task["task_id"], "tsk_" + "0" * 20, "tsk_%", "%", "x\x00", "\ud800", "", "t" * 10_000):
            with pytest.raises(TaskNotFoundError):
                await attempt(task_id)
    with pytest.raises(UserNotFoundError):
        await client.get_task(task["task_id"], "nobody@x.com")
    with pytest.raises(InvalidRequestError, match="task_id"):
        await client.get_task(None)  # type: ignore[arg-type]
    assert await client.get_task(task["task_id"]) == task
    # After a merge all of them are one person's, and a channel sees them too.
    await client.associate_user_identifiers([WEB], alice, on_conflict="merge")
    assert [each["task_id"] for each in (await client.list_tasks(WEB))["tasks"]] == [task["task_id"], other["task_id"]]
    assert (await client.get_task(other["task_id"]))["muxi_user_id"] == alice
    slack = client.channel("slack")
    assert (await slack.pause_task(other["task_id"], SLACK[0]))["status"] == "paused"
    assert (await slack.delete_task(task["task_id"], SLACK[0])) == {"deleted": True, "task_id": task["task_id"]}
    assert (await client.list_tasks(MAIL))["count"] == 1


async def test_another_formation_sees_and_runs_nothing(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time, responder: Answering
) -> None:
    task = await client.schedule_task(WEB, "Call Bob", cron="* * * * *")
    time.advance(120)
    other = dataclasses.replace(database_config, id=f"{database_config.id}-other")
    async with client_with(other, time, responder) as elsewhere:
        assert await elsewhere.run_due_tasks() == []
        with pytest.raises(TaskNotFoundError):
            await elsewhere.get_task(task["task_id"])
        await elsewhere.chat("Hello!", WEB)
        assert (await elsewhere.list_tasks(WEB))["tasks"] == []
    assert len(await client.run_due_tasks()) == 1


async def test_what_is_refused_leaves_nothing(client: AsyncFormationClient, database_config: FormationConfig) -> None:
    before = await dump(database_config)
    refused: list[tuple[type[MuxiError], dict[str, Any]]] = [
        (InvalidScheduleError, {}),
        (InvalidScheduleError, {"cron": "* * * * *", "at": "2030-01-01T09:00"}),
        (InvalidScheduleError, {"cron": "0 0 30 2 *"}),
        (InvalidScheduleError, {"cron": "99 * * * *"}),
        (InvalidScheduleError, {"at": "2027-01-15T07:59"}),
        (InvalidScheduleError, {"cron": "* * * * *", "timezone": "Berlin"}),
        (InvalidRequestError, {"cron": "* * * * *", "message": " \n"}),
        (InvalidRequestError, {"cron": "* * * * *", "message": "a\x00"}),
        (InvalidRequestError, {"cron": "* * * * *", "message": "a\ud800"}),
        (InvalidRequestError, {"cron": "* * * * *", "message": 7}),
        (TooLargeError, {"cron": "* * * * *", "message": "x" * 10_001}),
        (SecretRefusedError, {"cron": "* * * * *", "message": "Push with ghp_abcdefghijklmnopqrstuvwxyz0123456789"}),
    ]
    for kind, given in refused:
        with pytest.raises(kind):
            await client.schedule_task(**{"user_id": WEB, "message": "Call Bob", **given})
    assert await dump(database_config) == before
    # Neither does a wrong change.
    task = await client.schedule_task(WEB, "Call Bob \U0001f4de 'quoted' %_\\", at="2027-02-01T09:00")
    before = await dump(database_config)
    for kind, given in refused[1:]:
        with pytest.raises(kind):
            await client.update_task(task["task_id"], WEB, **given)
    with pytest.raises(InvalidRequestError, match="Nothing is to be changed"):
        await client.update_task(task["task_id"])
    for wrong in ({"status": "late"}, {"limit": 0}, {"limit": 501}, {"limit": True}, {"cursor": "x"}, {"cursor": ""}):
        with pytest.raises(InvalidRequestError):
            await client.list_tasks(WEB, **wrong)  # type: ignore[arg-type]
        if "status" not in wrong:
            with pytest.raises(InvalidRequestError):
                await client.list_task_runs(task["task_id"], **wrong)  # type: ignore[arg-type]
    for bad in (0, 10_001, 1.5, True, None):
        with pytest.raises(InvalidRequestError):
            await client.run_due_tasks(limit=bad)  # type: ignore[arg-type]
    for arguments in (
        {"concurrency": 0},
        {"concurrency": 101},
        {"poll_seconds": 0},
        {"poll_seconds": float("nan")},
        {"lease_seconds": -1},
        {"lease_seconds": "60"},
        {"on_run": "print"},
    ):
        with pytest.raises(InvalidRequestError):
            await client.run_tasks(**arguments)  # type: ignore[arg-type]
    assert await dump(database_config) == before


async def test_pages(client: AsyncFormationClient, database_config: FormationConfig, time: Time) -> None:
    await client.associate_user_identifiers([MAIL, SLACK])
    other = await client.schedule_task(WEB, "one of another", cron="0 0 1 1 *")
    made = [
        (await client.schedule_task(MAIL if number % 2 else SLACK, f"task {number}", cron="* * * * *"))["task_id"]
        for number in range(7)
    ]
    for task_id in made[:3]:
        await client.pause_task(task_id)
    found: list[str] = []
    cursor = None
    while True:
        page = await client.list_tasks(MAIL, limit=2, cursor=cursor)
        found += [task["task_id"] for task in page["tasks"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        if len(found) == 2:  # what comes meanwhile neither shifts nor repeats a page
            await client.schedule_task(MAIL, "newer", cron="* * * * *")
    assert found == made[::-1]
    assert other["task_id"] not in found
    paused = await client.list_tasks(SLACK, status="paused")
    assert [task["task_id"] for task in paused["tasks"]] == made[2::-1]
    assert (await client.list_tasks(SLACK, status="finished"))["tasks"] == []
    # And of runs.
    for _ in range(5):
        time.advance(60)
        await client.run_due_tasks()
    every = (await client.list_task_runs(made[-1], MAIL))["runs"]
    first = await client.list_task_runs(made[-1], MAIL, limit=3)
    rest = await client.list_task_runs(made[-1], MAIL, limit=3, cursor=first["next_cursor"])
    assert len(every) == 5
    assert first["runs"] + rest["runs"] == every
    assert rest["next_cursor"] is None
    with pytest.raises(InvalidRequestError, match="list_tasks"):
        await client.list_tasks(MAIL, cursor=first["next_cursor"])


async def test_how_many_are_kept(client: AsyncFormationClient, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_TASKS", 3)
    monkeypatch.setattr(endings, "KEPT_RUNS", 2)
    tasks = [await client.schedule_task(WEB, f"once {number}", at="2027-01-15T09:00") for number in range(3)]
    with pytest.raises(TooLargeError, match="delete_task") as raised:
        await client.schedule_task(WEB, "one more", at="2027-01-15T09:00")
    assert raised.value.limit == 3
    await client.schedule_task(MAIL, "of another", at="2030-01-15T09:00")
    for _ in range(3):
        time.advance(3600)
        await client.run_due_tasks()
        tasks.append(await client.schedule_task(WEB, "next", at=NEW_YEAR + timedelta(days=30)))
        tasks[-1] = await client.update_task(tasks[-1]["task_id"], at=datetime.fromtimestamp(time.at / 1e6 + 60, UTC))
    finished = (await client.list_tasks(WEB, status="finished"))["tasks"]
    assert len(finished) <= 4
    # The first three were due, and ended, together: which of them is the oldest is not said.
    assert not {task["task_id"] for task in tasks[:3]} <= {task["task_id"] for task in finished}
    # The history of one task.
    task = await client.schedule_task(SLACK, "Often", cron="* * * * *")
    for _ in range(4):
        time.advance(60)
        await client.run_due_tasks()
    kept = await runs_of(client, task)
    assert len(kept) == 2
    assert kept[-1]["started_at"] > kept[0]["started_at"] > shown(datetime.fromtimestamp(time.at / 1e6 - 130, UTC))


# When


async def test_what_was_missed_is_one_run_of_the_last(client: AsyncFormationClient, time: Time) -> None:
    task = await client.schedule_task(WEB, "Report", cron="0 9 * * *")
    late = await client.schedule_task(WEB, "Call Bob", at="2027-01-15T08:30")
    time.advance(3 * 86400 + 7200)  # 18 January, 10:00
    first, second = sorted(await client.run_due_tasks(), key=lambda run: run["due_at"])
    assert (first["task_id"], first["due_at"], first["missed"]) == (
        late["task_id"],
        shown(NEW_YEAR + timedelta(minutes=30)),
        0,
    )
    assert (second["task_id"], second["due_at"], second["missed"]) == (
        task["task_id"],
        shown(datetime(2027, 1, 18, 9, tzinfo=UTC)),
        3,
    )
    assert (await client.get_task(task["task_id"]))["next_run_at"] == shown(datetime(2027, 1, 19, 9, tzinfo=UTC))
    assert (await client.get_task(late["task_id"]))["status"] == "finished"
    assert await client.run_due_tasks() == []


async def test_times_that_pass_during_a_run_are_not_lost(
    client: AsyncFormationClient, time: Time, responder: Answering
) -> None:
    """A run that takes longer than its interval is followed by one for the last time that passed; it says how many."""
    task = await client.schedule_task(WEB, "Report", cron="* * * * *")
    time.advance(60)
    responder.held = True
    running = asyncio.create_task(client.run_due_tasks())
    await responder.was_asked()
    time.advance(150)
    responder.go_on.set()
    await running
    await client.run_due_tasks()
    first, second = await runs_of(client, task)
    assert (first["due_at"], first["missed"]) == (shown(NEW_YEAR + timedelta(minutes=1)), 0)
    assert (second["due_at"], second["missed"]) == (shown(NEW_YEAR + timedelta(minutes=3)), 1)


async def test_pausing_and_resuming(client: AsyncFormationClient, time: Time) -> None:
    often = await client.schedule_task(WEB, "Report", cron="0 * * * *")
    once = await client.schedule_task(WEB, "Call Bob", at="2027-01-15T09:00")
    for task in (often, once):
        paused = await client.pause_task(task["task_id"], WEB)
        assert (paused["status"], paused["next_run_at"]) == ("paused", None)
        assert await client.pause_task(task["task_id"]) == paused
    time.advance(2 * 3600)
    assert await client.run_due_tasks() == []
    # A cron goes on with its next time; a single run that is late by now runs at once.
    resumed = await client.resume_task(often["task_id"])
    assert (resumed["status"], resumed["next_run_at"]) == ("active", shown(NEW_YEAR + timedelta(hours=3)))
    assert await client.resume_task(often["task_id"]) == resumed
    assert await client.run_due_tasks() == []
    assert (await client.resume_task(once["task_id"]))["status"] == "active"
    (run,) = await client.run_due_tasks()
    assert run["task_id"] == once["task_id"]
    for change in (client.pause_task, client.resume_task):
        with pytest.raises(InvalidScheduleError, match="finished"):
            await change(once["task_id"])


async def test_changing(client: AsyncFormationClient, database_config: FormationConfig, time: Time) -> None:
    task = await client.schedule_task(WEB, "Call Bob", at="2027-01-15T18:00")
    moved = await client.update_task(task["task_id"], timezone="America/New_York")  # the same time of day, there
    assert moved["next_run_at"] == shown(NEW_YEAR + timedelta(hours=15))
    moved = await client.update_task(task["task_id"], message="Call Carol", cron="30 8 * * *", timezone="UTC")
    assert (moved["kind"], moved["message"], moved["next_run_at"]) == (
        "cron",
        "Call Carol",
        shown(NEW_YEAR + timedelta(minutes=30)),
    )
    only = await client.update_task(task["task_id"], message="Call Dora")
    assert {**only, "message": "", "updated_at": ""} == {**moved, "message": "", "updated_at": ""}
    paused = await client.pause_task(task["task_id"])
    assert paused["status"] == "paused"
    still = await client.update_task(task["task_id"], at="2027-01-15T08:10")
    assert (still["status"], still["next_run_at"]) == ("paused", None)
    await client.resume_task(task["task_id"])
    time.advance(660)
    (run,) = await client.run_due_tasks()
    assert run["reply"] == "Done: Call Dora"
    # A finished one comes back with a new time.
    with pytest.raises(InvalidScheduleError, match="past"):
        await client.update_task(task["task_id"], timezone="Europe/Berlin")
    again = await client.update_task(task["task_id"], at="2027-01-15T09:00")
    assert (again["status"], again["next_run_at"]) == ("active", shown(NEW_YEAR + timedelta(hours=1)))
    if (path := database_config.database.path) is not None:  # what was changed is in the file no more
        words = b"".join(file.read_bytes() for file in path.parent.glob("muxi.db*"))
        assert b"Call Dora" in words
        assert b"Call Carol" not in words


# Running


async def test_the_turn_is_the_owners(
    client: AsyncFormationClient, time: Time, responder: Answering, database_config: FormationConfig
) -> None:
    """Through the identifier that it was recorded under; where that is gone, in the name of the member itself."""
    await client.associate_user_identifiers([MAIL, SLACK, ("key_0123456789abcdef", "api_key")])
    task = await client.schedule_task(("key_0123456789abcdef", "api_key"), "Report", cron="0 * * * *")

    async def run() -> dict[str, Any]:
        time.advance(3600)
        (done,) = await client.run_due_tasks()
        assert done["status"] == "succeeded"
        tables = await check_invariants(database_config, now=time.at)
        return max((row for row in tables["messages"] if row["content"] == "Report"), key=lambda row: row["pk"])

    tables = await check_invariants(database_config, now=time.at)
    key = next(row for row in tables["identifiers"] if row["type"] == "api_key")
    row = await run()
    assert (row["user_pk"], row["identifier_pk"]) == (key["user_pk"], key["pk"])
    await client.unlink_user_identifier(("key_0123456789abcdef", "api_key"))
    row = await run()
    assert (row["user_pk"], row["identifier_pk"]) == (key["user_pk"], None)
    # After a merge it runs as before, under its own member, and knows the whole person.
    await client.create_user("usr_bob")
    await client.chat("I am Bob", "usr_bob")
    await client.associate_user_identifiers([MAIL], "usr_bob", on_conflict="merge")
    row = await run()
    assert row["user_pk"] == key["user_pk"]
    assert "I am Bob" in {memory["content"] for memory in responder.turns[-1].context["memories"]}
    assert (await client.get_task(task["task_id"], "usr_bob"))["muxi_user_id"] == "usr_bob"
    assert (await runs_of(client, task))[-1]["muxi_user_id"] == "usr_bob"


async def test_an_identifier_that_leaves_during_the_run(
    client: AsyncFormationClient, time: Time, responder: Answering, database_config: FormationConfig
) -> None:
    """The computed turn is not recorded; the run is tried again, in the name of the member."""
    await client.associate_user_identifiers([MAIL, SLACK])
    task = await client.schedule_task(SLACK, "Report", at="2027-01-15T09:00")
    time.advance(3600)
    responder.held = True
    running = asyncio.create_task(client.run_due_tasks())
    await responder.was_asked()
    await client.unlink_user_identifier(SLACK)
    responder.go_on.set()
    (run,) = await running
    assert (run["status"], run["error"], run["attempt"]) == ("failed", "IDENTITY_CHANGED", 1)
    time.advance(30)
    (run,) = await client.run_due_tasks()
    assert (run["status"], run["attempt"]) == ("succeeded", 2)
    assert len(rows_of(await dump(database_config), "muxi_messages")) == 2
    assert (await client.get_task(task["task_id"]))["status"] == "finished"


@pytest.mark.parametrize("whole_person", [True, False])
async def test_deleted_while_it_runs(
    client: AsyncFormationClient, time: Time, responder: Answering, database_config: FormationConfig, whole_person: bool
) -> None:
    task = await client.schedule_task(WEB, "Report", cron="0 * * * *")
    time.advance(3600)
    responder.held = True
    running = asyncio.create_task(client.run_due_tasks())
    await responder.was_asked()
    if whole_person:
        await client.delete_user(WEB)
    else:
        await client.delete_task(task["task_id"], WEB)
    responder.go_on.set()
    assert await running == []
    tables = await dump(database_config)
    assert tables["muxi_tasks"] == tables["muxi_task_runs"] == []
    if whole_person:
        assert tables["muxi_messages"] == tables["muxi_memories"] == tables["muxi_users"] == []
    time.advance(7200)
    assert await client.run_due_tasks() == []


async def test_changes_while_it_runs(client: AsyncFormationClient, time: Time, responder: Answering) -> None:
    paused = await client.schedule_task(WEB, "Pause me", cron="0 * * * *")
    moved = await client.schedule_task(WEB, "Move me", at="2027-01-15T09:00")
    time.advance(3600)
    responder.held = True
    running = asyncio.create_task(client.run_due_tasks())
    while len(responder.turns) < 2:
        responder.asked.clear()
        await responder.was_asked()
    assert (await client.get_task(paused["task_id"]))["next_run_at"] == shown(NEW_YEAR + timedelta(hours=2))
    assert (await client.get_task(moved["task_id"]))["next_run_at"] is None
    assert (await runs_of(client, paused))[0]["status"] == "running"
    await client.pause_task(paused["task_id"])
    await client.update_task(moved["task_id"], message="Moved", at="2027-01-15T12:00")
    responder.go_on.set()
    assert [run["status"] for run in await running] == ["succeeded"] * 2
    found = await client.get_task(paused["task_id"])
    assert (found["status"], found["next_run_at"]) == ("paused", None)
    found = await client.get_task(moved["task_id"])
    assert (found["status"], found["next_run_at"]) == ("active", shown(NEW_YEAR + timedelta(hours=4)))
    time.advance(86400)
    assert [run["reply"] for run in await client.run_due_tasks()] == ["Done: Moved"]


async def test_failures_that_may_pass_are_tried_again(
    client: AsyncFormationClient, time: Time, responder: Answering, database_config: FormationConfig
) -> None:
    once = await client.schedule_task(WEB, "Call Bob", at="2027-01-15T09:00")
    often = await client.schedule_task(WEB, "Report", cron="0 9 * * *")
    responder.error = ModelUnavailableError("overloaded; the key is sk-secret")
    time.advance(3600)
    for wait in (30, 120):
        assert [run["error"] for run in await client.run_due_tasks()] == ["MODEL_UNAVAILABLE"] * 2
        assert await client.run_due_tasks() == []
        time.advance(wait - 2)
        assert await client.run_due_tasks() == []
        time.advance(3)
    assert len(await client.run_due_tasks()) == 2
    for task, status, next_run in (
        (once, "finished", None),
        (often, "active", shown(NEW_YEAR + timedelta(days=1, hours=1))),
    ):
        runs = await runs_of(client, task)
        assert [(run["attempt"], run["status"], run["error"]) for run in runs] == [
            (attempt, "failed", "MODEL_UNAVAILABLE") for attempt in (1, 2, 3)
        ]
        assert len({run["due_at"] for run in runs}) == 1
        found = await client.get_task(task["task_id"])
        assert (found["status"], found["next_run_at"]) == (status, next_run)
    tables = await dump(database_config)
    assert "sk-secret" not in str(tables)
    assert tables["muxi_messages"] == []
    # The count begins anew with the next time, and a success between ends it.
    time.advance(86400)
    (run,) = await client.run_due_tasks()
    assert run["attempt"] == 1
    responder.error = None
    time.advance(30)
    (run,) = await client.run_due_tasks()
    assert (run["attempt"], run["status"]) == (2, "succeeded")


@pytest.mark.parametrize(
    ("error", "code"),
    [(ModelError("I cannot."), "MODEL_FAILED"), (ValueError("token=hunter2"), "INTERNAL"), (SystemError(), "INTERNAL")],
)
async def test_other_failures_are_final(
    client: AsyncFormationClient,
    time: Time,
    responder: Answering,
    database_config: FormationConfig,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    code: str,
) -> None:
    task = await client.schedule_task(WEB, "Call Bob", at="2027-01-15T09:00")
    responder.error = error
    time.advance(3600)
    with caplog.at_level(logging.DEBUG):
        (run,) = await client.run_due_tasks()
    assert (run["status"], run["error"], run["reply"], run["attempt"]) == ("failed", code, None, 1)
    assert (await client.get_task(task["task_id"]))["status"] == "finished"
    assert "hunter2" not in caplog.text + str(await dump(database_config))
    if code == "INTERNAL":
        assert f"{run['run_id']} failed with {type(error).__name__}" in caplog.text


async def test_replies_are_bounded_and_hold_no_secret(
    client: AsyncFormationClient, time: Time, responder: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shift, "MAX_REPLY", 100)
    task = await client.schedule_task(WEB, "Call Bob", cron="0 * * * *")
    responder.answer = lambda turn: "ghp_abcdefghijklmnopqrstuvwxyz0123456789 " + "long \U0001f4de " * 100
    time.advance(3600)
    (run,) = await client.run_due_tasks()
    assert run["reply"] is not None
    assert len(run["reply"]) == 100
    assert run["reply"].endswith("...")
    assert "abcdefgh" not in run["reply"]
    assert (await runs_of(client, task))[0] == run


async def test_a_time_zone_that_is_gone_finishes_the_task(
    client: AsyncFormationClient, time: Time, database_config: FormationConfig, caplog: pytest.LogCaptureFixture
) -> None:
    task = await client.schedule_task(WEB, "Call Bob", cron="0 * * * *")
    formation = client._lifecycle.open_formation
    assert formation is not None
    ours = rows.tasks.update().where(rows.tasks.c.formation_id == client._lifecycle.config.id)
    moved = ours.values(timezone="Mars/Olympus")
    await formation._runner.change(lambda tx: tx.connection.execute(moved).rowcount, client._caller())
    time.advance(3600)
    (run,) = await client.run_due_tasks()
    assert run["status"] == "succeeded"
    assert (await client.get_task(task["task_id"]))["status"] == "finished"
    assert "Mars/Olympus" in caplog.text


# Workers


async def working(client: AsyncFormationClient, **options: Any) -> tuple[asyncio.Task[None], asyncio.Queue[TaskRun]]:
    told: asyncio.Queue[TaskRun] = asyncio.Queue()
    options.setdefault("on_run", told.put)
    return asyncio.create_task(client.run_tasks(poll_seconds=0.01, **options)), told


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_worker_runs_what_comes_due(client: AsyncFormationClient, time: Time) -> None:
    work, told = await working(client)
    await client.schedule_task(WEB, "Report", cron="0 * * * *")
    assert told.empty()
    for hour in (1, 2):
        time.advance(3600)
        run = await asyncio.wait_for(told.get(), PATIENCE)
        assert run["due_at"] == shown(NEW_YEAR + timedelta(hours=hour))
    await cancelled(work)
    time.advance(3600)
    assert len(await client.run_due_tasks()) == 1


async def test_no_more_at_once_than_asked(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time, responder: Answering
) -> None:
    for number in range(9):
        await client.schedule_task((f"n{number}", "internal"), "Report", at="2027-01-15T09:00")
    time.advance(3600)
    responder.held = True
    work, told = await working(client, concurrency=3)
    while len(responder.turns) < 3:
        responder.asked.clear()
        await responder.was_asked()
    running = rows_of(await dump(database_config), "muxi_task_runs")
    assert len(running) == 3  # no more are claimed either
    responder.go_on.set()
    for _ in range(9):
        assert (await asyncio.wait_for(told.get(), PATIENCE))["status"] == "succeeded"
    assert responder.most_at_once == 3
    assert len(responder.turns) == 9
    await cancelled(work)


async def test_being_cancelled_gives_back_what_was_under_way(
    client: AsyncFormationClient, time: Time, responder: Answering
) -> None:
    task = await client.schedule_task(WEB, "Report", at="2027-01-15T09:00")
    time.advance(3600)
    responder.held = True
    work, _ = await working(client)
    await responder.was_asked()
    await cancelled(work)
    assert responder.at_once == 0
    responder.held = False
    (run,) = await client.run_due_tasks()  # at once, though no lease has ended
    assert (run["status"], run["attempt"]) == ("succeeded", 2)
    assert [each["status"] for each in await runs_of(client, task)] == ["lost", "succeeded"]


async def test_closing_ends_the_work(
    database_config: FormationConfig, client: AsyncFormationClient, time: Time, responder: Answering
) -> None:
    await client.schedule_task(WEB, "Report", at="2027-01-15T09:00")
    time.advance(3600)
    responder.held = True
    async with client_with(database_config, time, responder) as other:
        work, _ = await working(other)
        await responder.was_asked()
        await other.close()
        await asyncio.wait_for(work, PATIENCE)  # it ends, and raises nothing
    responder.held = False
    assert [run["attempt"] for run in await client.run_due_tasks()] == [2]


async def test_closing_from_within_on_run(database_config: FormationConfig, time: Time, responder: Answering) -> None:
    client = client_with(database_config, time, responder)
    await client.schedule_task(WEB, "Report", at="2027-01-15T09:00")
    time.advance(3600)
    await asyncio.wait_for(client.run_tasks(on_run=lambda run: client.close(), poll_seconds=0.01), PATIENCE)
    await client.close()  # waits for the one that was begun
    with pytest.raises(MuxiError):
        await client.list_tasks(WEB)


async def test_what_on_run_raises_is_logged(
    client: AsyncFormationClient, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    task = await client.schedule_task(WEB, "Report", cron="0 * * * *")
    seen: asyncio.Queue[tuple[TaskRun, str]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def in_a_thread(run: TaskRun) -> None:
        loop.call_soon_threadsafe(seen.put_nowait, (run, threading.current_thread().name))
        raise RuntimeError("the callback is broken")

    async def on_the_loop(run: TaskRun) -> None:
        # It was recorded before.
        assert (await runs_of(client, task))[-1] == run
        seen.put_nowait((run, threading.current_thread().name))
        raise RuntimeError("this one too")

    here = threading.current_thread().name
    for on_run, is_here in ((in_a_thread, False), (on_the_loop, True)):
        time.advance(3600)
        work, _ = await working(client, on_run=on_run)
        run, thread = await asyncio.wait_for(seen.get(), PATIENCE)
        assert (thread == here) is is_here
        time.advance(3600)
        assert (await asyncio.wait_for(seen.get(), PATIENCE))[0]["due_at"] > run["due_at"]  # it goes on
        await cancelled(work)
    assert "the callback is broken" in caplog.text
    assert "this one too" in caplog.text
    assert [run["status"] for run in await runs_of(client, task)] == ["succeeded"] * 4


async def test_a_database_that_does_not_answer_is_waited_for(
    client: AsyncFormationClient,
    time: Time,
    responder: Answering,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await client.schedule_task(WEB, "Report", at="2027-01-15T09:00")
    time.advance(3600)
    failing = {"is_due": 3, "claim": 2, "finish": 2, "extend": 1}

    def flaky(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def sometimes(*given: Any) -> Any:
            if failing[name]:
                failing[name] -= 1
                raise StorageUnavailableError("no answer")
            return real(*given)

        return sometimes

    for name in failing:
        monkeypatch.setattr(shift, name, flaky(name, getattr(shift, name)))
    work, told = await working(client, lease_seconds=0.3)
    run = await asyncio.wait_for(told.get(), PATIENCE)
    assert (run["status"], run["attempt"]) == ("succeeded", 1)
    assert len(responder.turns) == 1  # what was computed is not computed again
    assert failing["is_due"] == failing["claim"] == failing["finish"] == 0
    assert caplog.text.count("tasks wait: no answer") == 1  # not once for each look
    await cancelled(work)


async def test_heartbeats_keep_a_claim(
    client: AsyncFormationClient,
    database_config: FormationConfig,
    time: Time,
    responder: Answering,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = await client.schedule_task(WEB, "Report", at="2027-01-15T09:00")
    time.advance(3600)
    responder.held = True
    beats: asyncio.Queue[set[str]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def noted(*given: Any) -> set[str]:
        held = claims.extend(*given)
        loop.call_soon_threadsafe(beats.put_nowait, held)
        return held

    monkeypatch.setattr(shift, "extend", noted)
    work, told = await working(client, lease_seconds=0.5)
    await responder.was_asked()
    async with client_with(database_config, time, Answering()) as other:
        for _ in range(3):
            while not beats.empty():
                beats.get_nowait()
            for _ in range(2):  # the first may have begun before
                assert len(await asyncio.wait_for(beats.get(), PATIENCE)) == 1
            time.advance(0.4)  # longer than the lease since it was claimed, shorter since it was extended
            assert await other.run_due_tasks() == []
    responder.go_on.set()
    assert (await asyncio.wait_for(told.get(), PATIENCE))["status"] == "succeeded"
    assert len(await runs_of(client, task)) == 1
    await cancelled(work)


async def test_a_worker_that_lost_its_lease_records_nothing_over_the_new_run(
    client: AsyncFormationClient, database_config: FormationConfig, time: Time, responder: Answering
) -> None:
    """It stood still for longer than its lease, another one took over, and then it goes on."""
    task = await client.schedule_task(WEB, "Report", at="2027-01-15T09:00")
    time.advance(3600)
    responder.held = True
    work, told = await working(client, concurrency=1)  # its next heartbeat is 20 s away
    await responder.was_asked()
    async with client_with(database_config, time, Answering()) as other:
        assert await other.run_due_tasks() == []
        time.advance(61)
        (run,) = await other.run_due_tasks()
    assert (run["status"], run["attempt"]) == ("succeeded", 2)
    before = await runs_of(client, task)
    assert [each["status"] for each in before] == ["lost", "succeeded"]
    marker = await client.schedule_task(WEB, "Later", at=datetime.fromtimestamp(time.at / 1e6 + 60, UTC))
    time.advance(61)
    responder.go_on.set()
    # Of the first it is told nothing.
    assert (await asyncio.wait_for(told.get(), PATIENCE))["task_id"] == marker["task_id"]
    assert [turn.message for turn in responder.turns] == ["Report", "Later"]
    assert await runs_of(client, task) == before
    await cancelled(work)


async def test_heartbeats_that_do_not_get_through_are_no_end(
    client: AsyncFormationClient, time: Time, responder: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody took over: what was computed is recorded, late as it is."""
    task = await client.schedule_task(WEB, "Report", at="2027-01-15T09:00")
    time.advance(3600)
    responder.held = True
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def no_answer(*_: Any) -> Any:
        loop.call_soon_threadsafe(failed.set)
        raise StorageUnavailableError("no answer")

    monkeypatch.setattr(shift, "extend", no_answer)
    work, told = await working(client, lease_seconds=0.05)
    await responder.was_asked()
    await asyncio.wait_for(failed.wait(), PATIENCE)
    time.advance(1)
    # Another task that comes due is claimed by the same worker, which does not take its own run for lost.
    responder.asked.clear()
    other = await client.schedule_task(MAIL, "Other", at=datetime.fromtimestamp(time.at / 1e6 + 60, UTC))
    time.advance(61)
    await responder.was_asked()
    assert [turn.message for turn in responder.turns] == ["Report", "Other"]
    responder.go_on.set()
    ended = [await asyncio.wait_for(told.get(), PATIENCE) for _ in range(2)]
    assert {(run["task_id"], run["attempt"]) for run in ended} == {(task["task_id"], 1), (other["task_id"], 1)}
    assert len(await runs_of(client, task)) == 1
    await cancelled(work)


async def test_a_turn_whose_claim_is_lost_is_given_up(
    client: AsyncFormationClient, time: Time, responder: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    task = await client.schedule_task(WEB, "Report", at="2027-01-15T09:00")
    time.advance(3600)
    responder.held = True
    work, told = await working(client, lease_seconds=0.05)
    await responder.was_asked()
    await client.delete_task(task["task_id"])
    await asyncio.wait_for(responder.left.wait(), PATIENCE)  # the next heartbeat ends it
    assert "lost its claim and was given up" in caplog.text
    assert told.empty()
    await cancelled(work)


async def test_a_run_whose_workers_always_die_is_given_up(
    client: AsyncFormationClient, time: Time, monkeypatch: pytest.MonkeyPatch, database_config: FormationConfig
) -> None:
    monkeypatch.setattr(endings, "MAX_ATTEMPTS", 3)
    task = await client.schedule_task(WEB, "Report", cron="0 * * * *")
    paused = await client.schedule_task(WEB, "Paused", cron="0 * * * *")
    time.advance(3600)
    formation = client._lifecycle.open_formation
    assert formation is not None

    async def claim_and_die() -> list[Claimed]:
        now = time.at
        return await formation._runner.change(lambda tx: claims.claim(tx, 10, now, 1_000_000), client._caller())

    assert len(await claim_and_die()) == 2
    assert await claim_and_die() == []
    await client.pause_task(paused["task_id"])
    for attempt in (2, 3):
        time.advance(2)
        (claimed,) = await claim_and_die()
        assert (claimed.attempt, claimed.task_id) == (attempt, task["task_id"])
    # The paused one is not run again, and its lost run is known for one.
    assert [run["status"] for run in await runs_of(client, paused)] == ["lost"]
    time.advance(2)
    assert await claim_and_die() == []
    assert [(run["attempt"], run["status"], run["error"]) for run in await runs_of(client, task)] == [
        (1, "lost", None),
        (2, "lost", None),
        (3, "failed", "WORKER_LOST"),
    ]
    assert (await client.get_task(task["task_id"]))["next_run_at"] == shown(NEW_YEAR + timedelta(hours=2))
    resumed = await client.resume_task(paused["task_id"])
    assert resumed["next_run_at"] == shown(NEW_YEAR + timedelta(hours=2))
    time.advance(3600)
    assert sorted(run["status"] for run in await client.run_due_tasks()) == ["succeeded"] * 2


async def test_a_restart_loses_nothing(database_config: FormationConfig, time: Time) -> None:
    async with client_with(database_config, time, Answering()) as client:
        task = await client.schedule_task(WEB, "Report", cron="0 * * * *")
    time.advance(3600)
    async with client_with(database_config, time, Answering()) as client:
        (run,) = await client.run_due_tasks()
        assert run["task_id"] == task["task_id"]
    async with client_with(database_config, time, Answering()) as client:
        assert await runs_of(client, task) == [run]
        assert await client.run_due_tasks() == []


async def test_run_due_stops_at_its_limit(client: AsyncFormationClient, time: Time, responder: Answering) -> None:
    for number in range(7):
        await client.schedule_task((f"n{number}", "internal"), "Report", at="2027-01-15T09:00")
    time.advance(3600)
    assert len(await client.run_due_tasks(limit=5)) == 5
    assert len(await client.run_due_tasks(limit=5)) == 2
    assert responder.most_at_once <= 4


def test_a_blocking_worker_ends_when_another_thread_closes(database_config: FormationConfig) -> None:
    client = FormationClient(database_config)
    told = threading.Event()
    seen: list[TaskRun] = []

    def on_run(run: TaskRun) -> None:
        seen.append(client.list_task_runs(run["task_id"])["runs"][0])  # a synchronous call, from its own thread
        told.set()

    client.find_user(WEB)  # opens it
    client.schedule_task(WEB, "My budget is $5", at=datetime.now(UTC) + timedelta(seconds=0.3))
    ended: list[bool] = []

    def work() -> None:
        client.run_tasks(on_run=on_run, poll_seconds=0.05)
        ended.append(True)  # and raised nothing

    thread = threading.Thread(target=work)
    thread.start()
    assert told.wait(PATIENCE)
    client.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert ended == [True]
    assert [run["status"] for run in seen] == ["succeeded"]


async def test_what_dead_workers_left_is_not_in_the_way(
    client: AsyncFormationClient, time: Time, responder: Answering
) -> None:
    tasks = [await client.schedule_task(WEB, f"task {number}", cron="* * * * *") for number in range(5)]
    time.advance(60)
    formation = await client._lifecycle.formation()
    dead = await formation._runner.change(lambda tx: claims.claim(tx, 4, time.at, 1_000_000), client._caller())
    for claimed in dead:
        await client.pause_task(claimed.task_id)
    time.advance(60)
    (run,) = await client.run_due_tasks()
    assert run["task_id"] == tasks[4]["task_id"]
    assert [(await runs_of(client, task))[0]["status"] for task in tasks] == ["lost"] * 4 + ["succeeded"]


@pytest.mark.parametrize("by", ["on_run", "on_run on the loop", "the responder"])
def test_whoever_leaves_the_program_ends_the_worker(database_config: FormationConfig, time: Time, by: str) -> None:
    def leave(_: object) -> None:
        raise SystemExit(3)

    async def leave_on_the_loop(_: object) -> None:
        leave(_)

    responder = Answering()
    if by == "the responder":
        responder.error = SystemExit(3)
    client = FormationClient(database_config)
    client._async._lifecycle = Lifecycle(database_config, responder=responder, clock=Clock(time))
    with client:
        task = client.schedule_task(WEB, "x", at="2027-01-15T09:00")
        time.advance(3600)
        with pytest.raises(SystemExit):
            client.run_tasks(on_run=leave_on_the_loop if "loop" in by else leave, poll_seconds=0.05)
        (run,) = client.list_task_runs(task["task_id"])["runs"]
        assert run["status"] == ("lost" if by == "the responder" else "succeeded")
        assert client.get_task(task["task_id"])["status"] == ("active" if by == "the responder" else "finished")
