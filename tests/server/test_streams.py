"""Event streams: kept alive while nothing happens, and held back by a client that does not read."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx

from muxi_identity import Response, Turn
from muxi_identity.config import FormationConfig
from muxi_identity.server.streams import EventStream, event
from tests.contract.parties import Served
from tests.server.places import Piecemeal, data, user

KEEP_ALIVE = ": keepalive\n\n"


def stream_of(events: AsyncIterator[bytes]) -> Piecemeal:
    return Piecemeal(httpx.Request("GET", "http://test/")).begin(EventStream(events, keep_alive=0.001))


async def test_it_is_kept_alive_while_nothing_happens() -> None:
    happen, closed = asyncio.Event(), asyncio.Event()

    async def events() -> AsyncIterator[bytes]:
        try:
            for number in range(2):
                await happen.wait()
                happen.clear()
                yield event(number)
            await happen.wait()
        finally:
            closed.set()

    async with stream_of(events()) as client:
        for number in range(2):
            await client.wait_for(KEEP_ALIVE, 3 * (number + 1))
            happen.set()
            await client.wait_for(f"data: {number}\n\n")
        assert not closed.is_set()  # what makes the events waits on, however often it was waited for in vain
        happen.set()
        told = await client.end()
    assert told.replace(KEEP_ALIVE, "") == "data: 0\n\ndata: 1\n\n"
    assert closed.is_set()


async def test_nothing_is_made_ahead_of_a_client_that_does_not_read() -> None:
    made = 0

    async def events() -> AsyncIterator[bytes]:
        nonlocal made
        for number in range(100):
            made += 1
            yield event(number)

    async with stream_of(events()) as client:
        await client.wait_for("data: 0\n\n")
        client.reading.clear()
        held = made
        for _ in range(50):  # as often as the loop comes round, nothing more is asked for
            await asyncio.sleep(0)
        assert made <= held + 2
        client.reading.set()
        told = await client.end()
    assert told.replace(KEEP_ALIVE, "") == "".join(f"data: {number}\n\n" for number in range(100))


class Long:
    """Answers each time with twenty thousand characters that no other answer has."""

    restartable = True

    def __init__(self) -> None:
        self.answers = 0

    async def respond(self, turn: Turn) -> Response:
        self.answers += 1
        return Response(f"{self.answers:05d}" * 4_000)


def turns_of(lines: Iterator[str]) -> Iterator[str]:
    """Yield the texts of the turns that an event stream tells of."""
    name = ""
    for line in lines:
        name = line[7:] if line.startswith("event: ") else name
        if name == "turn" and line.startswith("data: "):
            yield json.loads(line[6:])["message"]["content"]


def test_a_client_that_does_not_read_costs_nothing_and_misses_nothing(tmp_path: Path) -> None:
    config = FormationConfig.from_mapping(
        {"id": "slow", "memory": {"persistent": {"connection_string": str(tmp_path / "muxi.db")}}}
    )
    place = Served(config, responder=Long())
    place._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)  # what it accepts inherits it
    with place, httpx.Client(base_url=place.url, timeout=20) as caller, socket.socket() as deaf:
        said = data(caller.post("/v1/chat", json={"message": "Hello!"}, headers=user("alice")))
        assert said["message"]["content"].startswith("00001")
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.settimeout(20)
        deaf.connect(place._socket.getsockname())
        slow = http.client.HTTPConnection(*place._socket.getsockname())
        slow.sock = deaf
        slow.request("GET", "/v1/events", headers=user("alice"))
        heard = slow.getresponse()
        assert heard.readline() == b"event: listening\n"
        turns = 24
        with caller.stream("GET", "/v1/events", headers=user("alice")) as quick:
            lines = quick.iter_lines()
            assert next(lines) == "event: listening"
            texts = turns_of(lines)
            for _ in range(turns):  # one after the other: whoever reads is told of each, and others are answered
                reply = data(caller.post("/v1/chat", json={"message": "More!"}, headers=user("alice")))
                assert next(texts) == reply["message"]["content"]
            connections = place.server.server_state.connections
            unsent = sum(each.transport.get_write_buffer_size() for each in connections)
            waiting = max(len(each.waiting) for each in place.app.sites.first.formation.feed._listeners)
        # What does not fit into the connection stays in the database: of 480 kB, what the connection may hold back
        # (64 kB and the event that went over it), and what one look found.
        assert 0 < unsent <= 65_536 + 25_000
        assert waiting <= 3
        rest = (line.decode().rstrip("\n") for line in heard)
        later = turns_of(rest)
        assert [next(later)[:5] for _ in range(turns)] == [f"{number:05d}" for number in range(2, turns + 2)]
