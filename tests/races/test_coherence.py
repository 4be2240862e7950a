"""Two processes over one PostgreSQL: what one changes, the other hears of, or knows that it may not have heard.

The changes are made by another process; the process of the test is the one that must not answer what is old. It waits
for what it hears, never for time, but where a lease is to run out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import asyncpg
import pytest

from muxi_identity import AsyncFormationClient, FormationConfig
from muxi_identity.client.lifecycle import Lifecycle
from muxi_identity.config import CacheConfig, Secret
from muxi_identity.errors import AmbiguousIdentifierError, StorageUnavailableError
from muxi_identity.identity import running
from muxi_identity.identity.coherence import listener as listener_module
from muxi_identity.identity.coherence.listening import Listening
from muxi_identity.identity.coherence.notices import CHANNEL, read_notice, write_notice
from muxi_identity.storage.postgres import PostgresDatabase
from muxi_identity.storage.sharing import SharedDatabases
from tests.integration.test_cache_promises import commit_next_late, count_look_ups, engine, hold_next_look_up, who
from tests.invariants import check_invariants
from tests.proxy import Proxy
from tests.races.peer import Peer
from tests.races.processes import PATIENCE

NAME = ("U98765ABC", "slack")
KEY, NEW_KEY = "key_abcdefghijklmnop", "key_qrstuvwxyzabcdef"
NOBODY_ELSE = ("bystander", "internal")
SLOW = 5.0  # seconds by which a busy machine may be late


def with_lease(config: FormationConfig, lease: float) -> FormationConfig:
    return dataclasses.replace(config, identity=dataclasses.replace(config.identity, cache=CacheConfig(lease=lease)))


def heard_through(config: FormationConfig, proxy: Proxy) -> FormationConfig:
    """Return ``config`` with a listening connection that goes through ``proxy``, and everything else around it."""
    assert config.database.url is not None
    listen_url = Secret(proxy.url(config.database.url.reveal()))
    return dataclasses.replace(config, database=dataclasses.replace(config.database, listen_url=listen_url))


@pytest.fixture
def config(database_config: FormationConfig) -> FormationConfig:
    """On PostgreSQL; with a lease that no slow machine lets run out, where a test is not about that."""
    return with_lease(database_config, 30.0)


@pytest.fixture(scope="module")
def process() -> Iterator[Peer]:
    process = Peer()
    yield process
    process.stop()


@pytest.fixture
async def peer(process: Peer, config: FormationConfig) -> Peer:
    """Another process with a client of this test's formation."""
    await process.open(config)
    return process


@pytest.fixture
async def client(config: FormationConfig) -> AsyncIterator[AsyncFormationClient]:
    async with AsyncFormationClient(config) as client:
        yield client


@pytest.fixture
def proxy(config: FormationConfig) -> Iterator[Proxy]:
    assert config.database.url is not None
    with Proxy.before(config.database.url.reveal()) as proxy:
        yield proxy


pytestmark = pytest.mark.parametrize("database_config", ["postgres"], indirect=True)


