"""Several workers behind one port: replaced when they die, restarted one by one, ended together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from muxi_identity.config import FormationConfig
from muxi_identity.server import create_app, supervisor
from muxi_identity.server.running import Settings, bind
from muxi_identity.server.supervisor import _Place, _Worker
from tests.server.places import ADMIN, CLIENT, CLIENT_KEY, data, problem, running, user, write_formation, write_served

TWO = ("--workers", "2")
SERVES = r"worker (\d+) serves"
RESOLVE = {"identifier": "alice@email.com", "create_user": True}


def resolve(url: str, headers: dict[str, str] = CLIENT) -> httpx.Response:
    return httpx.post(f"{url}/v1/users/resolve", json=RESOLVE, headers=headers)  # a connection of its own


def answered(url: str, route: str = "/users/resolve") -> int:
    numbers = httpx.get(f"{url}/metrics", headers=ADMIN).text
    line = f'muxi_requests_total{{method="POST",route="{route}",status="200"}} '
    return sum(int(float(text.removeprefix(line))) for text in numbers.splitlines() if text.startswith(line))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Pipelined:
    """A connection on which much is sent before anything is read."""

    def __init__(self, url: str, sent: bytes) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port), timeout=30)
        self._socket.sendall(sent)

    def finish(self, answers: int) -> None:
        with self._socket, self._socket.makefile("rb") as answered:
            for _ in range(answers):
                assert answered.readline() == b"HTTP/1.1 200 OK\r\n"
                head = iter(answered.readline, b"\r\n")
                length = next(int(line[16:]) for line in head if line.startswith(b"content-length: "))
                for _ in head:
                    pass
                answered.read(length)


def test_a_worker_that_dies_is_replaced(database_config: FormationConfig, tmp_path: Path) -> None:
    file, secrets = write_served(database_config, tmp_path)
    with running(file, env=secrets, options=TWO) as server:
        first = [int(pid) for pid in server.wait_for(SERVES, 2)]
        assert sorted(first) == sorted(server.workers())
        assert data(resolve(server.url))["created"] is True
        os.kill(first[0], signal.SIGKILL)
        *_, third = map(int, server.wait_for(SERVES, 3))
        assert third not in first
        found = {data(resolve(server.url))["muxi_user_id"] for _ in range(20)}
        assert len(found) == 1
        assert server.stop() == 0
        assert not any(is_alive(pid) for pid in (*first, third))
        ids = [line["request_id"] for line in server.log() if "request_id" in line]
        assert len(ids) == len(set(ids)) == 21


def test_workers_are_restarted_one_by_one_and_read_the_configuration_again(tmp_path: Path) -> None:
    file = write_formation(tmp_path)
    with running(file, options=TWO) as server:
        first = server.wait_for(SERVES, 2)
        for _ in range(20):
            assert resolve(server.url).status_code == 200
        good = file.read_text()
        file.write_text("id: [")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(r"(goes on as it was)")
        assert resolve(server.url).status_code == 200

        file.write_text(good.replace(CLIENT_KEY, "another-client-key-0123456789"))
        server.process.send_signal(signal.SIGHUP)
        statuses = set()
        while len(server.wait_for(r"worker (\d+) ended \(0\)", 0)) < 2:
            # With the one key or the other, somebody answers all the while.
            keys = ({"X-Muxi-Client-Key": "another-client-key-0123456789"}, CLIENT)
            statuses.add(min(resolve(server.url, headers).status_code for headers in keys))
        assert resolve(server.url).status_code == 401
        assert resolve(server.url, {"X-Muxi-Client-Key": "another-client-key-0123456789"}).status_code == 200
        assert not set(server.wait_for(SERVES, 4)[2:]) & set(first)
        assert statuses <= {200, 401}  # 401 where the two questions met a worker of each kind
        # No number falls: who came after went on from what was counted. Of another worker it is a second old.
        told = time.monotonic()
        while answered(server.url) < 22:
            assert time.monotonic() - told < 20
        before = answered(server.url)
        os.kill(int(server.wait_for(SERVES, 4)[3]), signal.SIGKILL)
        server.wait_for(SERVES, 5)
        assert answered(server.url) >= before - 1  # the last second of who was killed is lost
        assert server.stop(signal.SIGINT) == 0


def test_a_restart_within_a_restart_leaves_nobody_with_the_first_of_them(tmp_path: Path) -> None:
    file = write_formation(tmp_path)
    keys = ("another-client-key-0123456789", "a-third-client-key-0123456789")
    with running(file, options=TWO) as server:
        server.wait_for(SERVES, 2)
        good = file.read_text()
        for key in keys:
            file.write_text(good.replace(CLIENT_KEY, key))
            server.process.send_signal(signal.SIGHUP)
            server.wait_for(r"(workers are replaced)", 1 + keys.index(key))
        # The successor that the first began and both that the second asks for.
        server.wait_for(r"worker (\d+) ended \(0\)", 3)
        statuses = {resolve(server.url, {"X-Muxi-Client-Key": keys[1]}).status_code for _ in range(20)}
        assert statuses == {200}
        assert server.stop() == 0


def test_a_restart_that_cannot_start_leaves_the_workers_as_they_are(tmp_path: Path) -> None:
    file = write_formation(tmp_path)
    with running(file, options=TWO) as server:
        server.wait_for(SERVES, 2)
        settings = yaml.safe_load(file.read_text())
        settings["memory"]["persistent"]["connection_string"] = str(tmp_path)  # a folder
        file.write_text(yaml.safe_dump(settings))
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(r"(successor of a worker did not start; the others go on)")
        assert resolve(server.url).status_code == 200
        os.kill(int(server.wait_for(SERVES, 2)[0]), signal.SIGKILL)
        server.wait_for(SERVES, 3)  # with the configuration that works
        assert resolve(server.url).status_code == 200
        assert server.stop() == 0


_FOURTH_DIES = """
import os
from muxi_identity.cli import main
from muxi_identity.server import supervisor

