"""Opening, closing, leaving without closing; threads, loops and forks; what a formation leaves on disk."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import os
import secrets
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from muxi_identity import (
    AsyncFormationClient,
    ClientClosedError,
    ConfigurationError,
    FormationClient,
    FormationConfig,
    InvalidRequestError,
    Response,
    StorageUnavailableError,
    Turn,
)
from muxi_identity.config import Secret
from tests.invariants import check_invariants_now
from tests.postgres import PostgresCluster
from tests.races.processes import PATIENCE, mapping_of

NAME = ("U98765ABC", "slack")
PROLOGUE = """
import asyncio, json, logging, multiprocessing, os, sys, threading
logging.getLogger("asyncio").setLevel(logging.ERROR)  # development mode warns of steps over 0.1 seconds
from muxi_identity import AsyncFormationClient, FormationClient, FormationConfig
config = FormationConfig.from_mapping(json.loads(os.environ["TEST_MAPPING"])) if "TEST_MAPPING" in os.environ else None
"""


def environment(**values: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MUXI_", "PYTHON", "PG"))}
    return clean | values


def run_script(script: str, folder: Path, config: FormationConfig | None = None, *options: str) -> str:
    """Run a plain script to its end; it must leave cleanly, without a word on standard error."""
    values = {}
    if config is not None:
        assert config.secret_key is not None
        values = {"TEST_MAPPING": json.dumps(mapping_of(config)), "MUXI_SECRET_KEY": config.secret_key.reveal()}
    done = subprocess.run(
        [sys.executable, *(options or ("-X", "dev", "-W", "error")), "-c", PROLOGUE + script],
        cwd=folder,
        env=environment(**values),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


@pytest.fixture
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with nothing in it, and nothing of ours in the environment."""
    for name in [*os.environ]:
        if name.startswith("MUXI_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Leaving


@pytest.mark.parametrize(
    "ending",
    ["", "client.close(); client.close()", "os._exit(0)"],
    ids=["nothing", "close-twice", "hard-exit"],
)
def test_a_plain_script_leaves_cleanly(database_config: FormationConfig, tmp_path: Path, ending: str) -> None:
    said = run_script(
        f"""
client = FormationClient(config)
client.chat("My budget is $5,000", "U1")
print(client.chat("What's my budget?", "U1"), flush=True)
client.resolve_user("U1")
{ending}
""",
        tmp_path,
        database_config,
    )
    assert "$5,000" in said
    assert len(check_invariants_now(database_config)["messages"]) == 4


@pytest.mark.parametrize(
    "script",
    [
        """
with FormationClient(config) as client: client.chat('Hello!', 'U1')
with FormationClient(config) as client: pass
client = FormationClient(config); client.close()
client = FormationClient(config)
sys.exit(0)
""",
        """
async def main():
    async with AsyncFormationClient(config) as client:
        await client.chat("Hello!", "U1")
asyncio.run(main())
""",
        """
client = FormationClient(config)
threads = [threading.Thread(target=client.resolve_user, args=(f"U{n % 4}", True)) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""",
        """
client = FormationClient(config)
threading.Thread(target=client.resolve_user, args=("U1", True)).start()
""",
    ],
    ids=[
        "with",
        "async-with",
        "threads",
        "thread-still-running",
    ],
)
def test_other_scripts_leave_cleanly(database_config: FormationConfig, tmp_path: Path, script: str) -> None:
    run_script(script, tmp_path, database_config)


@pytest.mark.parametrize(
    "script",
    [
        "FormationClient.ephemeral().chat('Hello!', 'U1')",
        "client = FormationClient.ephemeral(); client.chat('Hello!', 'U1')",
        "client, other = FormationClient.ephemeral(), AsyncFormationClient.ephemeral()",
    ],
    ids=["dropped", "kept", "unused"],
)
def test_throw_away_scripts_leave_cleanly(tmp_path: Path, script: str) -> None:
    run_script(script, tmp_path)


def test_an_async_script_without_close_leaves_cleanly(database_config: FormationConfig, tmp_path: Path) -> None:
    script = """
async def main():
    client = AsyncFormationClient(config)
    await asyncio.gather(*(client.chat("Hello!", f"U{n}") for n in range(8)))
asyncio.run(main())
"""
    # Python's development mode blames asyncpg's sockets on whoever does not close them; the default does not.
    run_script(script, tmp_path, database_config, "-B")


def test_a_script_that_drops_its_client_leaves_cleanly(database_config: FormationConfig, tmp_path: Path) -> None:
    run_script(
        "client = FormationClient(config); client.chat('Hello!', 'U1'); del client", tmp_path, database_config, "-B"
    )


def test_an_ephemeral_folder_goes_with_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    client = FormationClient.ephemeral()
    client.chat("Hello!", "U1")
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    client.close()
    assert not folder.exists()
    lost = AsyncFormationClient.ephemeral()
    assert len(list(tmp_path.iterdir())) == 1
    del lost
    gc.collect()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["", "del client"])