class Ears:
    """Counts what this process's listeners hear, and says when."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._heard: list[str] = []
        self._news = asyncio.Event()
        hear = Listening.hear

        def hear_and_tell(listening: Listening, payload: str) -> None:
            hear(listening, payload)
            self._heard.append(payload)
            self._news.set()

        patch.setattr(Listening, "hear", hear_and_tell)

    async def hear(self, number: int = 1) -> None:
        """Return once ``number`` more notices of others have arrived and what they say is done."""
        async with asyncio.timeout(PATIENCE):
            while len(self._heard) < number:
                self._news.clear()
                await self._news.wait()
        del self._heard[:number]

    async def are_still(self, client: AsyncFormationClient) -> None:
        """Return once everything that has been told by now has been heard, and forget it."""
        mark = write_notice("", f"mark-{id(self)}", [], [])  # of a formation that nobody has
        await engine(client).database.notify(CHANNEL, mark)
        async with asyncio.timeout(PATIENCE):
            while mark not in self._heard:
                self._news.clear()
                await self._news.wait()
        self._heard.clear()

    def forget(self) -> None:
        self._heard.clear()


@pytest.fixture
async def ears(monkeypatch: pytest.MonkeyPatch) -> Ears:
    return Ears(monkeypatch)


async def become_two(client: AsyncFormationClient) -> None:
    """Make two people: usr_old has NAME, an address, and a key, and is remembered under all of them."""
    for user in ("usr_old", "usr_new"):
        await client.create_user(user)
    await client.associate_user_identifiers([NAME, "old@x.com", (KEY, "api_key")], "usr_old")
    await client.associate_user_identifiers([NOBODY_ELSE])
    for given in (NAME, NAME[0], "usr_old", (KEY, "api_key"), "old@x.com", NOBODY_ELSE):
        await client.resolve_user(given)
    await is_answered_from_memory(client, NAME)


def listener_of(client: AsyncFormationClient) -> Any:
    coherence: Any = engine(client)._coherence
    return coherence._listener


async def no_lease(client: AsyncFormationClient) -> None:
    """Return once nothing is answered from memory: the lease has run out or is given up."""
    cache = engine(client).cache
    async with asyncio.timeout(PATIENCE):
        while monotonic() < cache.lease_until:  # noqa: ASYNC110 (time has no event)
            await asyncio.sleep(0)


async def listening_pids(url: str) -> list[int]:
    """Return the back ends of all connections to this database that listen to heartbeats."""
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%heartbeat%'"
        )
        return [row["pid"] for row in found]
    finally:
        await connection.close()


async def is_answered_from_memory(client: AsyncFormationClient, given: Any) -> None:
    """Return once it is: a lease may be on its way."""
    async with asyncio.timeout(PATIENCE):
        hits = client.cache_info["hits"]
        while client.cache_info["hits"] == hits:
            await client.find_user(given)
            await asyncio.sleep(0)


# Every kind of change

Change = Callable[[Peer], Awaitable[Any]]


async def unlink(peer: Peer) -> None:
    await peer.call("unlink_user_identifier", NAME, force=True)


async def merge(peer: Peer) -> None:
    await peer.call("merge_users", "usr_new", "usr_old")


async def unmerge(peer: Peer) -> None:
    merged = await peer.call("merge_users", "usr_new", "usr_old")
    await peer.call("unmerge_users", merged["merge_id"])


async def link_and_merge(peer: Peer) -> None:
    await peer.call("associate_user_identifiers", [NAME], "usr_new", on_conflict="merge")


async def split(peer: Peer) -> None:
    await peer.call("split_user", "usr_old", [NAME])


async def delete(peer: Peer) -> None:
    await peer.call("delete_user", "usr_old")


async def replace(peer: Peer) -> None:
    await peer.call("replace_identifier", NAME, "U11111XYZ")


async def rotate(peer: Peer) -> None:
    await peer.call("rotate_identifier", (KEY, "api_key"), NEW_KEY)


async def set_expiry(peer: Peer) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    await peer.call("associate_user_identifiers", [{"identifier": NAME[0], "type": NAME[1], "expires_at": later}])


async def join_bucket(peer: Peer) -> None:
    await peer.call("resolve_user", (NAME[0], "discord"), True)


OLD, NEW, UNKNOWN, SOMEBODY, SEVERAL = "usr_old", "usr_new", "unknown", "somebody else", "several"
CHANGES: dict[str, tuple[Change, dict[Any, str]]] = {
    "unlink": (unlink, {NAME: UNKNOWN, "old@x.com": OLD, "usr_old": OLD}),
    "merge": (merge, {NAME: NEW, "old@x.com": NEW, "usr_old": NEW, (KEY, "api_key"): NEW}),
    "unmerge": (unmerge, {NAME: OLD, "usr_old": OLD}),
    "link-and-merge": (link_and_merge, {NAME: NEW, NAME[0]: NEW}),
    "split": (split, {NAME: SOMEBODY, "old@x.com": OLD}),
    "delete": (delete, {NAME: UNKNOWN, NAME[0]: UNKNOWN, "usr_old": UNKNOWN, (KEY, "api_key"): UNKNOWN}),
    "replace": (replace, {NAME: UNKNOWN, ("U11111XYZ", "slack"): OLD}),
    "rotate": (rotate, {(KEY, "api_key"): UNKNOWN, KEY: UNKNOWN, (NEW_KEY, "api_key"): OLD}),
    "expiry": (set_expiry, {NAME: OLD}),  # looked up again: what is remembered knows nothing of the new end
    "join-bucket": (join_bucket, {NAME: OLD, NAME[0]: SEVERAL}),
}


async def meaning(client: AsyncFormationClient, given: Any) -> str:
    try:
        found = await who(client, given)
    except AmbiguousIdentifierError:
        return SEVERAL
    if found is None:
        return UNKNOWN
    return found if found in {OLD, NEW} else SOMEBODY


@pytest.mark.parametrize("change", CHANGES)
async def test_every_kind_of_change_is_heard(
    config: FormationConfig, peer: Peer, client: AsyncFormationClient, ears: Ears, change: str
) -> None:
    do, expected = CHANGES[change]
    await become_two(client)
    await ears.are_still(client)
    await do(peer)
    await ears.hear(2 if change == "unmerge" else 1)
    asked = count_look_ups(engine(client))
    assert await who(client, NOBODY_ELSE)
    assert asked == [], "somebody else was forgotten too"
    for _ in range(2):
        assert {given: await meaning(client, given) for given in expected} == expected
        assert asked
    await check_invariants(config)


@pytest.mark.parametrize("change", ["unlink", "link-and-merge", "split", "delete"])
async def test_a_look_up_that_began_before_it_was_heard_fills_nothing(
    config: FormationConfig, peer: Peer, client: AsyncFormationClient, ears: Ears, change: str
) -> None:
    """It has read what was true before another process changed it, and brings it after the change was heard."""
    do, expected = CHANGES[change]
    await become_two(client)
    await ears.are_still(client)
    engine(client).cache.clear()
    held = hold_next_look_up(engine(client))
    looking = asyncio.create_task(meaning(client, NAME))
    await held.reached()
    await do(peer)
    await ears.hear()
    asking = asyncio.create_task(meaning(client, NAME))
    await asyncio.sleep(0)
    held.let_go()
    assert await looking == OLD  # as it was when it was asked
    for _ in range(2):
        assert {given: await meaning(client, given) for given in expected} == expected
    assert await asking == expected[NAME]


async def test_a_change_of_ones_own_that_nobody_expects_any_more(
    config: FormationConfig, client: AsyncFormationClient, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is committed after its fence was lowered: what it tells is then as good as if another process did."""
    monkeypatch.setattr(running, "_DOUBT_SECONDS", 0.0)
    await become_two(client)
    held, pending = commit_next_late(engine(client))
    with pytest.raises(StorageUnavailableError):
        await client.associate_user_identifiers([NAME], "usr_new", on_conflict="merge")
    await is_answered_from_memory(client, NAME)  # true, and the fence is down
    held.let_go()
    await pending[0]
    await ears.are_still(client)
    assert await meaning(client, NAME) == NEW
    await check_invariants(config)


