"""What the cache promises: whatever changes who an identifier means, the process that did it never answers the old.

A look-up is held here between its reading and its answer, a change between its last statement and its commit, and
the caller is cancelled or the connection killed at the worst moment.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.util import await_only

from muxi_identity import AsyncFormationClient, FormationClient, FormationConfig, StorageUnavailableError
from muxi_identity.config import DatabaseConfig, Secret
from muxi_identity.errors import MuxiError, UserNotFoundError
from muxi_identity.formation import Caller, Clock, Formation
from muxi_identity.identity import cache as cache_module
from muxi_identity.identity.coherence.polling import POLL_SECONDS
from muxi_identity.storage.opening import make_database
from tests.invariants import check_invariants
from tests.races.peer import Peer
from tests.races.processes import PATIENCE, Swarm, call, values, variant

NAME = ("U98765ABC", "slack")


class Held:
    """Something that has been reached and goes on when it is let; across threads and loops."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._let = threading.Event()

    def stop_here(self) -> None:
        self._reached.set()
        assert self._let.wait(PATIENCE)

    async def stop_here_async(self) -> None:
        self._reached.set()
        assert await asyncio.to_thread(self._let.wait, PATIENCE)

    def is_reached(self) -> None:
        assert self._reached.wait(PATIENCE)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, PATIENCE)

    def let_go(self) -> None:
        self._let.set()


def hold_next_look_up(formation: Formation) -> Held:
    """Hold the formation's next look-up after it has read and before it answers."""
    held, database = Held(), formation.database
    if database.inline:
        read_now = database.look_up_now

        def look_up_now(*arguments: Any) -> Any:
            database.look_up_now = read_now  # type: ignore[method-assign]
            rows = read_now(*arguments)
            held.stop_here()
            return rows

        database.look_up_now = look_up_now  # type: ignore[method-assign]
    else:
        read = database.look_up

        async def look_up(*arguments: Any) -> Any:
            database.look_up = read  # type: ignore[method-assign]
            rows = await read(*arguments)
            await held.stop_here_async()
            return rows

        database.look_up = look_up  # type: ignore[method-assign]
    return held


def hold_next_commit(formation: Formation) -> Held:
    """Hold the formation's next transaction after its work and before its commit."""
    held, database, transact = Held(), formation.database, formation.database.transact

    async def held_transact(work: Callable[..., Any]) -> Any:
        database.transact = transact  # type: ignore[method-assign]

        def whole(connection: Any) -> Any:
            result = work(connection)
            if database.dialect == "sqlite":
                held.stop_here()
            else:
                await_only(held.stop_here_async())
            return result

        return await transact(whole)

    database.transact = held_transact  # type: ignore[method-assign]
    return held


def commit_next_late(formation: Formation) -> tuple[Held, list[asyncio.Task[Any]]]:
    """Have the formation's next transaction fail before its commit, which follows when it is let."""
    held, database, transact = hold_next_commit(formation), formation.database, formation.database.transact
    pending: list[asyncio.Task[Any]] = []

    async def give_up(work: Callable[..., Any]) -> Any:
        pending.append(asyncio.create_task(transact(work)))  # type: ignore[arg-type]
        await held.reached()
        raise StorageUnavailableError("lost")

    database.transact = give_up  # type: ignore[method-assign]
    return held, pending


def after_next_commit(formation: Formation, then: Callable[[], Awaitable[None]]) -> None:
    """Run ``then`` when the formation's next transaction has committed and its caller does not know it yet."""
    database, transact = formation.database, formation.database.transact

    async def followed(work: Callable[..., Any]) -> Any:
        database.transact = transact  # type: ignore[method-assign]
        result = await transact(work)
        await then()
        return result

    database.transact = followed  # type: ignore[method-assign]


def count_look_ups(formation: Formation) -> list[int]:
    """Return a list that grows by the number of buckets of each look-up."""
    asked: list[int] = []
    database = formation.database
    read, read_now, find = database.look_up, database.look_up_now, database.find_members

    async def look_up(formation_id: str, buckets: Any) -> Any:
        asked.append(len(buckets))
        return await read(formation_id, buckets)

    def look_up_now(formation_id: str, bucket: bytes) -> Any:
        asked.append(1)
        return read_now(formation_id, bucket)

    async def find_members(formation_id: str, public_ids: Any) -> Any:
        asked.append(len(public_ids))
        return await find(formation_id, public_ids)

    database.look_up, database.look_up_now, database.find_members = look_up, look_up_now, find_members  # type: ignore[method-assign]
    return asked