def test_an_ephemeral_folder_goes_at_exit(tmp_path: Path, ending: str) -> None:
    script = f"""
import tempfile; tempfile.tempdir = os.getcwd()
client = FormationClient.ephemeral()
client.chat("Hello!", "U1")
print(len(os.listdir(".")), flush=True)
{ending}
"""
    assert run_script(script, tmp_path) == "1\n"
    assert not list(tmp_path.iterdir())


def test_use_after_close(database_config: FormationConfig) -> None:
    client = FormationClient(database_config)
    client.resolve_user(NAME, True)
    client.close()
    for call in (
        lambda: client.resolve_user(NAME),
        lambda: client.find_user(NAME),
        lambda: client.chat("Hello!", NAME),
        lambda: client.associate_user_identifiers([NAME]),
        client.list_users,
    ):
        with pytest.raises(ClientClosedError):
            call()
    client.close()


async def test_use_after_async_close(database_config: FormationConfig) -> None:
    client = AsyncFormationClient(database_config)
    await client.resolve_user(NAME, True)
    await client.close()
    await client.close()
    with pytest.raises(ClientClosedError):
        await client.resolve_user(NAME)
    with pytest.raises(ClientClosedError):
        async with client:
            pass


def test_closed_before_it_was_opened(database_config: FormationConfig) -> None:
    client = FormationClient(database_config)
    client.close()
    with pytest.raises(ClientClosedError):
        client.resolve_user(NAME)
    client.close()


class Blocked:
    """A responder that waits until it is let."""

    restartable = False

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()

    async def respond(self, turn: Turn) -> Response:
        self.asked.set()
        await asyncio.to_thread(self.answer.wait, PATIENCE)
        return Response("Yes.")


def test_closing_under_a_call_of_another_thread(database_config: FormationConfig) -> None:
    """The call ends, with an error or its answer; its thread does not wait for ever."""
    responder = Blocked()
    client = FormationClient(database_config, responder=responder)
    with ThreadPoolExecutor() as pool:
        calling = pool.submit(client.chat, "Hello!", NAME)
        assert responder.asked.wait(PATIENCE)
        client.close()
        responder.answer.set()
        with pytest.raises(ClientClosedError):
            calling.result(PATIENCE)
    assert not check_invariants_now(database_config)["messages"]


async def test_closing_under_a_call_of_another_task(database_config: FormationConfig) -> None:
    responder = Blocked()
    client = AsyncFormationClient(database_config, responder=responder)
    calling = asyncio.create_task(client.chat("Hello!", NAME))
    await asyncio.to_thread(responder.asked.wait, PATIENCE)
    await client.close()
    responder.answer.set()
    with pytest.raises(ClientClosedError):
        await calling


async def test_closing_while_it_opens(database_config: FormationConfig) -> None:
    client = AsyncFormationClient(database_config)
    opening = asyncio.create_task(client.find_user(NAME))
    await asyncio.sleep(0)  # it has begun
    await client.close()
    with pytest.raises(ClientClosedError):
        await opening
    with pytest.raises(ClientClosedError):
        await client.find_user(NAME)
    gc.collect()  # an open connection would complain