async def test_plain_contacts_and_links_tell_nobody(config: FormationConfig, client: AsyncFormationClient) -> None:
    assert config.database.url is not None
    told: list[str] = []
    done = asyncio.Event()

    def hear(_: object, __: int, ___: str, payload: str) -> None:
        notice = read_notice(payload)
        if payload == "done":
            done.set()
        elif notice is None or notice.formation_id == config.id:
            told.append(payload)

    await client.create_user("usr_old")
    listener = await asyncpg.connect(config.database.url.reveal())
    await listener.add_listener(CHANNEL, hear)
    for number in range(5):
        await client.resolve_user(f"new-{number}", True)
        await client.chat("Hello!", f"chat-{number}")
        await client.associate_user_identifiers([f"{number}@x.com", (f"U-{number}", "slack")])
        await client.associate_user_identifiers([(f"V{number}", "slack")], "usr_old")
        await client.associate_user_identifiers([f"{number}@x.com", (f"U-{number}", "slack")])  # linked already
        await client.associate_user_identifiers([{"identifier": f"{number}@x.com", "metadata": {"n": number}}])
        await client.set_preference(f"{number}@x.com", "language", "pt")
    await client.unlink_user_identifier(("U-0", "slack"))
    await listener.execute("SELECT pg_notify($1, 'done')", CHANNEL)
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    await listener.close()
    assert len(told) == 1  # the unlinking
    assert "U-0" not in told[0]  # what it holds in base64 has no hyphen


# A network, a server and a process that do not do what they should


