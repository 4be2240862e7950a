"""The remote client as programs use it: making it, threads, forks, loops; and answers that get lost on the way."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from muxi_identity import (
    AsyncFormationClient,
    ClientClosedError,
    ConfigurationError,
    EmbeddedOnlyError,
    ForbiddenError,
    FormationClient,
    FormationConfig,
    InvalidRequestError,
    LastIdentifierError,
    MuxiError,
    Secret,
    ServerUnavailableError,
    UnauthorizedError,
)
from muxi_identity.client.remote.transport import Transport
from tests.contract.parties import served
from tests.invariants import check_invariants
from tests.remote.servers import Request, lossy, scripted
from tests.server.places import ADMIN, ADMIN_KEY, CLIENT_KEY, data

KEY = "muxi_client_0123456789"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"url": "http://a", "server_url": "http://b"}, "not both"),
        ({"url": "http://a"}, "client_key, an admin_key or a user_token"),
        ({"url": "http://a", "client_key": ""}, "empty"),
        ({"url": "http://a", "client_key": None, "admin_key": "  "}, "empty"),
        ({"url": "http://a", "client_key": "a b"}, "without spaces"),
        ({"url": "http://a", "client_key": "a\r\nX-Evil: 1"}, "printable"),
        ({"url": "http://a", "client_key": "schlüssel"}, "ASCII"),
        ({"url": "http://a", "client_key": 5}, "must be a text"),
        ({"url": "http://a", "client_key": KEY, "user_token": "t"}, "not both"),
        ({"server_url": "http://a", "client_key": KEY}, "formation_id"),
        ({"server_url": "http://a", "formation_id": "", "client_key": KEY}, "formation_id"),
        ({"formation_id": "a"}, "url or server_url"),
        ({"client_key": KEY}, "url or server_url"),
        ({"url": "a", "client_key": KEY}, "address"),
        ({"url": "ftp://a", "client_key": KEY}, "address"),
        ({"url": "http://", "client_key": KEY}, "address"),
        ({"url": "http://a:port", "client_key": KEY}, "address"),
        ({"url": "http://a b", "client_key": KEY}, "address"),
        ({"url": 5, "client_key": KEY}, "text"),
        ({"url": "http://me:secret@a", "client_key": KEY}, "password"),
        ({"url": "http://a?key=1", "client_key": KEY}, "path"),
        ({"url": "http://a", "client_key": KEY, "timeout": 0}, "timeout"),
        ({"url": "http://a", "client_key": KEY, "timeout": float("nan")}, "timeout"),
        ({"url": "http://a", "client_key": KEY, "timeout": "5"}, "timeout"),
        ({"url": "http://a", "client_key": KEY, "retries": -1}, "retries"),
        ({"url": "http://a", "client_key": KEY, "retries": True}, "retries"),
        ({"config": "formation.yaml", "url": "http://a", "client_key": KEY}, "configured where"),
        ({"responder": object(), "url": "http://a", "client_key": KEY}, "responder"),
        ({"memory_ranker": object(), "url": "http://a", "client_key": KEY}, "memory_ranker"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], words: str) -> None:
    for kind in (AsyncFormationClient, FormationClient):
        with pytest.raises(ConfigurationError, match=words) as caught:
            kind(**arguments)
        assert "secret" not in caught.value.message
        assert KEY not in caught.value.message


def test_keys_in_clear_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    for url in ("http://127.0.0.1:8000", "http://[::1]:1", "http://localhost", "https://muxi.example.com"):
        AsyncFormationClient(url=url, client_key=KEY)
    assert not caplog.records
    AsyncFormationClient(url="http://muxi.example.com", client_key=Secret(KEY))
    assert "unencrypted" in caplog.text
    assert KEY not in caplog.text


def calls_of_the_embedded(client: Any) -> list[Callable[[], Any]]:
    return [
        lambda: client.run_tasks(),
        lambda: client.run_due_tasks(),
        lambda: client.run_events(),
        lambda: client.deliver_events(),
        lambda: client.get_credential_secret("a", "github"),
    ]


async def test_what_cannot_be_remote_says_why() -> None:
    async with AsyncFormationClient(url="http://127.0.0.1:1", client_key=KEY) as client:
        for call in calls_of_the_embedded(client):
            with pytest.raises(EmbeddedOnlyError, match="server"):
                await call()
        for name in ("cache_info", "formation_id"):
            with pytest.raises(EmbeddedOnlyError, match="server"):
                getattr(client, name)
    with FormationClient(url="http://127.0.0.1:1", client_key=KEY) as blocking:
        for call in calls_of_the_embedded(blocking):
            with pytest.raises(EmbeddedOnlyError, match="server"):
                call()


# Answers that get lost


async def test_a_call_whose_answer_was_lost_is_done_once(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(self: Transport, attempt: int, wait: float | None) -> None:
        return None

    monkeypatch.setattr(Transport, "pause", at_once)
    seen: dict[str, int] = {}

    def lose(request: Request) -> bool:
        mark = request.key or request.headers["x-request-id"]
        seen[mark] = seen.get(mark, 0) + 1
        return seen[mark] == 1  # each call loses the answer to its first attempt

    said = [{"role": "user", "content": "Hello"}]
    with served(database_config) as server:
        async with (
            scripted(lossy(server.url, lose)) as between,
            AsyncFormationClient(url=between.url, admin_key=ADMIN_KEY, client_key=CLIENT_KEY) as client,
        ):
            assert (await client.create_user("usr_alice"))["muxi_user_id"] == "usr_alice"
            linked = await client.associate_user_identifiers(["alice@email.com", "a", "b"], "usr_alice")
            assert linked["new_identifiers"] == ["alice@email.com", "a", "b"]
            assert (await client.unlink_user_identifier("b"))["identifier"] == "b"
            reply = await client.chat("My budget is $5,000", "a")
            stream = client.chat_stream("What is my budget?", "a")
            assert "$5,000" in "".join([piece async for piece in stream])
            assert stream.reply.session_id == reply.session_id
            turn = await client.record_turn("a", said, memories=["Is vegan"], topics=["food"])
            assert turn["session_id"] == reply.session_id
            messages = await client.get_session_messages(reply.session_id, "a")
            assert messages["count"] == 5
            memory = await client.add_memory("a", "Likes tea")
            assert (await client.delete_memory(memory["memory_id"], "a"))["deleted"]
            task = await client.schedule_task("a", "Hi", cron="@daily")
            assert (await client.list_tasks("a"))["count"] == 1
            assert (await client.delete_task(task["task_id"]))["deleted"]
            kept = await client.set_credential("a", "github", "secret-of-four-words")
            assert (await client.delete_credential(kept["credential_id"], "a"))["deleted"]
            assert (await client.set_preference("a", "language", "de"))["value"] == "de"
            assert (await client.delete_preference("a", "language"))["deleted"]
            assert (await client.clear_sessions("a"))["messages_cleared"] == 5
            await client.unlink_user_identifier("alice@email.com")
            with pytest.raises(LastIdentifierError):
                await client.unlink_user_identifier("a")
            assert (await client.delete_user("usr_alice"))["muxi_user_id"] == "usr_alice"
            assert (await client.list_users())["users"] == []
    assert set(seen.values()) == {2}
    await check_invariants(database_config)


# Who may do what


async def test_keys_and_tokens(database_config: FormationConfig) -> None:
    with served(database_config) as server:
        async with AsyncFormationClient(url=server.url, admin_key=ADMIN_KEY) as admin:
            await admin.associate_user_identifiers(["alice@email.com", ("U1", "slack")], source="sign-up")
            await admin.resolve_user("bob", create_user=True)
        body = {"user_id": ["U1", "slack"]}
        async with httpx.AsyncClient(base_url=server.url) as http:
            token = data(await http.post("/v1/users/tokens", json=body, headers=ADMIN), 201)["token"]

        async with AsyncFormationClient(url=server.url, client_key=CLIENT_KEY) as client:
            await client.chat("My budget is $5,000", "alice@email.com")
            with pytest.raises(ForbiddenError, match="admin key"):
                await client.list_users()
        async with AsyncFormationClient(url=server.url, client_key="muxi_client_of_nobody") as wrong:
            with pytest.raises(UnauthorizedError):
                await wrong.chat("Hello", "alice@email.com")
        async with AsyncFormationClient(url=server.url, user_token=token) as browser:
            assert "$5,000" in (await browser.chat("What is my budget?", ("U1", "slack"))).text
            assert "$5,000" in (await browser.channel("slack").chat("What is my budget?", "U1")).text
            for other in ("bob", "alice@email.com", "usr_bob"):
                with pytest.raises(ForbiddenError):
                    await browser.chat("What is my budget?", other)
            with pytest.raises(ForbiddenError):
                await browser.list_users()
        for id in ("another", "../default", "a/b"):
            async with AsyncFormationClient(server_url=server.url, formation_id=id, admin_key=ADMIN_KEY) as elsewhere:
                with pytest.raises(MuxiError, match="no formation"):
                    await elsewhere.list_users()
        async with AsyncFormationClient(
            server_url=server.url, formation_id=database_config.id, admin_key=ADMIN_KEY, actor="importer"
        ) as named:
            assert (await named.list_users())["count"] == 2


# Threads, forks, loops


def test_many_threads_share_a_client(database_config: FormationConfig) -> None:
    found: list[str] = []
    with served(database_config) as server, FormationClient(**server.arguments()) as client:

        def work() -> None:
            for _ in range(10):
                found.append(client.resolve_user("alice@email.com", create_user=True)["muxi_user_id"])

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 80
    assert len(set(found)) == 1


def test_a_child_opens_connections_of_its_own(database_config: FormationConfig) -> None:
    with served(database_config) as server, FormationClient(**server.arguments()) as client:
        mine = client.resolve_user("alice@email.com", create_user=True)["muxi_user_id"]
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            try:
                os.write(writing, client.resolve_user("alice@email.com")["muxi_user_id"].encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            assert answer.read().decode() == mine
        os.waitpid(child, 0)
        assert client.resolve_user("alice@email.com")["muxi_user_id"] == mine


# asyncio.run() leaves connections of a client that nobody closed to the collector, which says so.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_one_loop_after_the_other(database_config: FormationConfig) -> None:
    with served(database_config) as server:
        client = AsyncFormationClient(**server.arguments())

        async def ask() -> str:
            return (await client.resolve_user("alice@email.com", create_user=True))["muxi_user_id"]

        first = asyncio.run(ask())
        assert asyncio.run(ask()) == first
        gc.collect()
        asyncio.run(client.close())
        with pytest.raises(ClientClosedError):
            asyncio.run(ask())
        gc.collect()


async def test_two_loops_at_once_are_refused(database_config: FormationConfig) -> None:
    with served(database_config) as server:
        async with AsyncFormationClient(**server.arguments()) as client:
            await client.find_user("a")
            with pytest.raises(InvalidRequestError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, client.find_user("a"))


def test_a_server_that_comes_back_is_found_again(database_config: FormationConfig) -> None:
    with served(database_config) as server:
        client = FormationClient(**server.arguments(), retries=0)
        made = client.resolve_user("alice@email.com", create_user=True)
    with pytest.raises(ServerUnavailableError):
        client.resolve_user("alice@email.com")
    with served(database_config, port=int(server.url.rpartition(":")[2])):
        assert client.resolve_user("alice@email.com")["muxi_user_id"] == made["muxi_user_id"]
    client.close()
