"""Servers that misbehave on purpose, one behaviour for each request; the last one stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

ENVELOPE = {"object": "response", "timestamp": 1, "type": "t", "request": {"id": "r", "idempotency_key": None}}


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    raw: bytes = b""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> str | None:
        return self.headers.get("x-muxi-idempotency-key")


Behaviour = Callable[[Request, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body, head + body)


class Scripted:
    """A server with a script; ``requests`` is what it got, on so many ``connections``."""

    def __init__(self, *script: Behaviour) -> None:
        self._script = list(script)
        self.requests: list[Request] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing() and (request := await read_request(reader)) is not None:
                self.requests.append(request)
                self.arrived.set()
                behaviour = self._script.pop(0) if len(self._script) > 1 else self._script[0]
                await behaviour(request, reader, writer)
        writer.close()


@contextlib.asynccontextmanager
async def scripted(*script: Behaviour) -> AsyncIterator[Scripted]:
    place = Scripted(*script)
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(place.handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    place.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield place
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def raw(
    status: int, body: bytes, *headers: str, length: int | None = None, kind: str = "application/json"
) -> Behaviour:
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    head = "\r\n".join([*lines, *headers]).encode() + b"\r\n\r\n"

    async def answer(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + body)
        await writer.drain()
        if length is not None:
            writer.close()

    return answer


def good(data: Any, status: int = 200) -> Behaviour:
    return raw(status, json.dumps({**ENVELOPE, "success": True, "error": None, "data": data}).encode())


def bad(status: int, name: str, /, *headers: str, message: str = "No.", **details: Any) -> Behaviour:
    error = {"code": name, "message": message, "details": details}
    body = {**ENVELOPE, "success": False, "error": error, "data": {}, "code": name, "message": message}
    return raw(status, json.dumps(body).encode(), *headers)


async def drop(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def hang(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    request.gone.set()


def events(*pieces: bytes, then_hang: bool = False, kind: str = "text/event-stream") -> Behaviour:
    """Send ``pieces`` each by itself, and end the connection."""

    async def answer(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}; charset=utf-8\r\nConnection: close\r\n\r\n".encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if then_hang:
            await hang(request, reader, writer)
        writer.close()

    return answer


def lossy(upstream: str, lose: Callable[[Request], bool]) -> Behaviour:
    """Hand requests on to a server, and lose its answer where ``lose`` says so."""
    parts = urlsplit(upstream)

    async def answer(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await asyncio.open_connection(parts.hostname, parts.port)
        away.write(request.raw.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        content = await there.read()
        away.close()
        if not lose(request):
            writer.write(content)
            await writer.drain()
        writer.close()

    return answer