async def test_while_nothing_is_heard_nothing_is_answered_from_memory(
    config: FormationConfig, peer: Peer, proxy: Proxy
) -> None:
    """The listening connection is refused while something is changed, and is taken again."""
    async with AsyncFormationClient(heard_through(config, proxy)) as client:
        await become_two(client)
        proxy.refuse()
        await no_lease(client)
        await merge(peer)
        assert {given: await meaning(client, given) for given in (NAME, "usr_old")} == {NAME: NEW, "usr_old": NEW}
        hits = client.cache_info["hits"]
        assert await who(client, NAME) == NEW
        assert client.cache_info["hits"] == hits
        proxy.flow()
        await is_answered_from_memory(client, NAME)
        assert await who(client, NAME) == NEW


async def test_what_was_missed_between_two_connections_is_forgotten(
    config: FormationConfig, peer: Peer, client: AsyncFormationClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the lease: with the connection went the certainty."""
    assert config.database.url is not None
    await become_two(client)
    database = engine(client).database
    listened, listen = asyncio.Event(), database.listen

    async def listen_late(*arguments: Any) -> Any:
        await merge(peer)  # what it tells goes to nobody here
        listened.set()
        return await listen(*arguments)

    monkeypatch.setattr(database, "listen", listen_late)
    admin = await asyncpg.connect(config.database.url.reveal())
    await admin.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1",
        f"LISTEN%{listener_of(client).channel}%",
    )
    await admin.close()
    async with asyncio.timeout(PATIENCE):
        await listened.wait()
    await is_answered_from_memory(client, NOBODY_ELSE)
    for given in (NAME, NAME[0], "usr_old", "old@x.com"):
        assert await who(client, given) == NEW


async def test_a_half_open_connection(config: FormationConfig, peer: Peer, proxy: Proxy) -> None:
    """What is told vanishes on the way: the lease runs out, and another connection is made."""
    short = with_lease(config, 0.3)
    async with AsyncFormationClient(heard_through(short, proxy)) as client:
        await become_two(client)
        proxy.swallow()
        changed_at = monotonic()
        await merge(peer)
        await no_lease(client)
        assert monotonic() < changed_at + 0.3 + SLOW
        assert await who(client, NAME) == NEW
        proxy.flow()
        await is_answered_from_memory(client, NAME)
        assert await who(client, NAME) == NEW
        assert proxy.accepted > 1


async def test_a_network_that_stalls(config: FormationConfig, peer: Peer, proxy: Proxy) -> None:
    async with AsyncFormationClient(heard_through(with_lease(config, 0.3), proxy)) as client:
        await become_two(client)
        proxy.stall()
        await no_lease(client)
        await merge(peer)
        assert await who(client, NAME) == NEW
        await unlink(peer)
        proxy.flow()
        await is_answered_from_memory(client, "usr_old")
        assert [await who(client, given) for given in (NAME, "usr_old")] == [None, NEW]


def hear_no_notices() -> None:
    Listening.hear = lambda *_: None  # type: ignore[method-assign,assignment]


async def test_a_paused_process_answers_nothing_old(config: FormationConfig, client: AsyncFormationClient) -> None:
    """It wakes up with everything in its memory. Here it does not even hear: its lease alone has to keep it."""
    deaf = Peer(hear_no_notices)
    short = with_lease(config, 1.0)
    await deaf.open(short)
    await become_two(client)
    assert await deaf.who(NAME) == OLD
    await deaf.is_answered_from_memory(NAME)
    deaf.pause()
    await client.merge_users("usr_new", "usr_old")
    await asyncio.sleep(1.0)  # the lease is to run out
    deaf.ask("find_user", NAME)
    deaf.resume()
    assert (await deaf.answer())["muxi_user_id"] == NEW
    await deaf.is_answered_from_memory(NAME)
    assert await deaf.who(NAME) == NEW
    deaf.stop()


async def test_a_pooler_that_swallows_listen(
    config: FormationConfig,
    peer: Peer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Everything works but to be told: nothing is ever answered from memory, and the log says what to do, once."""
    listen = PostgresDatabase.listen
    tried = asyncio.Semaphore(0)

    async def listen_elsewhere(database: PostgresDatabase, channels: Any, *others: Any) -> Any:
        tried.release()
        return await listen(database, [f"{channel}-elsewhere" for channel in channels], *others)

    monkeypatch.setattr(PostgresDatabase, "listen", listen_elsewhere)
    monkeypatch.setattr(listener_module, "_DEAF_SECONDS", 0.1)
    async with AsyncFormationClient(with_lease(config, 0.1)) as client:
        with caplog.at_level(logging.WARNING, "muxi_identity"):
            for user in ("usr_old", "usr_new"):
                await client.create_user(user)
            await client.associate_user_identifiers([NAME], "usr_old")
            async with asyncio.timeout(PATIENCE):
                for _ in range(4):
                    assert await who(client, NAME) == OLD
                    await tried.acquire()
            await merge(peer)
            assert await who(client, NAME) == NEW
        assert client.cache_info["hits"] == 0
        (record,) = (record for record in caplog.records if "listen" in record.message)
        assert "memory.persistent.listen_connection_string" in record.message


async def test_the_listening_address_does_not_exist(
    config: FormationConfig, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The formation opens all the same, and says so once."""
    proxy.refuse()
    async with AsyncFormationClient(heard_through(config, proxy)) as client:
        with caplog.at_level(logging.WARNING, "muxi_identity"):
            made = await client.resolve_user(NAME, True)
            assert await who(client, NAME) == made["muxi_user_id"]
            assert client.cache_info["hits"] == 0
            (record,) = (record for record in caplog.records if "cannot be listened to" in record.message)
            assert "password" not in record.message
            proxy.flow()
            await is_answered_from_memory(client, NAME)


# Large and many


async def test_a_change_too_large_to_tell(
    config: FormationConfig, process: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = dataclasses.replace(config.identity.rules, max_per_user=1000)
    config = dataclasses.replace(config, identity=dataclasses.replace(config.identity, rules=rules))
    ears = Ears(monkeypatch)
    await process.open(config)
    names = [(f"U{number}", "slack") for number in range(600)]
    async with AsyncFormationClient(config) as client:
        await client.associate_user_identifiers(names, (await client.create_user("usr_old"))["muxi_user_id"])
        for name in names[::100]:
            await client.resolve_user(name)
        await ears.are_still(client)
        await process.call("delete_user", "usr_old")
        await ears.hear()
        for name in names[::100]:
            assert await who(client, name) is None


async def test_formations_share_a_listener_and_no_notices(
    config: FormationConfig, process: Peer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = dataclasses.replace(config.database, url=Secret(postgres_url))
    configs = [dataclasses.replace(config, id=name, database=database) for name in ("one", "two")]
    ears = Ears(monkeypatch)
    shared = SharedDatabases()
    clients = [AsyncFormationClient(each) for each in configs]
    for each, client in zip(configs, clients, strict=True):
        client._lifecycle = Lifecycle(each, responder=None, databases=shared)
        await become_two(client)
    assert len(await listening_pids(postgres_url)) == 1
    await process.open(configs[0])
    await ears.are_still(clients[0])
    ears.forget()
    await merge(process)
    await ears.hear(2)  # each of the two looks at it
    assert [await who(client, NAME) for client in clients] == [NEW, OLD]
    asked = count_look_ups(engine(clients[1]))
    assert await who(clients[1], NAME) == OLD
    assert asked == []
    await clients[0].close()
    await is_answered_from_memory(clients[1], NAME)
    await process.open(configs[1])
    assert len(await listening_pids(postgres_url)) == 2  # the other process and this one
    await clients[1].close()
    await shared.close()


async def test_whoever_opens_it_is_cancelled(config: FormationConfig, proxy: Proxy) -> None:
    """The listener, which was still waiting to hear something, ends too."""
    proxy.stall()
    client = AsyncFormationClient(heard_through(config, proxy))
    opening = asyncio.create_task(client.find_user(NAME))
    async with asyncio.timeout(PATIENCE):
        while not proxy.accepted:  # noqa: ASYNC110 (another thread has no event for us)
            await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await client.close()


async def test_another_client_of_the_process_leaves_the_cache_as_it_is(
    config: FormationConfig, client: AsyncFormationClient
) -> None:
    await become_two(client)
    cache = engine(client).cache
    emptied = cache.bucket_tokens.generation
    async with AsyncFormationClient(config) as other:
        assert await other.find_user(NAME)
        assert engine(other).cache is cache
        await is_answered_from_memory(client, NAME)
        # Once the first has heard all that the other may have missed, the other keeps the cache true as well.
        for each in (client, other):
            lease = cache.lease_until
            listener_of(each).stirred.set()
            async with asyncio.timeout(PATIENCE):
                while cache.lease_until == lease:  # noqa: ASYNC110 (time has no event)
                    await asyncio.sleep(0)
        await is_answered_from_memory(client, NAME)
        assert cache.bucket_tokens.generation == emptied