def test_threads_close_at_once(database_config: FormationConfig) -> None:
    """Whatever the others do meanwhile, each gets an answer or ClientClosedError."""
    for _ in range(5):
        client = FormationClient(database_config)
        client.resolve_user(NAME, True)
        start = threading.Barrier(9)

        def work(number: int, client: FormationClient = client, start: threading.Barrier = start) -> str:
            start.wait(PATIENCE)
            try:
                for turn in range(20):
                    if number == 0 and turn == 3:
                        client.close()
                    client.find_user(f"U{number}-{turn}")
            except ClientClosedError:
                return "closed"
            return "done"

        with ThreadPoolExecutor(9) as pool:
            ended = [pool.submit(work, number) for number in range(9)]
            assert {each.result(PATIENCE) for each in ended} <= {"closed", "done"}
        client.close()


# Threads and loops


def test_thirty_two_threads(database_config: FormationConfig) -> None:
    start = threading.Barrier(32)

    def work(number: int) -> str:
        start.wait(PATIENCE)
        who = client.resolve_user(f"U{number % 4}", True)["muxi_user_id"]
        client.chat(f"My colour {number} is blue", f"U{number % 4}")
        client.associate_user_identifiers([(f"{number}", "github")], f"U{number % 4}")
        assert client.resolve_user((number, "github"))["muxi_user_id"] == who
        return who

    with FormationClient(database_config) as client, ThreadPoolExecutor(32) as pool:
        assert len(set(pool.map(work, range(32)))) == 4
    tables = check_invariants_now(database_config)
    assert len(tables["users"]) == 4
    assert len(tables["memories"]) == 32
    assert len(tables["identifiers"]) == 36


async def test_the_synchronous_client_inside_a_running_loop(database_config: FormationConfig) -> None:
    """As in a notebook: a loop runs in this very thread, and the call blocks it for a moment."""
    with FormationClient(database_config) as client:
        made = client.resolve_user(NAME, True)
        assert client.find_user(NAME)["muxi_user_id"] == made["muxi_user_id"]
        assert client.chat("Hello!", NAME).user_id == made["muxi_user_id"]
        found = await asyncio.to_thread(client.find_user, NAME)
        assert found["muxi_user_id"] == made["muxi_user_id"]


def test_a_loop_after_a_loop(database_config: FormationConfig, tmp_path: Path) -> None:
    script = """
client = AsyncFormationClient(config)
async def main():
    return (await client.resolve_user("U1", create_user=True))["muxi_user_id"], await client.chat("Hello!", "U1")
one, two, three = (asyncio.run(main())[0] for _ in range(3))
assert one == two == three
asyncio.run(client.close())
print("done")
"""
    assert run_script(script, tmp_path, database_config) == "done\n"