begin, work, begun = supervisor.Supervisor._start, supervisor.work, []

def count(self):
    begun.append(self)
    return begin(self)

def die(*given, **more):
    if len(begun) == 4:
        os._exit(1)
    return work(*given, **more)

supervisor.Supervisor._start, supervisor.work = count, die
main()
"""


def test_a_restart_that_has_begun_is_brought_to_its_end(tmp_path: Path) -> None:
    file = write_formation(tmp_path)
    with running(file, options=TWO, program=("-c", _FOURTH_DIES)) as server:
        server.wait_for(SERVES, 2)
        another = "another-client-key-0123456789"
        file.write_text(file.read_text().replace(CLIENT_KEY, another))
        server.process.send_signal(signal.SIGHUP)
        # The first successor has taken over when the second one dies.
        server.wait_for(r"(successor of a worker did not start, and is started again)")
        server.wait_for(SERVES, 4)
        server.wait_for(r"worker (\d+) ended \(0\)", 2)
        statuses = {resolve(server.url, {"X-Muxi-Client-Key": another}).status_code for _ in range(20)}
        assert statuses == {200}
        assert server.stop() == 0


def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    with running(write_formation(tmp_path), options=TWO) as server:
        pids = [int(pid) for pid in server.wait_for(SERVES, 2)]
        server.process.kill()
        server.process.wait()
        assert sorted(map(int, server.wait_for(r"Finished server process \[(\d+)\]", 2))) == sorted(pids)


def test_keys_are_made_once_for_all_workers(tmp_path: Path) -> None:
    file = tmp_path / "formation.yaml"
    file.write_text("id: fresh\nmemory: {persistent: {connection_string: fresh.db}}\n")
    with running(file, options=(*TWO, "--print-keys")) as server:
        server.wait_for(SERVES, 2)
        shown = server.keys()
        assert sorted(shown) == ["admin_key", "client_key"]
        for _ in range(10):
            assert resolve(server.url, {"X-Muxi-Client-Key": shown["client_key"]}).status_code == 200
        listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
        assert not any(key in listed for key in shown.values())
        assert server.stop() == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""


def test_a_limit_counts_over_all_workers(tmp_path: Path) -> None:
    keys = {"admin_key": "a" * 30, "client_key": CLIENT_KEY}
    limited = {"api_keys": keys, "rate_limits": {"client_key": 5}}
    with running(write_formation(tmp_path, server=limited), options=("--workers", "3")) as server:
        server.wait_for(SERVES, 3)
        statuses = [resolve(server.url).status_code for _ in range(15)]
        assert statuses == [200] * 5 + [429] * 10
        assert server.stop() == 0


def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    script = (
        "import sys; from muxi_identity.server import supervisor; supervisor._SILENT_LOOKS = 4;"
        "from muxi_identity.cli import main; main()"
    )
    with running(write_formation(tmp_path), options=TWO, program=("-c", script)) as server:
        hung = server.wait_for(SERVES, 2)[0]
        os.kill(int(hung), signal.SIGSTOP)
        assert server.wait_for(r"worker (\d+) does not answer and is killed") == [hung]
        server.wait_for(SERVES, 3)
        assert resolve(server.url).status_code == 200
        assert server.stop() == 0


_PATIENT = """
import asyncio, sys
from muxi_identity.conversation.offline import OfflineResponder
from muxi_identity.cli import main

respond = OfflineResponder.respond

async def wait(self, turn):
    if turn.message == "wait":
        print("it waits", file=sys.stderr, flush=True)
        await asyncio.Event().wait()
    return await respond(self, turn)

