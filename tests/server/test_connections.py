"""A real server's connections: what ends them, and what their clients are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from muxi_identity import Response, Turn
from muxi_identity.config import FormationConfig
from muxi_identity.conversation.offline import OfflineResponder
from muxi_identity.server import create_app
from muxi_identity.server.connections import BODY_SECONDS, HEAD_SECONDS, MAX_HEAD_BYTES, ROWS_SECONDS, Connection
from muxi_identity.server.running import FormationServer, Settings, bind
from tests.contract.parties import served
from tests.server.places import ADMIN_KEY, CLIENT_KEY, problem, serve, user, write_formation

Open = tuple[asyncio.StreamReader, asyncio.StreamWriter]
KEY = f"X-Muxi-Admin-Key: {ADMIN_KEY}\r\n"


class Listening:
    """A server on this event loop, which looks at its connections when it is told to."""

    def __init__(self, server: FormationServer, port: int) -> None:
        self.server = server
        self.port = port

    async def connect(self, sent: str = "") -> Open:
        """Open a connection and send the beginning of something; return when the server has it."""
        before = set(self.server.server_state.connections)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent.encode())
        await until(lambda: self.server.server_state.connections > before)
        (connection,) = self.server.server_state.connections - before
        assert isinstance(connection, Connection)
        await until(lambda: not sent or connection._no_body or connection.cycle is not None)
        return reader, writer

    def only(self) -> Connection:
        (connection,) = self.server.server_state.connections
        assert isinstance(connection, Connection)
        return connection

    async def send(self, writer: asyncio.StreamWriter, sent: str) -> None:
        """Send a piece of a body on the only connection; return when the server has it."""
        before = self.only()._pieces
        writer.write(sent.encode())
        await until(lambda: self.only()._pieces > before)

    def look(self, seconds: int) -> None:
        for _ in range(seconds):
            self.server.look()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (nobody tells of what arrives at a server)
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def listening(folder: Path, *, origins: Sequence[str] = (), **settings: int) -> AsyncIterator[Listening]:
    keys = {"admin_key": ADMIN_KEY, "client_key": CLIENT_KEY}
    file = write_formation(folder, server={"api_keys": keys, "cors_origins": list(origins)})
    app = create_app(FormationConfig.load(file), run_tasks=False)
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


async def test_trailers_are_no_headers_and_have_an_end(tmp_path: Path) -> None:
    chunked = "Host: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    refused = f"POST /v1/users HTTP/1.1\r\n{chunked}"
    async with listening(tmp_path) as place:
        for asks in (f"GET /health HTTP/1.1\r\n{chunked}", refused, f"GET /nowhere HTTP/1.1\r\n{chunked}"):
            for end in ("0\r\nx: ", "1;x=", "0\r\n" + "x: y\r\n" * 10):
                reader, writer = await place.connect(asks + end)
                connection = place.only()
                writer.write(end[-6:].encode() * MAX_HEAD_BYTES)
                with contextlib.suppress(ConnectionResetError):
                    await reader.read()
                writer.close()
                assert len(connection.cycle.scope["headers"]) == 2
                await until(lambda: not place.server.server_state.connections)
        chunks = "1;x=y\r\n{\r\n" + f"1;{'x' * 1000}\r\n \r\n" * 100 + "1\r\n}\r\n0\r\nX-Muxi-User-ID: a\r\n\r\n"
        long = await place.connect(f"POST /v1/users HTTP/1.1\r\nConnection: close\r\n{KEY}{chunked}{chunks}")
        assert (await answer(long))[0] == 201


async def test_nobody_without_a_key_is_waited_for(tmp_path: Path) -> None:
    body = "Host: x\r\nContent-Length: 1000000\r\n\r\n"
    async with listening(tmp_path) as place:
        for asks, status in (("GET /health", 200), ("GET /v1/ready", 200), ("POST /v1/users", 401)):
            reader, writer = await place.connect(f"{asks} HTTP/1.1\r\n{body}")
            assert int((await reader.readuntil(b"\r\n\r\n")).split()[1]) == status
            for _ in range(HEAD_SECONDS + 1):
                await place.send(writer, "x")
                place.look(1)
            await reader.read()
            writer.close()
            await until(lambda: not place.server.server_state.connections)


async def test_a_body_must_be_there_in_time(tmp_path: Path) -> None:
    origin = "https://app.example"
    rows = "POST /v1/users/import HTTP/1.1\r\nHost: x\r\n"
    async with listening(tmp_path, origins=[origin]) as place:
        for path in ("/v1/users", "/v1/users/resolve"):
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n{KEY}Content-Length: 100\r\n\r\n"
            reader, writer = await place.connect(head)
            for _ in range(BODY_SECONDS + 1):
                await place.send(writer, " ")  # a byte now and then makes no body
                place.look(1)
            answered = await reader.read()
            writer.close()
            assert answered.startswith(b"HTTP/1.1 408 ")
            assert b'"REQUEST_TIMEOUT"' in answered
            head_of = answered.partition(b"\r\n\r\n")[0].lower()
            for header in (
                "connection: close",
                "cache-control: no-store",
                "retry-after: 1",
                f"access-control-allow-origin: {origin}",
            ):
                assert header.encode() in head_of.split(b"\r\n")

        head = f"{rows}Connection: close\r\n{KEY}Transfer-Encoding: chunked\r\n\r\n"
        for end in ("0\r\n\r\n", ""):
            reader, writer = await place.connect(head)
            for piece in ('{"identifiers": ', '["alice@email.com"]', "}\n"):
                await place.send(writer, f"{len(piece):x}\r\n{piece}\r\n")
                place.look(ROWS_SECONDS - 2)
            writer.write(end.encode())
            if end:
                status, told = await answer((reader, writer))
                assert (status, told["data"]["created"]) == (200, 1)
            else:
                place.look(ROWS_SECONDS + 1)
                status, told = await answer((reader, writer))
                assert (status, told["code"]) == (408, "REQUEST_TIMEOUT")
                assert "Rows before that: 1." in told["message"]
        answered_by_status = place.server.config.app.sites.first.metrics._answered  # type: ignore[union-attr]
        await until(lambda: sum(answered_by_status.values()) == 4)
        assert sorted(status for _, _, status in answered_by_status) == [200, 408, 408, 408]


async def test_whoever_does_not_read_is_not_waited_for(tmp_path: Path) -> None:
    asks = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    async with listening(tmp_path) as place:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", place.port))
            client.send((asks * 30).encode())
            await until(lambda: place.server.server_state.connections)
            connection = place.only()
            await until(connection.transport.get_write_buffer_size)
            place.look(1)
            for _ in range(3):  # who reads on, if slowly, has time
                place.look(BODY_SECONDS - 1)
                before = connection.transport.get_write_buffer_size()
                while connection.transport.get_write_buffer_size() == before:
                    with contextlib.suppress(BlockingIOError):
                        client.recv(1 << 16)
                    await asyncio.sleep(0)
                assert place.server.server_state.connections
            place.look(BODY_SECONDS + 1)
            await until(lambda: not place.server.server_state.connections)


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