def test_a_loop_that_has_ended_leaves_nothing_open(
    database_config: FormationConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a file nor a connection, nor anybody whom the next loop's cache would ask."""
    config, name = database_config, secrets.token_hex(8)
    if config.database.url is not None:
        url = Secret(f"{config.database.url.reveal()}?application_name={name}")
        config = dataclasses.replace(config, database=dataclasses.replace(config.database, url=url))
    client = AsyncFormationClient(config)

    async def use() -> None:
        await asyncio.gather(*(client.resolve_user(f"U{number}", True) for number in range(4)))
        await client.chat("Hello!", "U1")

    def files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = files()
    asyncio.run(use())
    held = files()
    for _ in range(2):
        asyncio.run(use())
        assert files() <= held
    open_formation = client._lifecycle.open_formation
    assert open_formation is not None
    open_formation.cache.lease_until = 0.0
    client._lifecycle.cached("U1")
    asyncio.run(client.close())
    assert files() <= before
    if config.database.url is not None:
        asyncio.run(no_back_end_of(config.database.url.reveal(), name))
    assert caplog.records == []


async def no_back_end_of(url: str, name: str) -> None:
    """Return once no connection of this name is left."""
    admin = await asyncpg.connect(url, server_settings={"application_name": "admin"})
    counting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
    try:
        async with asyncio.timeout(PATIENCE):
            while await admin.fetchval(counting, name):
                pass
    finally:
        await admin.close()


async def test_a_second_live_loop_is_refused(database_config: FormationConfig) -> None:
    async with AsyncFormationClient(database_config) as client:
        await client.create_user("usr_a")

        def elsewhere() -> None:
            asyncio.run(client.get_user("usr_a"))  # type: ignore[arg-type]

        with pytest.raises(InvalidRequestError, match="another event loop"):
            await asyncio.to_thread(elsewhere)
        assert (await client.get_user("usr_a"))["muxi_user_id"] == "usr_a"  # the first goes on


# Forks

FORK = """
from muxi_identity.identity import cache
client = FormationClient(config)
mine = client.resolve_user("parent", True)["muxi_user_id"]
client.chat("My plan is 5", "parent")
read, write = os.pipe()
child = os.fork()
if child == 0:
    try:
        assert not cache._shared  # nobody tells it of changes made before it listens
        assert client.resolve_user("parent")["muxi_user_id"] == mine
        assert "5" in client.chat("What's my plan?", "parent").text
        os.write(write, client.resolve_user("child", True)["muxi_user_id"].encode())
        {ending}
    except BaseException as error:
        os.write(write, repr(error).encode())
        os._exit(1)
assert cache._shared
# Both at once.
for number in range(10):
    client.resolve_user(f"more-{{number}}", True)
    client.chat("My budget is 6", "parent")
os.close(write)
theirs = b""
while part := os.read(read, 1000): theirs += part
_, status = os.waitpid(child, 0)
assert status == 0, (status, theirs)
assert client.resolve_user("child")["muxi_user_id"] == theirs.decode()
assert "6" in client.chat("What's my budget?", "parent").text
print("done")
"""


@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)"])
def test_after_a_fork(database_config: FormationConfig, tmp_path: Path, ending: str) -> None:
    script = FORK.format(ending=ending)
    if ending == "sys.exit(0)":
        script = script.replace("except BaseException", "except Exception")
    assert run_script(script, tmp_path, database_config) == "done\n"
    check_invariants_now(database_config)


def test_a_forked_child_outlives_the_client_of_its_parent(database_config: FormationConfig, tmp_path: Path) -> None:
    """As a script that becomes a daemon: what the child writes after the parent has closed is there."""
    script = """
client = FormationClient(config)
client.resolve_user("parent", True)
to_parent, to_child = os.pipe(), os.pipe()
if (child := os.fork()) == 0:
    client.resolve_user("child-1", True)
    os.write(to_parent[1], b"x")
    os.read(to_child[0], 1)
    client.resolve_user("child-2", True)
    client.close()
    os._exit(0)
os.read(to_parent[0], 1)
client.close()
os.write(to_child[1], b"x")
assert os.waitpid(child, 0)[1] == 0
with FormationClient(config) as client:
    print(*(client.find_user(name) is not None for name in ("parent", "child-1", "child-2")))
"""
    assert run_script(script, tmp_path, database_config) == "True True True\n"


def test_forked_workers(database_config: FormationConfig, tmp_path: Path) -> None:
    """multiprocessing's fork while threads of the parent use the client, as pre-forking servers do."""
    script = """
client = FormationClient(config)
client.resolve_user("U0", True)
def work(worker):
    return [client.resolve_user(f"U{n}", True)["muxi_user_id"] for n in range(8)]
stop = threading.Event()
def use():
    n = 0
    while not stop.is_set():
        client.resolve_user(f"parent-{(n := n + 1) % 50}", True)
using = [threading.Thread(target=use) for _ in range(2)]
for thread in using: thread.start()
with multiprocessing.get_context("fork").Pool(4) as pool:
    answers = pool.map(work, range(12), chunksize=1)
    pool.close(); pool.join()
stop.set()
for thread in using: thread.join()
assert all(answer == answers[0] for answer in answers), answers
assert work(0) == answers[0]
print("done")
"""
    assert run_script(script, tmp_path, database_config, "-B") == "done\n"
    check_invariants_now(database_config)


def test_an_ephemeral_formation_outlives_a_forked_child(tmp_path: Path) -> None:
    script = """
client = FormationClient.ephemeral()
client.resolve_user("U1", True)
if (child := os.fork()) == 0:
    sys.exit(0)
os.waitpid(child, 0)
client.chat("Hello!", "U1")
print(client.resolve_user("U2", True)["created"])
"""
    assert run_script(script, tmp_path) == "True\n"


