"""Other processes for tests of races: they stay for the whole run, and start each round together."""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import multiprocessing.context
import secrets
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

from muxi_identity import AsyncFormationClient, FormationClient
from muxi_identity.config import FormationConfig, Secret
from muxi_identity.errors import MuxiError

PATIENCE = 60.0  # seconds until a test gives up


class Call(NamedTuple):
    """One call of a client, by method name."""

    method: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012 (never changed)


class Outcome(NamedTuple):
    """What a call returned, or the error that it raised; ``trace`` where it is none of the library's."""

    value: Any = None
    error: MuxiError | None = None
    trace: str | None = None


def call(method: str, *arguments: Any, **options: Any) -> Call:
    return Call(method, arguments, options)


def values(outcomes: Sequence[Outcome]) -> list[Any]:
    """Return what the calls returned; none may have failed."""
    for outcome in outcomes:
        if outcome.trace:
            raise AssertionError(outcome.trace)
        if outcome.error is not None:
            raise outcome.error
    return [outcome.value for outcome in outcomes]


def mapping_of(config: FormationConfig, identity: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the mapping of a formation's configuration, with other rules of identity."""
    database = config.database
    where = str(database.path) if database.url is None else database.url.reveal()
    persistent = {"provider": database.provider, "connection_string": where}
    if database.listen_url is not None:
        persistent["listen_connection_string"] = database.listen_url.reveal()
    mapping: dict[str, Any] = {"id": config.id, "memory": {"persistent": persistent}}
    return mapping if identity is None else {**mapping, "identity": identity}


def variant(config: FormationConfig, identity: dict[str, Any] | None = None, **fields: Any) -> FormationConfig:
    """Return the same formation with other rules."""
    read = FormationConfig.from_mapping(mapping_of(config, identity))
    return dataclasses.replace(read, secret_key=config.secret_key, **fields)


def forking() -> multiprocessing.context.ForkServerContext:
    """Return what tests start processes by: they are forked from one that has imported everything, so at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.races.processes", "muxi_identity.storage.postgres"])
    return context


class Swarm:
    """Processes that each run their share of the calls of a round, all at once."""

    def __init__(self, number: int) -> None:
        context = forking()
        self._barrier = barrier = context.Barrier(number)  # kept: its name is gone with it
        self.number = number
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(number):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, barrier), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(
        self,
        config: FormationConfig,
        shares: Sequence[Sequence[Call]],
        *,
        identity: dict[str, Any] | None = None,
        threads: bool = False,
    ) -> list[list[Outcome]]:
        """Run ``shares``, one a process, and return their outcomes in the same shape.

        Every process has opened its client before any begins. ``threads``: the calls of a process are made by
        threads on one synchronous client, not by tasks on an asynchronous one.
        """
        shares = [*shares, *[[]] * (self.number - len(shares))]
        assert config.secret_key is not None
        mapping, key = mapping_of(config, identity), config.secret_key.reveal()
        for pipe, share in zip(self._pipes, shares, strict=True):
            pipe.send((mapping, key, list(share), threads))
        outcomes: list[list[Outcome]] = []
        failures: list[str] = []
        for pipe in self._pipes:
            assert pipe.poll(PATIENCE), "a process does not answer"
            answer = pipe.recv()
            (failures if isinstance(answer, str) else outcomes).append(answer)
        if failures:
            self._barrier.reset()
            raise AssertionError("\n".join(failures))
        return outcomes

    def run_flat(self, config: FormationConfig, shares: Sequence[Sequence[Call]], **options: Any) -> list[Outcome]:
        """:meth:`run`, with the outcomes of all processes in one list."""
        return [outcome for share in self.run(config, shares, **options) for outcome in share]

    def stop(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(PATIENCE)
            assert process.exitcode == 0


def _serve(pipe: Connection, barrier: Barrier) -> None:
    clients: dict[str, Any] = {}
    with asyncio.Runner() as runner:
        while (message := pipe.recv()) is not None:
            mapping, key, share, threads = message
            try:
                config = dataclasses.replace(FormationConfig.from_mapping(mapping), secret_key=Secret(key))
                name = repr((mapping, threads))
                if name not in clients:
                    runner.run(_close(clients))
                    clients[name] = (FormationClient if threads else AsyncFormationClient)(config)
                run = (
                    _in_threads(clients[name], share, barrier) if threads else _in_tasks(clients[name], share, barrier)
                )
                pipe.send(runner.run(run))
            except BaseException:  # noqa: BLE001 (the test shows it)
                barrier.abort()
                pipe.send(traceback.format_exc())
        runner.run(_close(clients))


async def _close(clients: dict[str, Any]) -> None:
    for client in clients.values():
        if isinstance(client, FormationClient):
            await asyncio.to_thread(client.close)
        else:
            await client.close()
    clients.clear()


async def _in_tasks(client: AsyncFormationClient, share: Sequence[Call], barrier: Barrier) -> list[Outcome]:
    await client.find_user(secrets.token_hex(8))  # opens it
    await asyncio.to_thread(barrier.wait, PATIENCE)

    async def one(each: Call) -> Outcome:
        try:
            return Outcome(await getattr(client, each.method)(*each.arguments, **each.options))
        except MuxiError as error:
            return Outcome(error=error)
        except Exception:  # noqa: BLE001 (the test shows it)
            return Outcome(trace=traceback.format_exc())

    return list(await asyncio.gather(*map(one, share)))


async def _in_threads(client: FormationClient, share: Sequence[Call], barrier: Barrier) -> list[Outcome]:
    started = threading.Barrier(max(len(share), 1))

    def one(each: Call) -> Outcome:
        started.wait(PATIENCE)
        try:
            return Outcome(getattr(client, each.method)(*each.arguments, **each.options))
        except MuxiError as error:
            return Outcome(error=error)
        except Exception:  # noqa: BLE001 (the test shows it)
            return Outcome(trace=traceback.format_exc())

    def every() -> list[Outcome]:
        client.find_user(secrets.token_hex(8))
        barrier.wait(PATIENCE)
        with ThreadPoolExecutor(max(len(share), 1)) as pool:
            return list(pool.map(one, share))

    return await asyncio.to_thread(every)
