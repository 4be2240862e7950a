"""A real server's connections: what ends them, and what their clients are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from muxi_identity import Response, Turn
from muxi_identity.config import FormationConfig
from muxi_identity.conversation.offline import OfflineResponder
from muxi_identity.server import create_app
from muxi_identity.server.connections import BODY_SECONDS, HEAD_SECONDS, MAX_HEAD_BYTES, Connection
from muxi_identity.server.running import FormationServer, Settings, bind
from tests.contract.parties import served
from tests.server.places import ADMIN_KEY, CLIENT_KEY, problem, serve, user, write_formation

Open = tuple[asyncio.StreamReader, asyncio.StreamWriter]
KEY = f"X-Muxi-Admin-Key: {ADMIN_KEY}\r\n"


class Listening:
    """A server on this event loop, which looks at its connections when it is told to."""

    def __init__(self, server: FormationServer, port: int) -> None:
        self.server = server
        self._port = port

    async def connect(self, sent: str = "") -> Open:
        """Open a connection and send the beginning of something; return when the server has it."""
        before = set(self.server.server_state.connections)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(sent.encode())
        await until(lambda: self.server.server_state.connections > before)
        (connection,) = self.server.server_state.connections - before
        assert isinstance(connection, Connection)
        await until(lambda: not sent or connection._in_head or connection.cycle is not None)
        return reader, writer

    def look(self, seconds: int) -> None:
        for _ in range(seconds):
            self.server.look()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (nobody tells of what arrives at a server)
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def listening(folder: Path, **settings: int) -> AsyncIterator[Listening]:
    app = create_app(FormationConfig.load(write_formation(folder)), run_tasks=False)
    server = FormationServer(app, Settings(**settings))
    with bind("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        await until(lambda: server.started)
        try:
            yield Listening(server, listener.getsockname()[1])
        finally:
            server.should_exit = True
            await serving


async def answer(connection: Open) -> tuple[int, dict[str, Any]]:
    """Read an answer to the end of the connection, 0 for none."""
    reader, writer = connection
    answered = b""
    with contextlib.suppress(ConnectionResetError):  # it was closed on what was still being sent
        answered = await reader.read()
    writer.close()
    if not answered:
        return 0, {}
    head, _, body = answered.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_whoever_asks_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async with listening(tmp_path) as place:
        silent = await place.connect()
        half = await place.connect("GET /health HTTP/1.1\r\nHost: x\r\nX-Half")
        place.look(HEAD_SECONDS - 2)
        assert len(place.server.server_state.connections) == 2
        half[1].write(b"-a-header")  # a byte now and then makes no head
        place.look(2)
        assert [await answer(each) for each in (silent, half)] == [(0, {})] * 2
        endless = await place.connect("GET /health HTTP/1.1\r\nHost: x\r\nX-Endless: ")
        endless[1].write(b"x" * 2 * MAX_HEAD_BYTES)
        assert await answer(endless) == (0, {})


async def test_a_body_must_come_on(tmp_path: Path) -> None:
    async with listening(tmp_path) as place:
        for path in ("/v1/users", "/v1/users/resolve"):
            stuck = await place.connect(f"POST {path} HTTP/1.1\r\nHost: x\r\n{KEY}Content-Length: 100\r\n\r\n{{")
            place.look(BODY_SECONDS + 1)
            status, told = await answer(stuck)
            assert (status, told["code"]) == (408, "REQUEST_TIMEOUT")
        answered = place.server.config.app.sites.first.metrics._answered  # type: ignore[union-attr]
        await until(lambda: len(answered) == 2)
        assert [status for _, _, status in answered] == [408, 408]

        head = f"POST /v1/users/import HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{KEY}"
        slow = await place.connect(f"{head}Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
        (connection,) = place.server.server_state.connections
        assert isinstance(connection, Connection)
        for letter in '{"identifiers": ["alice@email.com"]}\n':
            before = connection._heard
            slow[1].write(f"1\r\n{letter}\r\n".encode())
            await until(lambda before=before: connection._heard > before)  # type: ignore[misc]
            place.look(BODY_SECONDS - 2)
        slow[1].write(b"0\r\n\r\n")
        status, told = await answer(slow)
        assert (status, told["data"]["created"]) == (200, 1)


async def test_connections_are_bounded(tmp_path: Path) -> None:
    asks = f"POST /v1/users/resolve HTTP/1.1\r\nHost: x\r\n{KEY}Content-Length: 2\r\n\r\n{{}}"
    async with listening(tmp_path, connections=2) as place:
        held = [await place.connect() for _ in range(2)]
        status, told = await answer(await place.connect(asks))
        assert (status, told["code"]) == (503, "SERVER_UNAVAILABLE")
        alive = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await answer(await place.connect(alive)))[0] == 200
        silent = await place.connect()
        place.look(1)
        assert await answer(silent) == (0, {})
        held[0][1].close()
        await until(lambda: len(place.server.server_state.connections) == 1)
        assert (await answer(await place.connect(asks.replace("Host: x", "Connection: close"))))[0] == 422
        held[1][1].close()


class Endless(OfflineResponder):
    """Thinks for ever about what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    async def respond(self, turn: Turn) -> Response:
        self.begun.set()
        await asyncio.Event().wait()
        return await super().respond(turn)


async def test_what_is_cut_off_at_the_end_may_be_sent_again(tmp_path: Path) -> None:
    responder = Endless()
    config = FormationConfig.load(write_formation(tmp_path))
    with served(config, settings=Settings(grace=0), responder=responder) as place:
        async with httpx.AsyncClient(base_url=place.url) as http:
            waiting = asyncio.create_task(http.post("/v1/chat", json={"message": "Hello!"}, headers=user("a")))
            await asyncio.to_thread(responder.begun.wait)
            place.server.should_exit = True
            cut = await waiting
    assert "same idempotency key" in problem(cut, 503, "SERVER_UNAVAILABLE")["message"]
    assert int(cut.headers["retry-after"]) >= 1
    assert cut.headers["x-request-id"] == cut.json()["request"]["id"]
    assert place.app.sites.first.metrics._answered["POST", "/chat", 503] == 1


@pytest.mark.parametrize("path", ["/v1/users/resolve", "/v1/memories"])
async def test_what_is_cut_off_while_it_is_read_is_told_so(tmp_path: Path, path: str) -> None:
    sent: list[Message] = []
    reads = asyncio.Event()

    async def receive() -> Message:
        reads.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async with serve(FormationConfig.load(write_formation(tmp_path))) as (app, _):
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
        headers = [(b"x-muxi-client-key", CLIENT_KEY.encode())]
        call = asyncio.create_task(app({**scope, "headers": headers}, receive, send))
        await reads.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        head, body = sent
        assert head["status"] == 503
        assert {b"x-request-id", b"retry-after"} <= {name for name, _ in head["headers"]}
        assert b'"SERVER_UNAVAILABLE"' in body["body"]
        assert [status for _, _, status in app.sites.first.metrics._answered] == [503]