# What a client is made from, and where its data lies


def test_what_a_client_takes(empty_place: Path) -> None:
    (empty_place / "formation.yaml").write_text("id: mine\n")
    given: list[tuple[Any, str, Path]] = [
        (None, "default", empty_place / ".muxi" / "muxi.db"),
        (..., "default", empty_place / ".muxi" / "muxi.db"),
        ("formation.yaml", "mine", empty_place / "muxi.db"),
        (empty_place / "formation.yaml", "mine", empty_place / "muxi.db"),
        ({"id": "other"}, "other", empty_place / ".muxi" / "muxi.db"),
        (FormationConfig.from_mapping({"id": "third"}), "third", empty_place / ".muxi" / "muxi.db"),
    ]
    for config, formation_id, path in given:
        with FormationClient(config) as client:
            assert client.formation_id == formation_id
            client.resolve_user(NAME, True)
        assert path.is_file()


@pytest.mark.parametrize("wrong", [3, True, b"formation.yaml", ["formation.yaml"], object()])
def test_what_a_client_does_not_take(wrong: Any) -> None:
    for kind in (FormationClient, AsyncFormationClient):
        with pytest.raises(ConfigurationError, match=type(wrong).__name__):
            kind(wrong)


def test_default_places(empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FormationClient() as client:
        client.resolve_user(NAME, True)
        files = {path.name: path for path in (empty_place / ".muxi").iterdir()}
        assert files[".gitignore"].read_text() == "*\n"
        assert (empty_place / ".muxi").stat().st_mode & 0o777 == 0o700
        for name in ("muxi.db", "muxi.db-wal", "muxi.db-shm", "muxi.key"):
            assert files[name].stat().st_mode & 0o777 == 0o600, name
        assert set(files) == {".gitignore", "muxi.db", "muxi.db-wal", "muxi.db-shm", "muxi.key"}
    monkeypatch.setenv("MUXI_HOME", str(empty_place / "home" / "of muxi"))
    with FormationClient() as client:
        assert client.find_user(NAME) is None
    assert {path.name for path in (empty_place / "home" / "of muxi").iterdir()} == {"muxi.db", "muxi.key"}


def test_the_place_beside_the_file(empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = empty_place / "project"
    project.mkdir()
    (project / "formation.yaml").write_text("id: mine\n")
    monkeypatch.setenv("MUXI_HOME", str(empty_place / "home"))
    old = os.umask(0)
    try:
        with FormationClient("project/formation.yaml") as client:
            client.resolve_user(NAME, True)
    finally:
        os.umask(old)
    assert {path.name for path in project.iterdir()} == {"formation.yaml", "muxi.db", "muxi.key"}
    assert (project / "muxi.db").stat().st_mode & 0o777 == 0o600
    assert (project / "muxi.key").stat().st_mode & 0o777 == 0o600
    assert not (empty_place / "home").exists()


@pytest.mark.parametrize("what", ["folder", "no-database", "unwritable"])
def test_a_file_that_cannot_be_the_database(empty_place: Path, what: str) -> None:
    path = empty_place / "data.db"
    if what == "folder":
        path.mkdir()
    elif what == "no-database":
        path.write_text("something else entirely, and long enough to be looked at " * 20)
    else:
        (empty_place / "file").write_text("")
        path = empty_place / "file" / "data.db"
    with pytest.raises(ConfigurationError, match=r"data\.db"):
        FormationClient({"memory": {"persistent": {"connection_string": str(path)}}}).list_users()


def test_another_secret_key_is_refused(database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with FormationClient(database_config) as client:
        client.resolve_user(NAME, True)
    monkeypatch.setenv("MUXI_SECRET_KEY", "another key, which is long enough for one")
    client = FormationClient(mapping_of(database_config))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="MUXI_SECRET_KEY") as raised:
            client.resolve_user(NAME)
        assert "long enough" not in str(raised.value)
    client.close()
    with FormationClient(database_config) as right:
        assert right.resolve_user(NAME)


# PostgreSQL that is not there, not ours, or gone for a moment


def postgres_mapping(url: str) -> dict[str, Any]:
    return {"memory": {"persistent": {"provider": "postgres", "connection_string": url}}}


def test_postgres_needs_a_secret_key(shared_postgres_url: str, empty_place: Path) -> None:
    with pytest.raises(ConfigurationError, match="MUXI_SECRET_KEY"):
        FormationClient(postgres_mapping(shared_postgres_url)).list_users()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda url, _: url.replace(_, "wr0ng-passw0rd"), ConfigurationError),
        (lambda url, _: url.rsplit("/", 1)[0] + "/no_such_database", ConfigurationError),
        (lambda url, _: url.replace("postgres:", "nobody:"), ConfigurationError),
        (lambda url, _: f"postgresql://postgres:{_}@127.0.0.1:1/x", StorageUnavailableError),
        (lambda url, _: f"postgresql://postgres:{_}@no-such-host.invalid/x", StorageUnavailableError),
    ],
    ids=["password", "database", "user", "port", "host"],
)
def test_postgres_that_cannot_be_used(
    postgres_cluster: PostgresCluster,
    shared_postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,
    error: type[Exception],
) -> None:
    monkeypatch.setenv("MUXI_SECRET_KEY", "k" * 40)
    password = postgres_cluster.password
    url = change(shared_postgres_url.replace("postgresql://postgres:", "postgresql://postgres:", 1), password)
    client = FormationClient(postgres_mapping(url))
    for _ in range(2):
        with pytest.raises(error) as raised:
            client.list_users()
        cause: BaseException | None = raised.value
        assert password not in str(cause)
        assert "wr0ng" not in str(cause)
    client.close()


