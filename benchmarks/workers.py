"""Requests per second with one worker and with two, and what a worker takes of the memory.

Cached resolves over as many connections as a small application has, each sent when the one before was answered. The
clients are processes of their own; where the machine has no more cores than workers, they take turns with them, and
the figure is of both.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import multiprocessing
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, sleep

from benchmarks.extent import Extent
from benchmarks.results import Row
from benchmarks.served import KEY, environment, formation_file

_CLIENTS = 4
_BODY = json.dumps({"identifier": "person@example.com", "create_user": True})


async def measure(extent: Extent) -> list[Row]:
    """Measure with a server on each database."""
    return [row for database in extent.databases for row in await asyncio.to_thread(_measure, database, extent)]


def _measure(database: str, extent: Extent) -> list[Row]:
    with formation_file(database, quick=extent.quick) as file:
        if extent.quick:
            return _with_workers(2, database, file, clients=1, rounds=1, seconds=0.1)
        return [
            row
            for workers in (1, 2)
            for row in _with_workers(workers, database, file, clients=_CLIENTS, rounds=5, seconds=2.0)
        ]


def _with_workers(workers: int, database: str, file: Path, *, clients: int, rounds: int, seconds: float) -> list[Row]:
    with _server(workers, file) as (port, pids):
        context = multiprocessing.get_context("spawn")
        with context.Pool(clients) as pool:
            pool.starmap(_ask, [(port, KEY, 0.1)] * clients)
            rates = [sum(pool.starmap(_ask, [(port, KEY, seconds)] * clients)) / seconds for _ in range(rounds)]
        memory = [_own_memory(pid) for pid in pids]
    named = "1 worker" if workers == 1 else f"{workers} workers"
    note = f"{clients} connection{'s' if clients > 1 else ''}, on the same cores"
    return [
        Row.alone(f"cached resolves over HTTP, {named}", database, rates, "requests/s", note=note, more=True),
        Row.alone(f"memory of a worker, {named}", database, memory, "MB", note="its share of what is shared"),
    ]


def _ask(port: int, key: str, seconds: float) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"X-Muxi-Client-Key": key, "Content-Type": "application/json"}
    until, answered = perf_counter() + seconds, 0
    while perf_counter() < until:
        connection.request("POST", "/v1/users/resolve", _BODY, headers)
        response = connection.getresponse()
        if response.status != 200 or not response.read():
            raise RuntimeError(f"answered {response.status}")
        answered += 1
    connection.close()
    return answered


def _own_memory(pid: int) -> float:
    """Return a process's memory in MB, with its share of what it has in common with others."""
    found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


@contextlib.contextmanager
def _server(workers: int, file: Path) -> Iterator[tuple[int, list[int]]]:
    log = file.with_name("log")
    command = [sys.executable, "-m", "muxi_identity.cli", "serve", str(file), "--port", "0"]
    with log.open("wb") as written:
        process = subprocess.Popen([*command, "--workers", str(workers)], stderr=written, env=environment())  # noqa: S603
    try:
        while (text := log.read_text()).count(" serves") < workers:
            if process.poll() is not None:
                raise RuntimeError(text)
            sleep(0.02)  # to ask on and on would keep a core from the workers
        port = re.search(r"http://127\.0\.0\.1:(\d+)", text)
        assert port is not None
        pids = [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", text)]
        yield int(port[1]), pids
    finally:
        process.terminate()
        process.wait()
