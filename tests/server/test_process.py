"""A server as a process: starting, streaming, stopping, and what it writes down."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from muxi_identity.cli import app, served
from muxi_identity.config import FormationConfig
from tests.invariants import check_invariants
from tests.server.places import ADMIN, CLIENT, ServerProcess, data, problem, running, user, write_formation


def events_of(response: httpx.Response) -> list[tuple[str, dict[str, object]]]:
    found = []
    for block in response.text.split("\n\n"):
        if not block or block.startswith(":"):
            continue
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines.get("event", "message"), json.loads(lines["data"])))
    return found


Start = Callable[..., tuple[int, str]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Try to start a server, which must fail before it forks; return its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(served, "set_up", lambda **_: None)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["serve", "--port", "0", *arguments])
        assert isinstance(result.exception, SystemExit), repr(result.exception)
        assert result.stdout == ""
        return result.exit_code, result.stderr

    return run


def test_made_keys_are_printed_where_somebody_looks_on_or_asks_for_it(tmp_path: Path, start: Start) -> None:
    file = tmp_path / "formation.yaml"
    file.write_text("id: fresh\nmemory: {persistent: {connection_string: fresh.db}}\n")
    code, told = start(str(file))
    assert code == 6
    assert "muxi keys new admin" in told
    assert "--print-keys" in told
    with running(file, options=("--print-keys",)) as server:
        keys = server.keys()
        assert list(keys) == ["admin_key", "client_key"]
        admin = {"X-Muxi-Admin-Key": keys["admin_key"]}
        assert httpx.get(f"{server.url}/v1/users", headers=admin).status_code == 200
        assert any("without a language model" in line["message"] for line in server.log() if "message" in line)
        assert server.stop() == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""
        assert not any(key in line for key in keys.values() for line in server.lines)
    forgotten = CliRunner().invoke(app, ["keys", "forget", "--config", str(file)])
    assert "2 forgotten" in forgotten.output


def test_several_formations_share_a_file_and_nothing_else(tmp_path: Path) -> None:
    first, second = write_formation(tmp_path, "first"), write_formation(tmp_path, "second")
    with running(first, second) as server, httpx.Client(base_url=server.url) as http:
        hello = {"message": "My budget is $5"}
        for path in ("/v1/chat", "/api/second/v1/chat"):
            assert http.post(path, json=hello, headers=user("alice@email.com")).status_code == 200
        one = data(http.get("/api/first/v1/users", headers=ADMIN))["users"]
        other = data(http.get("/api/second/v1/users", headers=ADMIN))["users"]
        assert len(one) == len(other) == 1
        assert one[0]["muxi_user_id"] != other[0]["muxi_user_id"]
        assert http.get(f"/v1/users/{other[0]['muxi_user_id']}", headers=ADMIN).status_code == 404
        assert server.stop() == 0
    with sqlite3.connect(tmp_path / "served.db") as connection:
        assert connection.execute("SELECT count(*) FROM muxi_formations").fetchone() == (2,)


def test_a_worker_has_as_many_connections_as_it_is_told(tmp_path: Path) -> None:
    with running(write_formation(tmp_path), options=("--connections", "1")) as server:
        with httpx.Client(base_url=server.url, headers=CLIENT) as held:
            assert held.post("/v1/users/resolve", json={"identifier": "a@b.co", "create_user": True}).status_code == 200
            problem(
                httpx.get(f"{server.url}/v1/users/me/preferences", headers=user("a@b.co")), 503, "SERVER_UNAVAILABLE"
            )
            assert httpx.get(f"{server.url}/health").status_code == 200
        assert server.stop() == 0


def test_what_cannot_start_says_why_in_a_line(tmp_path: Path, start: Start) -> None:
    file = write_formation(tmp_path, "a")
    code, told = start(str(file), str(file))
    assert (code, "two formations" in told.lower()) == (6, True)
    broken = tmp_path / "broken.yaml"
    broken.write_text("id: b\nmemory: {persistent: {connection_string: .}}\n")
    code, told = start(str(broken))
    assert code == 6
    unreachable = tmp_path / "unreachable.yaml"
    address = "postgresql://u:hunter2hunter2@127.0.0.1:1/x"
    unreachable.write_text(f"id: c\nmemory: {{persistent: {{provider: postgres, connection_string: '{address}'}}}}\n")
    code, told = start(str(file), str(unreachable))
    assert code == 5
    assert told.splitlines()[-1].startswith("error: c: The database cannot be reached")
    assert "hunter2" not in told
    code, told = start(str(file), "--log-level", "zzz")
    assert code == 2
    assert "--log-level" in told


async def test_a_stream_ends_with_its_client(tmp_path: Path) -> None:
    with running(write_formation(tmp_path)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as http:
            await http.post("/v1/chat", json={"message": "Hello!"}, headers=user("a"))
            async with http.stream("GET", "/v1/events", headers=user("a")) as response:
                lines = response.aiter_lines()
                assert await anext(lines) == "event: listening"
                for name in ("a", "b"):  # another person's turns are nobody's business
                    await http.post("/v1/chat", json={"message": "Hello!"}, headers=user(name))
                seen = [await anext(lines) for _ in range(4)]
                assert seen[2] == "event: turn"
            numbers = await wait_for_log(server, "/events")
            assert numbers["status"] == 200
            streamed = await http.post("/v1/chat", json={"message": "Hello!", "stream": True}, headers=user("a"))
            assert [name for name, _ in events_of(streamed)][-1] == "done"
            server.process.send_signal(signal.SIGHUP)  # one worker is replaced too, and nobody is refused meanwhile
            replaced = asyncio.create_task(asyncio.to_thread(server.wait_for, r"worker (\d+) ended \(0\)"))
            while not replaced.done():
                assert (await http.post("/v1/chat", json={"message": "Hello!"}, headers=user("a"))).status_code == 200
            await replaced


async def wait_for_log(server: ServerProcess, route: str) -> dict[str, object]:
    async with asyncio.timeout(20):
        while True:
            for line in server.log():
                if line.get("route") == route:
                    return line
            await asyncio.sleep(0.01)


async def test_stopping_finishes_what_was_begun(tmp_path: Path) -> None:
    file = write_formation(tmp_path)
    with running(file) as server:
        said: dict[str, str] = {}
        refused = 0
        all_speak = asyncio.Event()

        async def talk(number: int) -> None:
            nonlocal refused
            async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
                for turn in range(1_000):
                    text = f"My lucky number is {number * 1000 + turn}"
                    try:
                        response = await http.post("/v1/chat", json={"message": text}, headers=user(f"u{number}"))
                    except httpx.TransportError:
                        refused += 1
                        return  # a connection that was not accepted, or closed between two requests
                    assert response.status_code == 200, response.text
                    said[f"u{number}"] = text
                    if len(said) == 8:
                        all_speak.set()

        async def listen() -> None:
            async with (
                httpx.AsyncClient(base_url=server.url, timeout=30) as http,
                http.stream("GET", "/v1/events", headers=user("u0")) as response,
            ):
                async for _ in response.aiter_lines():
                    pass

        talkers = [asyncio.create_task(talk(number)) for number in range(8)]
        listener = asyncio.create_task(listen())
        await all_speak.wait()
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*talkers)
        await asyncio.gather(listener, return_exceptions=True)
        assert await asyncio.to_thread(server.process.wait, 30) == 0
        assert refused == 8
        answered = [line for line in server.log() if line.get("route") == "/chat"]
        assert {line["status"] for line in answered} == {200}
    config = FormationConfig.load(file)
    tables = await check_invariants(config)
    kept = {message["content"] for message in tables["messages"]}
    assert set(said.values()) <= kept  # what was acknowledged was kept


def test_logs_name_nobody(tmp_path: Path) -> None:
    with running(write_formation(tmp_path), env={"MUXI_SECRET_KEY": "k" * 40}) as server:
        with httpx.Client(base_url=server.url) as http:
            http.post("/v1/chat", json={"message": "My xylophone is red"}, headers=user("alice@email.com"))
            http.get("/v1/users/alice@email.com", headers=ADMIN)
            http.get("/v1/users/nobody@email.com", headers=ADMIN)
            http.get("/v1/nowhere/alice@email.com", headers=ADMIN)
            http.post("/v1/users/resolve", json={"identifier": "alice@email.com"}, headers=CLIENT)
            http.post("/v1/users/resolve", content=b"alice@email.com", headers=CLIENT)
            http.get("/v1/users", headers={"X-Muxi-Admin-Key": "wrong-but-secret-key"})
        assert server.stop() == 0
        text = "\n".join(server.lines)
        for word in ("alice", "nobody@", "xylophone", "wrong-but", CLIENT["X-Muxi-Client-Key"], "kkkk"):
            assert word not in text
        lines = [line for line in server.log() if line["logger"].endswith(".access")]
        assert [(line["route"], line["status"], line["as"]) for line in lines] == [
            ("/chat", 200, "client"),
            ("/users/{user_id}", 200, "admin"),
            ("/users/{user_id}", 404, "admin"),
            ("-", 404, None),
            ("/users/resolve", 200, "client"),
            ("/users/resolve", 400, "client"),
            ("/users", 401, None),
        ]
        assert all(line["request_id"] for line in lines)


def test_tasks_run_and_are_told(tmp_path: Path) -> None:
    with running(write_formation(tmp_path)) as server, httpx.Client(base_url=server.url, timeout=20) as http:
        http.post("/v1/chat", json={"message": "My budget is $5"}, headers=user("a"))
        with http.stream("GET", "/v1/events", headers=user("a")) as response:
            lines = response.iter_lines()
            assert next(lines) == "event: listening"
            soon = "2000-01-01T00:00:00Z"
            job = {"type": "one_time", "schedule": soon, "message": "What is my budget?", "user_id": "a"}
            refused = httpx.post(f"{server.url}/v1/scheduler/jobs", json=job, headers=ADMIN)
            assert refused.json()["code"] == "INVALID_SCHEDULE"
            job["schedule"] = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
            data(httpx.post(f"{server.url}/v1/scheduler/jobs", json=job, headers=ADMIN), 201)
            told = next(line for line in lines if line.startswith("data:") and '"job"' in line)
            run = json.loads(told.removeprefix("data: "))
            assert (run["status"], run["reply"]) == ("succeeded", "Your budget is $5.")
        assert server.stop(signal.SIGINT) == 0
