"""Two worker processes and many due tasks; one is killed while it holds claims.

Every task runs. Only what the dead worker had claimed and not recorded runs twice.
"""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing.connection
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from muxi_identity import AsyncFormationClient
from muxi_identity.config import FormationConfig, Secret
from muxi_identity.context.tasks.rows import add_task
from muxi_identity.context.tasks.schedules import Schedule
from muxi_identity.context.tasks.task import NewTask
from muxi_identity.conversation.responder import Response, Turn
from muxi_identity.identity.transaction import Transaction
from tests.invariants import Row, Tables, check_invariants
from tests.races.processes import PATIENCE, forking, mapping_of

PEOPLE = 20
CONCURRENCY = 4
LEASE_SECONDS = 4.0  # the survivor has enough to do meanwhile


class Noting:
    """Appends to a file when a turn begins and ends. The turn that is the ``last`` to begin says so and never ends."""

    restartable = False

    def __init__(self, file: Path, pipe: Connection, last: int | None) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._pipe = pipe
        self._last = last
        self._begun = 0

    async def respond(self, turn: Turn) -> Response:
        self._begun += 1
        self._note("begin", turn)
        if self._begun == self._last:
            self._pipe.send("kill me")
            await asyncio.Event().wait()
        self._note("end", turn)
        return Response(f"Done: {turn.message}")

    def _note(self, what: str, turn: Turn) -> None:
        os.write(self._file, f"{what} {os.getpid()} {turn.message}\n".encode())


def _serve(mapping: dict[str, Any], key: str, file: Path, pipe: Connection, last: int | None) -> None:
    asyncio.run(_work(mapping, key, file, pipe, last))


async def _work(mapping: dict[str, Any], key: str, file: Path, pipe: Connection, last: int | None) -> None:
    config = dataclasses.replace(FormationConfig.from_mapping(mapping), secret_key=Secret(key))
    async with AsyncFormationClient(config, responder=Noting(file, pipe, last)) as client:
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)

        async def on_run(run: Any) -> None:
            pipe.send(run["run_id"])

        working = asyncio.create_task(
            client.run_tasks(on_run=on_run, concurrency=CONCURRENCY, poll_seconds=0.05, lease_seconds=LEASE_SECONDS)
        )
        await asyncio.to_thread(pipe.recv)  # until told to stop
    await working


class Worker(NamedTuple):
    """A worker process: it says that it is ready, waits for a word, and then says which runs it recorded."""

    process: BaseProcess
    pipe: Connection

    def hear(self) -> Any:
        assert self.pipe.poll(PATIENCE), "a worker does not answer"
        return self.pipe.recv()

    def stop(self) -> None:
        self.pipe.send("stop")
        while self.process.is_alive():
            if self.pipe.poll(0.05):
                try:
                    self.pipe.recv()  # what it still had to say
                except EOFError:
                    break
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0


@contextmanager
def workers(config: FormationConfig, file: Path, *lasts: int | None) -> Iterator[list[Worker]]:
    context = forking()
    assert config.secret_key is not None
    started: list[Worker] = []
    try:
        for last in lasts:
            ours, theirs = context.Pipe()
            given = (mapping_of(config), config.secret_key.reveal(), file, theirs, last)
            process = context.Process(target=_serve, args=given, daemon=True)
            process.start()
            theirs.close()
            started.append(Worker(process, ours))
        for worker in started:
            assert worker.hear() == "ready"
        for worker in started:
            worker.pipe.send("go")
        yield started
    finally:
        for worker in started:
            if worker.process.is_alive():
                worker.process.kill()
            worker.process.join(PATIENCE)


async def due_tasks(config: FormationConfig, number: int) -> None:
    """Keep tasks that were due a second ago, of several people, in one transaction."""
    async with AsyncFormationClient(config) as client:
        hits = []
        formation = await client._lifecycle.formation()
        for person in range(PEOPLE):
            await client.resolve_user((f"person{person}", "internal"), create_user=True)
            hits.append(await formation._resolver.existing(formation.parse((f"person{person}", "internal"))))

        def work(tx: Transaction) -> None:
            due = tx.now - 1_000_000
            for place in range(number):
                schedule = Schedule("once", "2020-01-01T00:00:00", "UTC")
                add_task(tx, hits[place % PEOPLE], NewTask(f"task-{place}", schedule, due))

        await formation._runner.change(work, client._caller())


