"""Many clients at once, workers that die and are replaced meanwhile: no wrong answer, and nothing acknowledged is lost.

``MUXI_LONG=1`` makes it 200 clients for 30 seconds; else they stay until all workers were replaced.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import httpx

from muxi_identity.config import FormationConfig, Secret
from tests.invariants import check_invariants
from tests.long import LONG
from tests.proxy import Proxy
from tests.server.places import ADMIN, CLIENT, data, problem, running, serve, user, with_keys, write_served

CLIENTS, SECONDS = (200, 30.0) if LONG else (12, 0.0)
LOST = (aiohttp.ClientError, ConnectionError, TimeoutError)
PAUSE = 0.1  # seconds: where a worker died, the next one serves by then, mostly
PATIENCE = 120.0  # seconds: many times what a lease, a restart and a busy machine take together
# Whatever a worker had in hand when it was killed is waited for as long as its claim stands: for this test, not long.
SHORT_LEASE = (
    "from muxi_identity.server import idempotency; idempotency.LEASE_SECONDS = 2;"
    "from muxi_identity.cli import main; main()"
)
PROGRAM = ("-m", "muxi_identity.cli") if LONG else ("-c", SHORT_LEASE)


class Person:
    """Somebody who writes, sends again what was not answered, and reads what they wrote."""

    def __init__(self, number: int) -> None:
        self.mail, self.slack = f"person{number}@example.com", f"U{number:06d}"
        self.number = number
        self.user_id = ""
        self.budget = ""
        self.kept: set[str] = set()
        self.answers = 0
        self.repeated = 0
        self.begun = asyncio.Event()

    async def live(self, http: aiohttp.ClientSession, until: float, replaced: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        linked = await self.send(
            http,
            "/v1/users/identifiers",
            {"identifiers": [self.mail, {"identifier": self.slack, "type": "slack"}]},
            ADMIN,
        )
        self.user_id = linked["muxi_user_id"]
        turn = 0
        while not replaced.is_set() or clock() < until:
            turn += 1
            who = [user(self.mail, "email"), user(self.slack, "slack")][turn % 2]
            detail = f"Note {turn} of person {self.number}"
            added = await self.send(http, "/v1/memories", {"type": "note", "detail": detail}, who)
            assert added["content"] == detail
            self.kept.add(detail)
            self.budget = f"${self.number * 1000 + turn}"
            said = await self.send(http, "/v1/chat", {"message": f"My budget is {self.budget}"}, who)
            assert said["user_id"] == self.user_id, said
            other = [user(self.slack, "slack"), user(self.mail, "email")][turn % 2]
            asked = await self.send(http, "/v1/chat", {"message": "What's my budget?"}, other)
            assert asked["message"]["content"] == f"Your budget is {self.budget}.", (self.budget, asked)
            found = await self.send(http, "/v1/users/resolve", {"identifier": self.mail}, CLIENT)
            assert found["muxi_user_id"] == self.user_id
            self.answers += 4
            self.begun.set()

    async def send(self, http: aiohttp.ClientSession, path: str, body: object, headers: dict[str, str]) -> dict:  # type: ignore[type-arg]
        key = f"{self.number}-{self.answers}-{random.getrandbits(64):x}"
        clock, last = asyncio.get_running_loop().time, ""
        give_up = clock() + PATIENCE
        while clock() < give_up:
            try:
                async with http.post(path, json=body, headers={**headers, "X-Muxi-Idempotency-Key": key}) as response:
                    told = await response.json()
            except LOST as error:
                self.repeated += 1
                last = repr(error)
                await asyncio.sleep(PAUSE)
                continue
            if told["success"]:
                return dict(told["data"])
            last = told["code"]
            assert (response.status, last) in {(409, "OUTCOME_UNKNOWN"), (409, "REQUEST_IN_PROGRESS")}, told
            if last == "OUTCOME_UNKNOWN":
                # The worker died between doing and saying so: for what is said here, again does no harm.
                key = f"{key}-again"
            else:
                await asyncio.sleep(int(response.headers["Retry-After"]))
        raise AssertionError(f"{path} was not answered in {PATIENCE:.0f} seconds; the last word was {last}")


async def test_many_clients_while_workers_die(database_config: FormationConfig, tmp_path: Path) -> None:
    file, secrets = write_served(database_config, tmp_path)
    with running(file, env=secrets, options=("--workers", "2"), program=PROGRAM) as server:
        pids = server.wait_for(r"worker (\d+) serves", 2)
        people = [Person(number) for number in range(CLIENTS)]
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(server.url, connector=connector, timeout=timeout) as http:
            until, replaced = asyncio.get_running_loop().time() + SECONDS, asyncio.Event()
            async with asyncio.TaskGroup() as lives:  # one that fails ends all of it
                for person in people:
                    lives.create_task(person.live(http, until, replaced))
                await asyncio.gather(*(person.begun.wait() for person in people))
                os.kill(int(pids[0]), signal.SIGKILL)
                await asyncio.to_thread(server.wait_for, r"worker (\d+) serves", 3)
                server.process.send_signal(signal.SIGHUP)
                await asyncio.to_thread(server.wait_for, r"worker (\d+) serves", 5)
                replaced.set()
        assert server.stop() == 0
        statuses = {line["status"] for line in server.log() if "status" in line}
        assert statuses <= {200, 201, 409, 499}, statuses
    tables = await check_invariants(database_config)
    kept = {memory["content"] for memory in tables["memories"]}
    assert set().union(*(person.kept for person in people)) <= kept
    assert len([each for each in tables["users"] if each["parent_pk"] is None]) == CLIENTS
    answers, repeated = (sum(getattr(each, name) for each in people) for name in ("answers", "repeated"))
    assert answers >= 4 * CLIENTS
    print(f"{database_config.database.provider}: {answers} answers right, {repeated} sent again")


def test_workers_of_a_server_that_preloads(database_config: FormationConfig, tmp_path: Path) -> None:
    file, secrets = write_served(database_config, tmp_path, rate_limits={"client_key": 2})
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server.forking", str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **secrets},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        port = process.stdout.readline().split()[0]

        def resolve(number: int, headers: dict[str, str]) -> httpx.Response:
            body = {"identifier": f"after{number % 3}@email.com", "create_user": True}
            return httpx.post(f"http://127.0.0.1:{port}/v1/users/resolve", json=body, headers=headers)

        answers = [resolve(number, ADMIN) for number in range(20)]
        assert len({data(answer)["muxi_user_id"] for answer in answers}) == 3
        assert len({answer.headers["x-request-id"] for answer in answers}) == 20
        assert [resolve(number, CLIENT).status_code for number in range(5)] == [200, 200, 429, 429, 429]
        process.stdin.close()
        assert process.wait(30) == 0


async def test_a_database_that_goes_away_and_comes_back(shared_postgres_url: str) -> None:
    with Proxy.before(shared_postgres_url) as proxy:
        config = with_keys(
            FormationConfig.from_mapping(
                {
                    "id": "away",
                    "memory": {
                        "persistent": {"provider": "postgres", "connection_string": proxy.url(shared_postgres_url)}
                    },
                }
            )
        )
        config = dataclasses.replace(config, secret_key=Secret("s" * 40))
        async with serve(config) as (_, http):
            body = {"identifier": "alice@email.com", "create_user": True}
            first = data(await http.post("/v1/users/resolve", json=body, headers=CLIENT))
            assert (await http.get("/ready")).status_code == 200
            proxy.refuse()
            for answer in (
                await http.get("/ready"),
                await http.post("/v1/users/resolve", json={"identifier": "bob@email.com"}, headers=CLIENT),
                await http.post("/v1/chat", json={"message": "Hello!"}, headers=user("alice@email.com")),
            ):
                problem(answer, 503, "STORAGE_UNAVAILABLE")
                assert int(answer.headers["retry-after"]) >= 1
            assert (await http.get("/health")).status_code == 200
            proxy.flow()
            assert (await http.get("/ready")).status_code == 200
            assert data(await http.post("/v1/users/resolve", json=body, headers=CLIENT)) == {**first, "created": False}
            data(await http.post("/v1/chat", json={"message": "Hello!"}, headers=user("alice@email.com")))