def test_parameters_of_the_url_are_taken(shared_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What providers hand out carries sslmode, and operators name their connections."""
    monkeypatch.setenv("MUXI_SECRET_KEY", "k" * 40)
    url = shared_postgres_url.replace("postgresql://", "postgres://") + "?sslmode=prefer&application_name=muxi"
    with FormationClient(postgres_mapping(url) | {"id": "with-parameters"}) as client:
        client.chat("Hello!", NAME)
        assert client.resolve_user(NAME)
        assert client.list_users()["count"] == 1


async def end_back_ends(url: str) -> int:
    """End every connection to the database but this one, and return when they are gone."""
    admin = await asyncpg.connect(url)
    try:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ended = len(await admin.fetch(f"SELECT pg_terminate_backend(pid) {others}"))
        async with asyncio.timeout(PATIENCE):
            while await admin.fetchval(f"SELECT count(*) {others}"):
                pass
        return ended
    finally:
        await admin.close()


def test_back_ends_that_ended_between_two_calls(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads just work. A write may fail once, saying that it can be tried again, and then works."""
    monkeypatch.setenv("MUXI_SECRET_KEY", "k" * 40)
    with FormationClient(postgres_mapping(postgres_url)) as client, ThreadPoolExecutor(16) as pool:

        def warm() -> None:
            """Have every pooled connection open and idle."""
            list(pool.map(lambda n: client.get_user(f"U{n}"), range(16)))
            list(pool.map(lambda n: client.chat("Hello!", f"V{n}"), range(8)))

        for number in range(16):
            client.resolve_user(f"U{number}", True)
        reads = [
            lambda: client.find_user("stranger"),
            lambda: client.get_user("U1"),
            lambda: client.get_user_identifiers("U2"),
            client.list_users,
            lambda: client.resolve_user("U3"),
        ]
        for read in reads:
            warm()
            assert asyncio.run(end_back_ends(postgres_url)) >= 5
            read()
        writes = [
            lambda n: client.resolve_user(f"W{n}", True),
            lambda n: client.chat("Hello!", "U1"),
            lambda n: client.associate_user_identifiers([f"X{n}"], "U1"),
            lambda n: client.associate_user_identifiers([f"Y{n}", "U1"]),
            lambda n: client.create_user(),
        ]
        for write in writes:
            warm()
            asyncio.run(end_back_ends(postgres_url))
            with contextlib.suppress(StorageUnavailableError):
                write(1)
            write(2)
            client.list_users()