async def unfinished(config: FormationConfig) -> int:
    tables = await check_invariants(config)
    return sum(task["status"] != "finished" for task in tables["tasks"])


class Noted(NamedTuple):
    """Which processes began, and which ended, the turns of each task."""

    begun: dict[str, list[int]]
    ended: dict[str, list[int]]


def noted(file: Path) -> Noted:
    begun: dict[str, list[int]] = defaultdict(list)
    ended: dict[str, list[int]] = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines():
        what, pid, task = line.split()
        (begun if what == "begin" else ended)[task].append(int(pid))
    return Noted(begun, ended)


def runs_by_message(tables: Tables) -> dict[str, list[Row]]:
    messages = {task["pk"]: task["message"] for task in tables["tasks"]}
    runs: dict[str, list[Row]] = {message: [] for message in messages.values()}
    for run in sorted(tables["task_runs"], key=lambda run: (run["started_at"], run["pk"])):
        runs[messages[run["task_pk"]]].append(run)
    return runs


def test_one_of_two_workers_is_killed(database_config: FormationConfig, tmp_path: Path) -> None:
    number = 500
    file = tmp_path / "turns"
    asyncio.run(due_tasks(database_config, number))
    with workers(database_config, file, 40, None) as (victim, survivor):
        recorded: set[str] = set()
        while (said := victim.hear()) != "kill me":
            recorded.add(said)
        assert victim.process.pid is not None
        os.kill(victim.process.pid, signal.SIGKILL)  # it holds the claim of the turn that said so, and maybe others
        victim.process.join(PATIENCE)
        assert victim.process.exitcode == -signal.SIGKILL
        while True:
            recorded.add(survivor.hear())
            # What the victim recorded last it may not have said any more.
            if len(recorded) >= number - 2 * CONCURRENCY and not asyncio.run(unfinished(database_config)):
                break
        survivor.stop()

    tables = asyncio.run(check_invariants(database_config))
    runs, turns = runs_by_message(tables), noted(file)
    assert len(runs) == number
    lost = {task for task, of_task in runs.items() if any(run["status"] == "lost" for run in of_task)}
    assert 1 <= len(lost) <= CONCURRENCY
    for task, of_task in runs.items():
        # Every task ran, and was recorded once as succeeded.
        states = [(run["attempt"], run["status"]) for run in of_task]
        assert states == ([(1, "lost"), (2, "succeeded")] if task in lost else [(1, "succeeded")]), task
        assert of_task[-1]["reply"] == f"Done: {task}"
        assert turns.ended[task], task
        if task in lost:  # claimed by the victim and not recorded: begun by it once at most, and by the other one once
            assert turns.begun[task].count(survivor.process.pid or 0) == 1, task
            assert turns.begun[task].count(victim.process.pid) <= 1, task
        else:
            assert len(turns.begun[task]) == 1, task
    twice = {task for task, pids in turns.begun.items() if len(pids) > 1}
    assert twice
    assert twice <= lost
    assert {pid for pids in turns.begun.values() for pid in pids} == {victim.process.pid, survivor.process.pid}
    assert all(task["claim"] is None for task in tables["tasks"])


def test_two_workers_run_each_task_once(database_config: FormationConfig, tmp_path: Path) -> None:
    number = 80
    file = tmp_path / "turns"
    asyncio.run(due_tasks(database_config, number))
    with workers(database_config, file, None, None) as both:
        recorded: list[str] = []
        while len(recorded) < number:
            ready = multiprocessing.connection.wait([worker.pipe for worker in both], PATIENCE)
            assert ready, "no worker says anything"
            recorded += [pipe.recv() for pipe in ready]  # type: ignore[union-attr]
        for worker in both:
            worker.stop()
        pids = {worker.process.pid for worker in both}
    tables = asyncio.run(check_invariants(database_config))
    runs, turns = runs_by_message(tables), noted(file)
    assert len(set(recorded)) == number
    assert all([(run["attempt"], run["status"]) for run in of_task] == [(1, "succeeded")] for of_task in runs.values())
    assert {len(begun) for begun in turns.begun.values()} == {1}
    assert turns.begun == turns.ended
    assert len(turns.begun) == number
    assert {pid for begun in turns.begun.values() for pid in begun} == pids  # both of them worked