def engine(client: AsyncFormationClient | FormationClient) -> Formation:
    lifecycle = client._async._lifecycle if isinstance(client, FormationClient) else client._lifecycle
    assert lifecycle.open_formation is not None
    return lifecycle.open_formation


def ask(client: FormationClient, name: Any) -> concurrent.futures.Future[Any]:
    """Begin a look-up on the client's loop, and return once it waits for something."""
    portal = client._portal
    assert portal is not None
    asking = asyncio.run_coroutine_threadsafe(client._async.find_user(name), portal._loop)
    if not engine(client).database.inline:
        portal.run(asyncio.sleep(0))
    return asking


async def who(client: AsyncFormationClient, name: Any) -> str | None:
    found = await client.find_user(name)
    return None if found is None else found["muxi_user_id"]


@pytest.fixture
async def client(database_config: FormationConfig) -> AsyncIterator[AsyncFormationClient]:
    async with AsyncFormationClient(database_config) as client:
        yield client


@pytest.fixture
def pair(database_config: FormationConfig) -> Iterator[tuple[FormationClient, FormationClient]]:
    """Two clients of one formation, each with a loop of its own, and one cache."""
    with FormationClient(database_config) as one, FormationClient(database_config) as other:
        assert engine(one).cache is engine(other).cache
        yield one, other


@pytest.fixture
def file_config(tmp_path: Path) -> FormationConfig:
    database = DatabaseConfig("sqlite", path=tmp_path / "muxi.db")
    return FormationConfig(id="f", database=database, secret_key=Secret("k" * 40))


# What can happen to the identifier NAME of usr_old: the change, and whom it means afterwards.

Change = Callable[[FormationClient], Any]


def unlink(client: FormationClient) -> None:
    client.unlink_user_identifier(NAME, force=True)


def relink(client: FormationClient) -> None:
    client.unlink_user_identifier(NAME, force=True)
    client.associate_user_identifiers([NAME], "usr_new")


def merge(client: FormationClient) -> None:
    client.associate_user_identifiers([NAME], "usr_new", on_conflict="merge")


def delete(client: FormationClient) -> None:
    client.delete_user("usr_old")


def delete_and_relink(client: FormationClient) -> None:
    client.delete_user("usr_old")
    client.associate_user_identifiers([NAME], "usr_new")


