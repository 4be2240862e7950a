"""The coherence hunt: workers in processes of their own, faults from outside, and the checker over what came of it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import signal
import time
import traceback
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import asyncpg

from muxi_identity import AsyncFormationClient
from muxi_identity.config import FormationConfig, Secret
from tests.hunts.checker import Report, check, truth_of
from tests.hunts.planting import plant_in_database, plant_in_worker
from tests.hunts.records import Records, together
from tests.hunts.witness import connect, install, testify
from tests.hunts.workload import Share, work
from tests.invariants import check_invariants
from tests.proxy import Proxy
from tests.races.processes import forking, mapping_of

PATIENCE = 120.0
CUT, STALL, SWALLOW, PAUSE, TERMINATE = "cut", "stall", "swallow", "pause", "terminate"


class Hunt(NamedTuple):
    """One run. ``lease``: how late, in seconds, an answer may be that another process has made wrong."""

    config: FormationConfig
    lease: float
    seconds: float
    workers: int = 4
    tasks: int = 3
    faults: tuple[str, ...] = ()
    plant: str | None = None
    only: tuple[tuple[str, ...], ...] = ((),)
    """What each worker is kept to, in turn; see :class:`Share`."""
    seed: int = 0


async def run(hunt: Hunt) -> Report:
    """Hunt, check what was written down, and check the tables."""
    begun = time.time() - time.monotonic()
    async with AsyncFormationClient(hunt.config) as client:
        await client.list_users()
    await install(hunt.config)
    await plant_in_database(hunt.plant, hunt.config)
    with ExitStack() as stack:
        proxies = _proxies(hunt, stack)
        crew = Crew(hunt, proxies)
        try:
            inflicted = await _inflict(hunt, crew, proxies)
            records = together(await asyncio.to_thread(crew.collect))
        finally:
            crew.stop()
    ahead = time.time() - time.monotonic()
    drift = abs(ahead - begun)
    assert drift < 0.01, "the machine's clock was set meanwhile: the times cannot be compared"
    committed = [each.by_clock_of(ahead) for each in await testify(hunt.config)]
    report = check(records, truth_of(records, committed), hunt.lease, drift)
    report.counts.update(inflicted)
    if hunt.plant is None:
        await check_invariants(hunt.config)
    return report


def _proxies(hunt: Hunt, stack: ExitStack) -> list[Proxy]:
    url = hunt.config.database.url
    if url is None or not {CUT, STALL, SWALLOW} & set(hunt.faults):
        return []
    return [stack.enter_context(Proxy.before(url.reveal())) for _ in range(hunt.workers)]


class Crew:
    """The workers' processes."""

    def __init__(self, hunt: Hunt, proxies: list[Proxy]) -> None:
        context = forking()
        self.until = time.monotonic() + PATIENCE
        self._pipes: list[Connection] = []
        self.processes = []
        assert hunt.config.secret_key is not None
        for number in range(hunt.workers):
            cache = {"lease": hunt.lease} if hunt.config.database.path is None else {}
            mapping = mapping_of(hunt.config, {"cache": cache})
            if proxies:
                persistent = mapping["memory"]["persistent"]
                persistent["connection_string"] = proxies[number].url(persistent["connection_string"])
            ours, theirs = context.Pipe()
            share = Share(f"w{number}", hunt.seed * 100 + number, hunt.tasks, 0.0, hunt.only[number % len(hunt.only)])
            process = context.Process(
                target=_serve, args=(theirs, mapping, hunt.config.secret_key.reveal(), share, hunt.plant), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self.processes.append(process)
        for pipe in self._pipes:
            assert self._receive(pipe) == "ready"

    def begin(self, seconds: float) -> None:
        """Let them all begin, to end in ``seconds``."""
        self.until = time.monotonic() + seconds
        for pipe in self._pipes:
            pipe.send(self.until)

    def collect(self) -> list[Records]:
        """Return what they wrote down, when they are done."""
        return [self._receive(pipe) for pipe in self._pipes]

    def stop(self) -> None:
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()

    def _receive(self, pipe: Connection) -> Any:
        assert pipe.poll(PATIENCE), "a worker does not answer"
        answer = pipe.recv()
        if isinstance(answer, str) and answer != "ready":
            raise AssertionError(answer)
        return answer


def _serve(pipe: Connection, mapping: dict[str, Any], key: str, share: Share, plant: str | None) -> None:
    config = dataclasses.replace(FormationConfig.from_mapping(mapping), secret_key=Secret(key))

    async def serve() -> None:
        async with AsyncFormationClient(config, actor=share.worker) as client:
            plant_in_worker(plant)
            pipe.send("ready")
            until = await asyncio.to_thread(pipe.recv)
            pipe.send(await work(client, share._replace(until=until)))

    try:
        asyncio.run(serve())
    except BaseException:  # noqa: BLE001 (the test shows it)
        pipe.send(traceback.format_exc())
    pipe.poll(PATIENCE)  # until it is stopped: one that is gone could not be paused, and its id would be another's


async def _inflict(hunt: Hunt, crew: Crew, proxies: list[Proxy]) -> dict[str, int]:
    """Start the workers and make their lives hard until it is time. Return how often each was done."""
    dice = random.Random(hunt.seed)
    counts: dict[str, int] = dict.fromkeys(hunt.faults, 0)
    crew.begin(hunt.seconds)
    admin: asyncpg.Connection | None = await connect(hunt.config) if TERMINATE in hunt.faults else None
    try:
        while hunt.faults and (left := crew.until - time.monotonic()) > 0.5:
            await asyncio.sleep(min(dice.expovariate(2.5), left / 2))
            fault, number = dice.choice(hunt.faults), dice.randrange(hunt.workers)
            # Long enough to outlast the lease now and then, and never longer than the run.
            while_ = min(dice.choice([0.1, 0.5, 1.5 * hunt.lease, 2.5 * hunt.lease]), left / 2)
            counts[fault] += 1
            if fault == TERMINATE:
                assert admin is not None
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname ="
                    " current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2) AS unlucky"
                )
            elif fault == PAUSE:
                await _pause(crew.processes[number].pid, while_)
            else:
                proxy = proxies[number]
                getattr(proxy, fault)()
                if fault != CUT:
                    await asyncio.sleep(while_)
                    proxy.flow()
                    if fault == SWALLOW:
                        proxy.cut()  # else everybody who lost something waits for it as long as a statement may take
    finally:
        if admin is not None:
            await admin.close()
    return {f"faults: {fault}": number for fault, number in counts.items()}


async def _pause(pid: int | None, seconds: float) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)
