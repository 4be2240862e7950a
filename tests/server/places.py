"""Where servers are tested: in this process, and as a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from muxi_identity.config import FormationConfig
from muxi_identity.identity.running import Clock
from muxi_identity.server.app import Served, create_app
from muxi_identity.server_config import hash_key
from tests.formations import Time

ADMIN_KEY = "muxi_admin_0123456789abcdef"
CLIENT_KEY = "muxi_client_0123456789abcdef"
ADMIN = {"X-Muxi-Admin-Key": ADMIN_KEY}
CLIENT = {"X-Muxi-Client-Key": CLIENT_KEY}
START_SECONDS = 30


def with_keys(config: FormationConfig, **changes: Any) -> FormationConfig:
    """Return ``config`` with the keys of these tests."""
    server = dataclasses.replace(
        config.server, admin_keys=(hash_key(ADMIN_KEY),), client_keys=(hash_key(CLIENT_KEY),), **changes
    )
    return dataclasses.replace(config, server=server)


def user(name: str, type: str | None = None) -> dict[str, str]:
    """Return the headers of the client key that name somebody."""
    typed = {} if type is None else {"X-Muxi-User-ID-Type": type}
    return {**CLIENT, "X-Muxi-User-ID": name, **typed}


@contextlib.asynccontextmanager
async def serve(
    *configs: FormationConfig, time: Time | None = None, **options: Any
) -> AsyncIterator[tuple[Served, httpx.AsyncClient]]:
    """Serve formations in this process."""
    clock = {} if time is None else {"clock": Clock(time)}
    app = create_app(configs, run_tasks=False, **clock, **options)
    async with app.running(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield app, client


PATIENCE = 20


class Piecemeal:
    """An answer that comes in pieces, from an application in this process.

    It speaks ASGI itself: the transport of httpx waits for the whole answer, and never goes away before it.
    """

    def __init__(self, request: httpx.Request) -> None:
        self._scope = {
            "type": "http",
            "method": request.method,
            "path": request.url.path,
            "raw_path": request.url.raw_path,
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
            "root_path": "",
        }
        self._body = request.content
        self._asked = False
        self._left = asyncio.Event()
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.status = 0
        self.headers = httpx.Headers()
        self.text = ""
        self.reading = asyncio.Event()
        """Cleared, the client takes nothing more until it is set again."""
        self.reading.set()

    async def __aenter__(self) -> Piecemeal:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    def begin(self, app: Served) -> Piecemeal:
        self._task = asyncio.create_task(app(self._scope, self._receive, self._send))
        return self

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self.reading.wait()
        async with self._news:
            if message["type"] == "http.response.start":
                self.status, self.headers = message["status"], httpx.Headers(message["headers"])
            else:
                self.text += message["body"].decode()
            self._news.notify_all()

    async def wait_for(self, text: str, times: int = 1) -> str:
        """Wait until ``text`` has come as many times, and return all that has come."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self.text.count(text) >= times)
        return self.text

    async def end(self) -> str:
        """Wait for the end, and return all that has come."""
        assert self._task is not None
        async with asyncio.timeout(PATIENCE):
            await self._task
        return self.text

    async def leave(self) -> None:
        """Hang up, and wait until the server has noticed."""
        self._left.set()
        self.reading.set()
        await self.end()


def piecemeal(app: Served, method: str, path: str, *, headers: Mapping[str, str], json: Any = None) -> Piecemeal:
    """Ask for what comes in pieces; leaving the block hangs up."""
    request = httpx.Request(method, f"http://test{path}", headers=dict(headers), json=json)
    return Piecemeal(request).begin(app)


def data(response: httpx.Response, status: int = 200) -> Any:
    """Return what an answer holds."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["success"] is True
    assert body["error"] is None
    return body["data"]


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is this error, and return what it says."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), response.text
    assert body["success"] is False
    assert body["data"] == {}
    assert body["error"]["code"] == body["code"]
    assert body["error"]["message"] == body["message"]
    return dict(body["error"])


@dataclass
class ServerProcess:
    """A running ``muxi serve``: the process that watches the workers, and what they all write."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str]
    news: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until as many lines of the log match, and return what their group holds."""

        def found() -> list[str]:
            return [match[1] for line in list(self.lines) if (match := re.search(pattern, line))]

        with self.news:
            assert self.news.wait_for(lambda: len(found()) >= times, START_SECONDS), (pattern, self.lines)
        return found()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to stop and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(START_SECONDS)

    def kill(self) -> None:
        """Kill all of its processes at once, as a machine does that goes down."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGSTOP)  # so that nobody is replaced meanwhile
            for pid in (*self.workers(), self.process.pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def workers(self) -> list[int]:
        """Return the processes that answer."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def keys(self) -> dict[str, str]:
        """Return the two keys that it has made and printed."""
        assert self.process.stdout is not None
        return dict(self.process.stdout.readline().split()[1:] for _ in range(2))

    def log(self) -> list[dict[str, Any]]:
        """Return what it has logged; every line is JSON."""
        return [json.loads(line) for line in list(self.lines)]


def write_served(config: FormationConfig, folder: Path, **server: Any) -> tuple[Path, dict[str, str]]:
    """Write a formation on the database of ``config`` with the keys of these tests; return the environment it needs."""
    database = config.database
    where = str(database.path) if database.url is None else database.url.reveal()
    persistent = {"provider": database.provider, "connection_string": where}
    keys = {"admin_key": ADMIN_KEY, "client_key": CLIENT_KEY}
    file = write_formation(folder, config.id, memory={"persistent": persistent}, server={"api_keys": keys, **server})
    assert config.secret_key is not None
    return file, {"MUXI_SECRET_KEY": config.secret_key.reveal()}


def write_formation(folder: Path, id: str = "test", **sections: Any) -> Path:
    """Write a formation on SQLite with the keys of these tests."""
    file = folder / f"{id}.yaml"
    settings = {
        "id": id,
        "memory": {"persistent": {"provider": "sqlite", "connection_string": str(folder / "served.db")}},
        "server": {"api_keys": {"admin_key": ADMIN_KEY, "client_key": [CLIENT_KEY]}},
        **sections,
    }
    file.write_text(yaml.safe_dump(settings))
    return file


@contextlib.contextmanager
def running(
    *files: Path,
    env: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    program: tuple[str, ...] = ("-m", "muxi_identity.cli"),
) -> Iterator[ServerProcess]:
    """Start ``muxi serve`` on a free port, and end it afterwards."""
    process = subprocess.Popen(
        [sys.executable, *program, "serve", *map(str, files), "--port", "0", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **(env or {})},
    )
    lines: list[str] = []
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with server.news:
                lines.append(line.rstrip("\n"))
                server.news.notify_all()
            arrived.put(line)
        arrived.put(None)

    reader = threading.Thread(target=read, daemon=True)
    server = ServerProcess(process, "", lines)
    reader.start()
    try:
        while True:
            line = arrived.get(timeout=START_SECONDS)
            assert line is not None, f"the server ended: {lines}"
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            server.url = server.url or (found[0] if found else "")
            if re.search(r"worker \d+ serves", line):
                break
        yield server
    finally:
        if process.poll() is None:
            server.kill()
        reader.join()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def new_id() -> str:
    """Return a formation's id that no other test has."""
    return f"test-{secrets.token_hex(6)}"
