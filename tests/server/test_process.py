"""A server as a process: starting, streaming, stopping, and what it writes down."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from muxi_identity.config import FormationConfig
from tests.invariants import check_invariants
from tests.server.places import ADMIN, CLIENT, ServerProcess, data, running, user, write_formation


def events_of(response: httpx.Response) -> list[tuple[str, dict[str, object]]]:
    found = []
    for block in response.text.split("\n\n"):
        if not block or block.startswith(":"):
            continue
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines.get("event", "message"), json.loads(lines["data"])))
    return found


def test_keys_are_made_once_and_kept_as_hashes(tmp_path: Path) -> None:
    file = tmp_path / "formation.yaml"
    file.write_text("id: fresh\nmemory: {persistent: {connection_string: fresh.db}}\n")
    with running(file) as server:
        shown = [line.split() for line in server.lines if "_key" in line and line.startswith("fresh")]
        assert [words[1] for words in shown] == ["admin_key", "client_key"]
        admin, client = (words[2] for words in shown)
        assert httpx.get(f"{server.url}/v1/users", headers={"X-Muxi-Admin-Key": admin}).status_code == 200
        assert any("without a language model" in line for line in server.lines)
        assert server.stop() == 0
    with running(file) as server:  # good for ever, and never shown again
        assert httpx.get(f"{server.url}/v1/users", headers={"X-Muxi-Admin-Key": admin}).status_code == 200
        body = {"identifier": "a", "create_user": True}
        resolved = httpx.post(f"{server.url}/v1/users/resolve", json=body, headers={"X-Muxi-Client-Key": client})
        assert data(resolved)["created"] is True
        assert not [line for line in server.lines if "_key " in line]
        assert server.stop() == 0
    for path in tmp_path.iterdir():
        for key in (admin, client):
            assert key.encode() not in path.read_bytes(), path
    forget = [sys.executable, "-m", "muxi_identity.cli", "keys", "forget", "--config", str(file)]
    assert "2 forgotten" in subprocess.run(forget, check=True, capture_output=True, text=True).stdout
    with running(file) as server:
        assert httpx.get(f"{server.url}/v1/users", headers={"X-Muxi-Admin-Key": admin}).status_code == 401


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


def test_what_cannot_start_says_why_in_a_line(tmp_path: Path) -> None:
    def start(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "muxi_identity.cli", "serve", "--port", "0", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=tmp_path)
        return done.returncode, done.stderr

    file = write_formation(tmp_path, "a")
    code, told = start(str(file), str(file))
    assert (code, "two formations" in told.lower()) == (6, True)
    broken = tmp_path / "broken.yaml"
    broken.write_text("id: b\nmemory: {persistent: {connection_string: .}}\n")
    code, told = start(str(broken))
    assert code == 6
    assert "Traceback" not in told
    unreachable = tmp_path / "unreachable.yaml"
    address = "postgresql://u:hunter2hunter2@127.0.0.1:1/x"
    unreachable.write_text(f"id: c\nmemory: {{persistent: {{provider: postgres, connection_string: '{address}'}}}}\n")
    code, told = start(str(unreachable))
    assert code == 5
    assert "Traceback" not in told
    assert "hunter2" not in told


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
