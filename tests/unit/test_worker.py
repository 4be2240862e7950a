"""A worker: one thing at a time, a bounded line before it, and a thread that nobody can leave behind at work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from muxi_identity.errors import ClientClosedError, StorageUnavailableError
from muxi_identity.storage.places import Places
from muxi_identity.storage.worker import Worker

PATIENCE = 30


class Gate:
    """Work that begins, and ends when it is told to."""

    def __init__(self) -> None:
        self._begun, self._end = threading.Event(), threading.Event()

    def pass_through(self) -> str:
        self._begun.set()
        assert self._end.wait(PATIENCE)
        return "passed"

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, PATIENCE)

    def open(self) -> None:
        self._end.set()


@pytest.fixture
def places() -> Places:
    return Places(1, most_waiting=2, seconds=60)


@pytest.fixture
def worker(places: Places) -> Iterator[Worker]:
    worker = Worker("test", places)
    yield worker
    worker.stop()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


async def test_those_who_find_it_at_work_wait_in_order_or_are_refused(
    worker: Worker, places: Places, gate: Gate
) -> None:
    done: list[int] = []
    first = asyncio.create_task(worker.run(gate.pass_through))
    await gate.begun()
    waiting = [asyncio.create_task(worker.run(done.append, number)) for number in range(2)]
    await asyncio.sleep(0)  # each runs until it waits
    with pytest.raises(StorageUnavailableError, match="overloaded"):
        await worker.run(done.append, 2)
    gate.open()
    assert await first == "passed"
    await asyncio.gather(*waiting)
    assert done == [0, 1]
    assert not places.all_taken


async def test_a_cancelled_caller_does_not_free_the_thread(worker: Worker, places: Places, gate: Gate) -> None:
    """What comes next would not be in the line, where it is counted and may give up, but behind the work itself."""
    first = asyncio.create_task(worker.run(gate.pass_through))
    await gate.begun()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    next_one = asyncio.create_task(worker.run(str, "next"))
    await asyncio.sleep(0)
    assert places.waiting == 1
    gate.open()
    assert await next_one == "next"
    assert not places.all_taken


async def test_closing_turns_the_line_away(worker: Worker, gate: Gate) -> None:
    first = asyncio.create_task(worker.run(gate.pass_through))
    await gate.begun()
    waiting = asyncio.create_task(worker.run(str, "next"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(worker.close())
    with pytest.raises(ClientClosedError):
        await waiting
    gate.open()
    assert await first == "passed"
    await closing
    with pytest.raises(ClientClosedError):
        await worker.run(str, "late")


def test_a_loop_that_ends_while_it_is_at_work(worker: Worker, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> None:
        running = asyncio.create_task(worker.run(gate.pass_through))
        await gate.begun()
        running.cancel()

    ended = threading.Event()
    asyncio.run(leave())
    worker._work.put(ended.set)
    gate.open()
    assert ended.wait(PATIENCE)
    assert caplog.records == []