CHANGES: dict[str, tuple[Change, str | None]] = {
    "unlink": (unlink, None),
    "relink": (relink, "usr_new"),
    "merge": (merge, "usr_new"),
    "delete": (delete, None),
    "delete-and-relink": (delete_and_relink, "usr_new"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("given", [NAME, NAME[0], "usr_old"], ids=["typed", "bare", "public-id"])
def test_a_change_is_answered_at_once(pair: tuple[FormationClient, FormationClient], change: str, given: Any) -> None:
    one, other = pair
    do, expected = CHANGES[change]
    for user in ("usr_old", "usr_new"):
        one.create_user(user)
    one.associate_user_identifiers([NAME], "usr_old")
    for client in pair:
        assert client.resolve_user(given)["muxi_user_id"] == "usr_old"
    do(other)
    if given == "usr_old":
        expected = {"merge": "usr_new", "unlink": "usr_old", "relink": "usr_old"}.get(change)
    for client in (one, other, one):
        found = client.find_user(given)
        assert (found and found["muxi_user_id"]) == expected


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("database_config", "by"),
    # On SQLite a look-up holds its own client's loop: there only another client can race with it.
    [("sqlite", "other-client"), ("postgres", "same-client"), ("postgres", "other-client")],
    indirect=["database_config"],
)
def test_a_look_up_that_began_before_never_fills_the_cache(
    pair: tuple[FormationClient, FormationClient], change: str, by: str
) -> None:
    one, other = pair
    do, expected = CHANGES[change]
    for user in ("usr_old", "usr_new"):
        one.create_user(user)
    one.associate_user_identifiers([NAME], "usr_old")
    held = hold_next_look_up(engine(one))
    answers: list[Any] = []
    looking = threading.Thread(target=lambda: answers.append(one.find_user(NAME)))
    looking.start()
    held.is_reached()
    do(one if by == "same-client" else other)
    # Nor does a look-up that begins now get the answer of the one under way.
    asking = ask(one, NAME)
    held.let_go()
    looking.join(PATIENCE)
    assert answers[0]["muxi_user_id"] == "usr_old"  # as it was when it was asked
    found = asking.result(PATIENCE)
    assert (found and found["muxi_user_id"]) == expected
    for client in (one, other, one):
        found = client.find_user(NAME)
        assert (found and found["muxi_user_id"]) == expected


@pytest.mark.parametrize("database_config", ["postgres"], indirect=True)
def test_a_look_up_that_began_before_a_link_says_nothing_after_it(
    pair: tuple[FormationClient, FormationClient],
) -> None:
    """A plain link kills no token: still nobody may be told "unknown" by a look-up that began before it."""
    one, other = pair
    for place, linker in enumerate((one, other)):
        name = f"U{place}"
        held = hold_next_look_up(engine(one))
        looking = threading.Thread(target=one.find_user, args=(name,))
        looking.start()
        held.is_reached()
        linked = linker.associate_user_identifiers([name])
        asking = ask(one, name)
        held.let_go()
        looking.join(PATIENCE)
        found = asking.result(PATIENCE)
        assert found["muxi_user_id"] == linked["muxi_user_id"]


async def test_another_type_makes_a_bare_look_up_ambiguous_at_once(client: AsyncFormationClient) -> None:
    await client.resolve_user((12345, "telegram"), True)
    for _ in range(2):
        assert await who(client, "12345")
    await client.resolve_user((12345, "github"), True)
    with pytest.raises(MuxiError, match="several people have it"):
        await client.find_user("12345")


# Changes whose outcome nobody knows


@contextlib.asynccontextmanager
async def linked_pair(client: AsyncFormationClient) -> AsyncIterator[None]:
    for user in ("usr_old", "usr_new"):
        await client.create_user(user)
    await client.associate_user_identifiers([NAME], "usr_old")
    for given in (NAME, NAME[0], "usr_old"):
        for _ in range(2):
            assert await who(client, given) == "usr_old"
    yield
    await check_invariants(client._lifecycle.config)


async def merge_async(client: AsyncFormationClient) -> None:
    await client.associate_user_identifiers([NAME], "usr_new", on_conflict="merge")


async def unlink_async(client: AsyncFormationClient) -> None:
    await client.unlink_user_identifier(NAME, force=True)


async def delete_async(client: AsyncFormationClient) -> None:
    await client.delete_user("usr_old")


ASYNC_CHANGES = {"merge": (merge_async, "usr_new"), "unlink": (unlink_async, None), "delete": (delete_async, None)}


@pytest.mark.parametrize("change", ASYNC_CHANGES)
async def test_a_change_that_fails_after_it_committed(client: AsyncFormationClient, change: str) -> None:
    do, expected = ASYNC_CHANGES[change]
    async with linked_pair(client):

        async def lose_connection() -> None:
            raise StorageUnavailableError("lost")

        after_next_commit(engine(client), lose_connection)
        with pytest.raises(StorageUnavailableError):
            await do(client)
        for _ in range(3):
            assert await who(client, NAME) == expected
            assert await who(client, NAME[0]) == expected


@pytest.mark.parametrize("change", ASYNC_CHANGES)
async def test_a_change_that_commits_long_after_it_failed(client: AsyncFormationClient, change: str) -> None:
    """The connection is lost, the caller is told, and only then the server commits."""
    do, expected = ASYNC_CHANGES[change]
    async with linked_pair(client):
        held, pending = commit_next_late(engine(client))
        with pytest.raises(StorageUnavailableError):
            await do(client)
        for _ in range(2):
            assert await who(client, NAME) == "usr_old"  # true, and not to be remembered
        held.let_go()
        await pending[0]
        for _ in range(2):
            assert await who(client, NAME) == expected


@pytest.mark.parametrize("change", ASYNC_CHANGES)
async def test_a_cancelled_caller(client: AsyncFormationClient, change: str) -> None:
    """The change goes on without its caller, and nothing of it is remembered wrong before or after."""
    do, expected = ASYNC_CHANGES[change]
    async with linked_pair(client):
        held = hold_next_commit(engine(client))
        changing = asyncio.create_task(do(client))
        await held.reached()
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await changing
        for _ in range(2):
            assert await who(client, NAME) == "usr_old"
        held.let_go()
        await asyncio.gather(*engine(client)._runner.tasks)
        for _ in range(2):
            assert await who(client, NAME) == expected


@pytest.mark.parametrize("change", ASYNC_CHANGES)
def test_a_loop_that_ends_in_the_middle_of_a_change(file_config: FormationConfig, change: str) -> None:
    """All tasks of the loop are cancelled, the change itself too, and its thread goes on; so does another client."""
    do, expected = ASYNC_CHANGES[change]
    with FormationClient(file_config) as other:
        for user in ("usr_old", "usr_new"):
            other.create_user(user)
        other.associate_user_identifiers([NAME], "usr_old")
        assert other.resolve_user(NAME)["muxi_user_id"] == "usr_old"

        async def main() -> Held:
            client = AsyncFormationClient(file_config)
            await client.find_user("somebody")
            held = hold_next_commit(engine(client))
            asyncio.get_running_loop().create_task(do(client))
            await held.reached()
            return held

        held = asyncio.run(main())
        assert other.resolve_user(NAME)["muxi_user_id"] == "usr_old"  # true, and not to be remembered
        held.let_go()
        other.create_user("usr_next")  # gets the write lock when that transaction is over
        for _ in range(2):
            found = other.find_user(NAME)
            assert (found and found["muxi_user_id"]) == expected


@pytest.mark.parametrize("database_config", ["postgres"], indirect=True)
async def test_the_back_end_is_killed_while_it_commits(postgres_url: str, database_config: FormationConfig) -> None:
    """A deferred trigger waits inside the commit; the connection dies there. Nothing was committed or is stale."""

    config = dataclasses.replace(database_config, database=DatabaseConfig("postgres", url=Secret(postgres_url)))
    async with AsyncFormationClient(config) as client:
        for user in ("usr_old", "usr_new"):
            await client.create_user(user)
        await client.associate_user_identifiers([NAME], "usr_old")
        assert await who(client, NAME) == "usr_old"
        admin = await asyncpg.connect(postgres_url)
        await admin.execute(
            """
            CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER wait_for_test AFTER UPDATE ON muxi_users DEFERRABLE INITIALLY DEFERRED
              FOR EACH ROW EXECUTE FUNCTION wait_for_test()
            """
        )
        await admin.execute("SELECT pg_advisory_lock(4711)")
        changing = asyncio.create_task(merge_async(client))
        waiting = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        async with asyncio.timeout(PATIENCE):
            while not (pid := await admin.fetchval(waiting)):
                assert await who(client, NAME) == "usr_old"
        await admin.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(StorageUnavailableError):
            await changing
        await admin.execute("SELECT pg_advisory_unlock(4711); DROP TRIGGER wait_for_test ON muxi_users")
        await admin.close()
        for _ in range(2):
            assert await who(client, NAME) == "usr_old"
        await merge_async(client)
        for _ in range(2):
            assert await who(client, NAME) == "usr_new"
        await check_invariants(config)


# What the cache is for


@pytest.mark.parametrize("database_config", ["postgres"], indirect=True)
async def test_one_cache_by_different_urls(shared_postgres_url: str, database_config: FormationConfig) -> None:

    other_url = shared_postgres_url.replace("127.0.0.1", "localhost")
    assert other_url != shared_postgres_url
    other_config = dataclasses.replace(database_config, database=DatabaseConfig("postgres", url=Secret(other_url)))
    async with AsyncFormationClient(database_config) as one, AsyncFormationClient(other_config) as other:
        assert engine(one).cache is engine(other).cache
        await one.resolve_user(NAME, True)
        hits = one.cache_info["hits"]
        assert await who(other, NAME)
        assert one.cache_info["hits"] == hits + 1
        await other.unlink_user_identifier(NAME, force=True)
        assert await who(one, NAME) is None


async def test_one_cache_by_different_paths(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    key = Secret("k" * 40)
    configs = [
        FormationConfig(id="f", database=DatabaseConfig("sqlite", path=path / "muxi.db"), secret_key=key)
        for path in (tmp_path, tmp_path / "link")
    ]
    async with AsyncFormationClient(configs[0]) as one, AsyncFormationClient(configs[1]) as other:
        assert engine(one).cache is engine(other).cache
        await one.resolve_user(NAME, True)
        assert await who(other, NAME)
        await other.unlink_user_identifier(NAME, force=True)
        assert await who(one, NAME) is None


async def test_formations_and_databases_do_not_share(database_config: FormationConfig, tmp_path: Path) -> None:
    others = [
        variant(database_config, id=f"{database_config.id}-2"),
        dataclasses.replace(database_config, database=DatabaseConfig("sqlite", path=tmp_path / "other.db")),
    ]
    async with AsyncFormationClient(database_config) as client:
        mine = (await client.resolve_user(NAME, True))["muxi_user_id"]
        for config in others:
            async with AsyncFormationClient(config) as other:
                assert await who(other, NAME) is None
                assert (await other.resolve_user(NAME, True))["muxi_user_id"] != mine
        assert await who(client, NAME) == mine


async def test_hits_do_not_touch_the_database(client: AsyncFormationClient) -> None:
    made = await client.resolve_user(NAME, True)
    await client.associate_user_identifiers([("key_abcdefghijklmnop", "api_key")], made["muxi_user_id"])
    everything: list[Any] = [NAME, NAME[0], made["muxi_user_id"], "key_abcdefghijklmnop"]
    for given in everything:
        await client.resolve_user(given)
    asked = count_look_ups(engine(client))
    before = client.cache_info
    for given in everything * 10:
        assert (await client.resolve_user(given))["muxi_user_id"] == made["muxi_user_id"]
        assert await who(client, given) == made["muxi_user_id"]
    assert asked == []
    assert client.cache_info["hits"] == before["hits"] + 80
    assert client.cache_info["misses"] == before["misses"]


async def test_first_contact_fills_the_cache(client: AsyncFormationClient) -> None:
    made = await client.resolve_user(NAME, True)
    asked = count_look_ups(engine(client))
    assert await who(client, NAME) == made["muxi_user_id"]
    assert asked == []


@pytest.mark.parametrize("change", ["merge", "relink", "fails", "conflict"])
async def test_hits_are_served_again_after_a_change(client: AsyncFormationClient, change: str) -> None:
    async with linked_pair(client):
        if change == "merge":
            await merge_async(client)
        elif change == "relink":
            await unlink_async(client)
            await client.associate_user_identifiers([NAME], "usr_new")
        else:
            with pytest.raises(MuxiError):
                await client.associate_user_identifiers([NAME, f"web-{change}"], "usr_new")
        expected = "usr_old" if change in {"fails", "conflict"} else "usr_new"
        assert await who(client, NAME) == expected
        asked, hits = count_look_ups(engine(client)), client.cache_info["hits"]
        assert await who(client, NAME) == expected
        assert client.cache_info["hits"] == hits + 1
        assert asked == []
        assert not any(engine(client).cache.bucket_tokens._fences)
        assert not any(engine(client).cache.member_tokens._fences)


async def test_ttl_and_size_are_configured(database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = variant(database_config, {"cache": {"ttl": 50, "max_entries": 3}})
    now = [1000.0]
    async with AsyncFormationClient(config) as client:
        monkeypatch.setattr(cache_module, "monotonic", lambda: now[0])
        engine(client).cache.lease_until = float("inf")
        await engine(client)._coherence.stop()
        for number in range(10):
            await client.resolve_user(f"U{number}", True)
        assert client.cache_info["identifiers"] <= 3
        assert client.cache_info["members"] <= 3
        asked = count_look_ups(engine(client))
        assert await who(client, "U9")
        now[0] += 49
        assert await who(client, "U9")
        assert asked == []
        now[0] += 1.5
        assert await who(client, "U9")
        assert asked == [1]
        now[0] += 49
        assert await who(client, "U9")
        assert asked == [1]


async def test_expiry_caps_an_entry(database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An identifier that expires in ten seconds is answered from memory for ten seconds, whatever the TTL."""
    start = datetime.now(UTC)
    passed = [0.0]
    clock = Clock(lambda: int((start.timestamp() + passed[0]) * 1e6))
    formation = Formation(database_config, database=make_database(database_config.database), clock=clock)
    await formation.open()
    try:
        await formation._coherence.stop()
        formation.cache.lease_until = float("inf")
        monkeypatch.setattr(cache_module, "monotonic", lambda: 1000.0 + passed[0])
        given = {"identifier": NAME[0], "type": "slack", "expires_at": start + timedelta(seconds=10)}
        linked = await formation.associate(
            [given, "stays"], None, on_conflict="raise", verified=False, idempotency_key=None, caller=Caller("test")
        )
        reference = formation.parse(NAME)
        asked = count_look_ups(formation)
        for moment in (0.0, 5.0, 9.5):
            passed[0] = moment
            found = await formation.find(reference)
            assert found is not None
            assert found["muxi_user_id"] == linked["muxi_user_id"]
        assert asked == [1]
        passed[0] = 10.5
        for _ in range(2):
            assert await formation.find(reference) is None
        with pytest.raises(UserNotFoundError):
            await formation.resolve(reference, create=False, caller=Caller("test"))
        # It is nobody's now: who writes in under it is somebody new.
        new = await formation.resolve(reference, create=True, caller=Caller("test"))
        assert new["created"]
        assert new["muxi_user_id"] != linked["muxi_user_id"]
        await check_invariants(database_config, now=clock.now())
    finally:
        await formation.close()


# Misses that arrive together


@pytest.mark.parametrize("database_config", ["postgres"], indirect=True)
async def test_misses_are_looked_up_together(client: AsyncFormationClient) -> None:

    names = [f"U{number}" for number in range(300)]
    made = await asyncio.gather(*(client.resolve_user(name, True) for name in names))
    expected = [answer["muxi_user_id"] for answer in made]
    engine(client).cache.clear()
    asked = count_look_ups(engine(client))
    assert await asyncio.gather(*(who(client, name) for name in names)) == expected
    assert len(asked) <= 3
    assert sum(asked) == 300
    # Of one key there is one look-up, however many ask for it.
    engine(client).cache.clear()
    asked.clear()
    assert set(await asyncio.gather(*(who(client, "U7") for _ in range(300)))) == {expected[7]}
    assert sum(asked) == 1


@pytest.mark.parametrize("database_config", ["postgres"], indirect=True)
async def test_who_shares_a_look_up_is_not_cancelled_with_it(client: AsyncFormationClient) -> None:

    made = await client.resolve_user(NAME, True)
    engine(client).cache.clear()
    held = hold_next_look_up(engine(client))
    leader = asyncio.create_task(who(client, NAME))
    await held.reached()
    followers = [asyncio.create_task(who(client, NAME)) for _ in range(5)]
    others = [asyncio.create_task(who(client, name)) for name in ("x", "y")]
    await asyncio.wait([asyncio.create_task(asyncio.to_thread(lambda: None))])  # all of them have begun
    leader.cancel()
    followers[0].cancel()
    assert await asyncio.gather(*followers[1:]) == [made["muxi_user_id"]] * 4
    assert await asyncio.gather(*others) == [None, None]
    held.let_go()
    for task in (leader, followers[0]):
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("database_config", ["postgres"], indirect=True)
async def test_a_failed_look_up_fails_all_who_share_it_and_no_other(client: AsyncFormationClient) -> None:

    await client.resolve_user(NAME, True)
    engine(client).cache.clear()
    database, read = engine(client).database, engine(client).database.look_up

    async def fail(*arguments: Any) -> Any:
        await read(*arguments)
        database.look_up = read  # type: ignore[method-assign]
        raise StorageUnavailableError("lost")

    database.look_up = fail  # type: ignore[method-assign]
    found = await asyncio.gather(*(who(client, NAME) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(each, StorageUnavailableError) for each in found)
    assert await who(client, NAME)


# Another process on the same SQLite file


@pytest.fixture(scope="module")
def process() -> Iterator[Swarm]:
    swarm = Swarm(1)
    yield swarm
    swarm.stop()


async def elsewhere(process: Swarm, config: FormationConfig, method: str, *arguments: Any, **options: Any) -> Any:
    calls = [[call(method, *arguments, **options)]]
    return values((await asyncio.to_thread(process.run, config, calls))[0])[0]


@pytest.mark.parametrize("change", ["unlink", "merge", "delete"])
async def test_another_process_is_noticed(process: Swarm, file_config: FormationConfig, change: str) -> None:
    async with AsyncFormationClient(file_config) as client, linked_pair(client):
        if change == "merge":
            await elsewhere(process, file_config, "associate_user_identifiers", [NAME], "usr_new", on_conflict="merge")
        elif change == "unlink":
            await elsewhere(process, file_config, "unlink_user_identifier", NAME, force=True)
        else:
            await elsewhere(process, file_config, "delete_user", "usr_old")
        expected = "usr_new" if change == "merge" else None
        async with asyncio.timeout(PATIENCE):
            while await who(client, NAME) != expected:  # noqa: ASYNC110 (another process has no event for us)
                await asyncio.sleep(0)
        for _ in range(3):
            assert await who(client, NAME) == expected


async def test_what_makes_no_answer_wrong_leaves_the_cache(process: Swarm, file_config: FormationConfig) -> None:
    async with AsyncFormationClient(file_config) as client:
        assert await who(client, NAME) is None
        made = await client.resolve_user(NAME, True)
        poll: Any = engine(client)._coherence
        first_version = poll._version
        await elsewhere(process, file_config, "resolve_user", "another", True)
        await elsewhere(process, file_config, "associate_user_identifiers", ["a@x.com", ("U2", "slack")])
        await elsewhere(process, file_config, "chat", "Hello!", "a-third")
        async with asyncio.timeout(PATIENCE):
            asked = count_look_ups(engine(client))
            while poll._version in (first_version, None) or poll._version != poll._database.data_version():
                assert await who(client, NAME) == made["muxi_user_id"]
        assert client.cache_info["identifiers"] == 1
        assert asked == []


async def test_hits_without_a_pause_are_hits(file_config: FormationConfig) -> None:
    """A caller who never waits keeps the event loop to itself. Every lease that runs out meanwhile is extended."""
    async with AsyncFormationClient(file_config) as client:
        made = await client.resolve_user(NAME, True)
        asked, leases = count_look_ups(engine(client)), set()
        while len(leases) < 4 and not asked:
            assert await who(client, NAME) == made["muxi_user_id"]
            leases.add(engine(client).cache.lease_until)
        assert asked == []


async def test_while_the_file_cannot_be_asked_nothing_is_answered_from_memory(
    file_config: FormationConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncFormationClient(file_config) as client:
        await client.resolve_user(NAME, True)
        cache = engine(client).cache

        def broken() -> tuple[int, int]:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(engine(client).database, "data_version", broken)
            cache.lease_until = 0.0
            hits = client.cache_info["hits"]
            for _ in range(5):
                assert await who(client, NAME)
            assert client.cache_info["hits"] == hits
            assert caplog.text.count("cannot poll the database file") == 1
        assert await who(client, NAME)
        assert client.cache_info["hits"] == hits + 1


async def test_another_process_is_paused_and_killed(file_config: FormationConfig) -> None:
    """It wakes up with everything in its memory, and answers nothing of it before it has asked the file."""
    peer = Peer()
    async with AsyncFormationClient(file_config) as client:
        await client.resolve_user(NAME, True)
        await peer.open(file_config)
        await peer.is_answered_from_memory(NAME)
        peer.pause()
        await client.unlink_user_identifier(NAME, force=True)
        await asyncio.sleep(POLL_SECONDS)  # until it was last asked longer ago
        peer.ask("find_user", NAME)
        peer.resume()
        assert await peer.answer() is None
        peer.ask("import_users", [{"identifiers": [f"U{number}"]} for number in range(2000)])
        peer.kill()
        assert (await client.resolve_user(NAME, True))["created"]
    await check_invariants(file_config)