OfflineResponder.respond = wait
main()
"""


def test_a_stop_is_announced_and_then_refuses_at_once(tmp_path: Path) -> None:
    options = (*TWO, "--drain", "600", "--grace", "600")
    with (
        running(write_formation(tmp_path), options=options, program=("-c", _PATIENT)) as server,
        ThreadPoolExecutor(1) as clients,
    ):
        server.wait_for(SERVES, 2)
        hello = {"message": "wait"}
        waiting = clients.submit(httpx.post, f"{server.url}/v1/chat", json=hello, headers=user("a"), timeout=600)
        server.wait_for("(it waits)")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(r"told to stop; (for 600 seconds)")
        for _ in range(10):  # of whichever worker
            problem(httpx.get(f"{server.url}/ready"), 503, "SERVER_UNAVAILABLE")
            assert resolve(server.url).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(httpx.TransportError):
            while resolve(server.url).status_code == 200:
                pass
        with pytest.raises(httpx.ConnectError):  # not taken and then left alone, though somebody waits to the end
            resolve(server.url)
        assert not waiting.done()
        assert server.stop(signal.SIGINT) == 0
        assert isinstance(waiting.exception(), httpx.TransportError)


def test_a_terminal_that_is_gone_asks_for_no_restart(tmp_path: Path) -> None:
    app = create_app(FormationConfig.load(write_formation(tmp_path)))
    with bind("127.0.0.1", 0) as listener:
        watching = supervisor.Supervisor(app, listener, Settings(), workers=1, reload=lambda: app)
        ours, theirs = os.openpty()
        try:
            watching._terminals = [theirs]
            assert not watching._hung_up()
            os.close(ours)
            assert watching._hung_up()
        finally:
            os.close(theirs)
            watching._close()


def test_a_worker_that_keeps_dying_is_replaced_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(supervisor, "monotonic", lambda: now)
    place = _Place()
    pauses = []
    for _ in range(7):
        supervisor.Supervisor._put_off(None, place, _Worker(1, 1, now))  # type: ignore[arg-type]
        pauses.append(round(place.not_before - now, 3))
    assert pauses == [0.1, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0]
    supervisor.Supervisor._put_off(None, place, _Worker(1, 1, now - 60, started=True))  # type: ignore[arg-type]
    assert (place.failures, place.not_before) == (0, now)


async def test_an_event_reaches_who_listens_at_another_worker(database_config: FormationConfig, tmp_path: Path) -> None:
    file, secrets = write_served(database_config, tmp_path)
    with running(file, env=secrets, options=TWO) as server:
        server.wait_for(SERVES, 2)
        async with contextlib.AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=20))
            await http.post("/v1/chat", json={"message": "Hello!"}, headers=user("alice@email.com"))
            streams: dict[str, AsyncIterator[str]] = {}
            while len(streams) < 2:  # until both workers have a listener
                ear = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=20))
                response = await stack.enter_async_context(
                    ear.stream("GET", "/v1/events", headers=user("alice@email.com"))
                )
                lines = response.aiter_lines()
                assert await anext(lines) == "event: listening"
                streams[response.headers["x-request-id"][:16]] = lines
            said = []
            for number in range(3):
                body = {"message": f"My lucky number is {number}"}
                reply = await http.post("/v1/chat", json=body, headers=user("alice@email.com"))
                said.append(data(reply)["message"]["content"])
            for lines in streams.values():
                heard, ids = [], []
                async for line in lines:
                    if line.startswith("id: "):
                        ids.append(int(line[4:]))
                    if line.startswith("data: ") and "message" in line:
                        heard.append(json.loads(line[6:])["message"]["content"])
                    if len(heard) == 3:
                        break
                assert heard == said
                assert ids == sorted(ids)
            head = {**user("alice@email.com"), "Last-Event-ID": str(ids[0])}
            async with http.stream("GET", "/v1/events", headers=head) as response:
                lines = response.aiter_lines()
                resumed = [json.loads(line[6:]) async for line in take(lines, 3)]
            assert [each["message"]["content"] for each in resumed[1:]] == said[1:]
        assert server.stop() == 0


async def take(lines: AsyncIterator[str], number: int) -> AsyncIterator[str]:
    async for line in lines:
        if line.startswith("data: "):
            yield line
            number -= 1
            if not number:
                return


def test_lines_of_the_log_stay_apart(tmp_path: Path) -> None:
    with running(write_formation(tmp_path), options=TWO) as server:
        server.wait_for(SERVES, 2)
        body = json.dumps(RESOLVE).encode()
        head = f"POST /v1/users/resolve HTTP/1.1\r\nHost: x\r\nX-Muxi-Client-Key: {CLIENT_KEY}\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        many = [Pipelined(server.url, request * 200) for _ in range(6)]
        for each in many:
            each.finish(200)
        assert server.stop() == 0
        told = [line for line in server.lines if "/users/resolve" in line]
        assert len(told) == 1_200
        assert all(json.loads(line)["status"] == 200 for line in told)
