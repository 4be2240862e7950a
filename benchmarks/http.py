"""Cached resolve over HTTP, against the same server process answering a constant.

Requests are sent ahead of their answers, over a few connections, so that the server is never waiting: its rate is
measured, and not the client's. Both answers have the same size, and both requests the same body.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter_ns

from benchmarks.blocks import compare
from benchmarks.extent import Extent
from benchmarks.results import Row, Target
from benchmarks.served import KEY, environment, formation_file

_TARGET = Target("ratio", 0.7, at_least=True)
_CONNECTIONS = 4
_AHEAD = 64
_KEYS = 100
_GOOD = b'"success":true'


async def measure(extent: Extent) -> list[Row]:
    """Measure on each database: none is asked, but on PostgreSQL it must be sure to hear of changes."""
    return [await _measure(database, extent) for database in extent.databases]


async def _measure(database: str, extent: Extent) -> Row:
    async with serving(database, quick=extent.quick) as port:
        connections = [await _Connection.open(port) for _ in range(_CONNECTIONS)]
        people = [f"person{number}@example.com" for number in range(_KEYS)]
        for person in people:
            await connections[0].ask([_request("/v1/users/resolve", person, create=True)])
        ours = [_request("/v1/users/resolve", person) for person in people]
        constants = [_request("/constant", person) for person in people]
        found = await compare(lambda: _block(connections, ours), lambda: _block(connections, constants), extent.blocks)
        for connection in connections:
            connection.close()
    note = "the same server answering a constant"
    return Row.of("cached resolve over HTTP (ratio of the rates)", database, found, _TARGET, note, rates=True)


async def _block(connections: list[_Connection], requests: list[bytes]) -> list[float]:
    turns = [requests[number % len(requests)] for number in range(_AHEAD)]
    begun = perf_counter_ns()
    await asyncio.gather(*(connection.ask(turns) for connection in connections))
    return [(perf_counter_ns() - begun) / 1000 / (len(connections) * _AHEAD)]


def _request(path: str, person: str, *, create: bool = False) -> bytes:
    body = json.dumps({"identifier": person, "create_user": create}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Muxi-Client-Key: {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection:
    """One connection that is asked many things at once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> _Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, requests: list[bytes]) -> None:
        """Send all of them and wait for as many good answers."""
        self._writer.write(b"".join(requests))
        left, text = len(requests), b""
        while left:
            text += await self._reader.read(1 << 16)
            if b"HTTP/1.1 4" in text or b"HTTP/1.1 5" in text or self._reader.at_eof():
                raise RuntimeError(text.decode("utf-8", "replace")[:500])
            left -= text.count(_GOOD)
            text = text[text.rfind(_GOOD) + len(_GOOD) :] if _GOOD in text else text

    def close(self) -> None:
        self._writer.close()


@contextlib.asynccontextmanager
async def serving(database: str, *, quick: bool) -> AsyncIterator[int]:
    """Serve a formation from a process on a core of its own, which this one keeps off; hand out the port."""
    with formation_file(database, quick=quick) as file:
        async with _process(file) as port:
            yield port


@contextlib.asynccontextmanager
async def _process(file: Path) -> AsyncIterator[int]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    apart = len(cores) > 1
    command = [sys.executable, "-m", "benchmarks.http_server", str(file), str(cores[1] if apart else -1)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), cwd=Path(__file__).parents[1])  # noqa: ASYNC220, S603
    if apart:
        os.sched_setaffinity(0, cores[:1])
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        await wait_until_listening(port)
        yield port
    finally:
        if apart:
            os.sched_setaffinity(0, cores)
        process.terminate()
        process.wait()
        process.stdout.close()


async def wait_until_listening(port: int) -> None:
    """Return when connections to ``port`` are accepted."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
