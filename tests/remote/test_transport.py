"""Calls to servers that drop, stall, lie and talk nonsense."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import islice
from typing import Any

import pytest

from muxi_identity import (
    AsyncFormationClient,
    ClientClosedError,
    ConflictError,
    ForbiddenError,
    InternalError,
    InvalidRequestError,
    ModelError,
    MuxiError,
    NotFoundError,
    RateLimitedError,
    RequestTimeoutError,
    ServerUnavailableError,
    StorageUnavailableError,
    UserNotFoundError,
)
from muxi_identity.client.remote import importing
from muxi_identity.client.remote.streams import Events
from muxi_identity.client.remote.transport import Transport
from tests.remote.servers import Behaviour, Scripted, bad, drop, events, good, hang, raw, scripted

ADMIN_KEY, CLIENT_KEY = "muxi_admin_of_the_transport_tests", "muxi_client_of_the_transport_tests"
USER = {"muxi_user_id": "usr_a", "merged_into": None, "merged_users": [], "established": True, "created_at": "t",
        "identifier_count": 0}  # fmt: skip
FOUND = {"identifier": "a", "muxi_user_id": "usr_a", "created": False}
REPLY = {
    "message": {"role": "assistant", "content": "Héllo"},
    "user_id": "usr_a",
    "session_id": "ses_1",
    "request_id": "req_1",
}
DONE = b"event: done\ndata: " + json.dumps({"finished": True, **REPLY}).encode() + b"\n\n"


def token(text: str) -> bytes:
    return b"data: " + json.dumps({"token": {"content": text}}, ensure_ascii=False).encode() + b"\n\n"


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Nobody waits between attempts; what a server asked to wait is noted."""
    found: list[float | None] = []

    async def pause(self: Transport, attempt: int, wait: float | None) -> None:
        found.append(wait)

    monkeypatch.setattr(Transport, "pause", pause)
    return found


@asynccontextmanager
async def calling(*script: Behaviour, **options: Any) -> AsyncIterator[tuple[AsyncFormationClient, Scripted]]:
    keys = {"admin_key": ADMIN_KEY, "client_key": CLIENT_KEY}
    async with scripted(*script) as place, AsyncFormationClient(url=place.url, **{**keys, **options}) as client:
        yield client, place


BROKEN: dict[str, Behaviour] = {
    "drops": drop,
    "half an answer": raw(200, b'{"data": {', length=5_000),
    "no JSON": raw(200, b"<html>hello</html>", kind="text/html"),
    "another JSON": raw(200, b'{"ok": true}'),
    "too deep": raw(200, b'{"data": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
    "too deep a refusal": raw(502, b'{"error": {"code": "X", "message": "", "details": {"a": ' + b"[" * 5_000 + b"}}}"),
    "a field is missing": good({"muxi_user_id": "usr_a"}),
    "a field is another": good({**USER, "identifier_count": "many"}),
    "bad gateway": raw(502, b"<html>bad gateway</html>", kind="text/html"),
    "gateway time-out": raw(504, b""),
    "no HTTP": lambda request, reader, writer: say(writer, b"SSH-2.0-hello\r\n\r\n"),
    "compressed": raw(200, b"\x1f\x8b\x08", "Content-Encoding: gzip"),
    "stopping": bad(503, "CLIENT_CLOSED"),
    "under way": bad(409, "REQUEST_IN_PROGRESS", "Retry-After: 1"),
    "late": bad(408, "REQUEST_TIMEOUT", "Retry-After: 1"),
}


async def say(writer: asyncio.StreamWriter, text: bytes) -> None:
    writer.write(text)
    await writer.drain()
    writer.close()


CALLS: dict[str, Callable[[AsyncFormationClient], Any]] = {
    "GET": lambda client: client.get_user("usr_a"),
    "POST": lambda client: client.create_user("usr_a"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("broken", BROKEN)
async def test_what_may_be_repeated_is_and_is_the_same_each_time(broken: str, call: str) -> None:
    async with calling(BROKEN[broken], BROKEN[broken], good({**USER, "more": 1})) as (client, place):
        assert await CALLS[call](client) == USER

    assert len(place.requests) == 3
    assert len({request.raw for request in place.requests}) == 1
    assert (place.requests[0].key is not None) == (call == "POST")


@pytest.mark.parametrize("broken", BROKEN)
async def test_it_is_told_when_it_was_not_to_be_had(broken: str) -> None:
    async with calling(BROKEN[broken], retries=1) as (client, place):
        with pytest.raises(MuxiError) as caught:
            await client.create_user("usr_a")

    assert len(place.requests) == 2
    assert caught.value.retryable
    told = {"under way": ConflictError, "late": RequestTimeoutError}
    assert isinstance(caught.value, told.get(broken, ServerUnavailableError))
    if isinstance(caught.value, ServerUnavailableError) and broken != "stopping":
        assert place.url in caught.value.message


async def test_nobody_listens_there() -> None:
    async with scripted(drop) as place:
        url = place.url
    async with AsyncFormationClient(url=url, client_key=CLIENT_KEY) as client:
        with pytest.raises(ServerUnavailableError, match="cannot be reached"):
            await client.find_user("a")


NOT_AGAIN: dict[str, tuple[Behaviour, type[MuxiError]]] = {
    "a mistake of the server's": (bad(500, "INTERNAL", request_id="req_9"), InternalError),
    "forbidden": (bad(403, "FORBIDDEN"), ForbiddenError),
    "not found": (bad(404, "USER_NOT_FOUND"), UserNotFoundError),
    "nothing of ours": (raw(404, b"<html>"), ServerUnavailableError),
    "moved": (raw(307, b"", "Location: http://127.0.0.1:1/"), ServerUnavailableError),
    "a model is down": (bad(503, "MODEL_UNAVAILABLE", "Retry-After: 1"), ModelError),
    "the identity changed": (bad(409, "IDENTITY_CHANGED", "Retry-After: 1"), ConflictError),
    "a long wait": (bad(429, "RATE_LIMITED", "Retry-After: 3600", retry_after=3600), RateLimitedError),
    "newer, 404": (bad(404, "PLANET_NOT_FOUND", message="No such planet."), NotFoundError),
    "newer, 409": (bad(409, "PLANET_TAKEN", message="Taken."), ConflictError),
    "newer, 422": (bad(422, "PLANET_FLAT", message="Flat."), InvalidRequestError),
    "newer, 500": (bad(507, "PLANET_FULL", message="Full."), InternalError),
}


@pytest.mark.parametrize("name", NOT_AGAIN)
async def test_what_a_repetition_would_not_mend_is_told_at_once(name: str) -> None:
    behaviour, kind = NOT_AGAIN[name]
    async with calling(behaviour) as (client, place):
        with pytest.raises(kind) as caught:
            await client.get_user("usr_a")

    assert len(place.requests) == 1
    if name.startswith("newer"):
        assert caught.value.details["server_code"].startswith("PLANET_")
        assert type(caught.value) is kind


async def test_what_breaks_off_an_upload_is_told_as_it_is() -> None:
    async with calling(hang) as (client, place):

        async def rows() -> AsyncIterator[dict[str, Any]]:
            yield {"identifiers": ["alice@email.com"]}
            await place.arrived.wait()
            raise LookupError("the file of the caller")

        with pytest.raises(LookupError, match="the file of the caller"):
            await client.import_users(rows())
        await place.requests[0].gone.wait()


@pytest.mark.parametrize("kind", ["awaited", "iterated", "read"])
async def test_rows_that_take_their_time_are_sent_as_they_come(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_PIECE_SECONDS", 0)
    late = bad(408, "REQUEST_TIMEOUT", "Retry-After: 1", "Connection: close")

    async def answer(request: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent.set()
        await late(request, reader, writer)
        await hang(request, reader, writer)

    sent = asyncio.Event()
    row = {"identifiers": ["alice@email.com"]}
    loop = asyncio.get_running_loop()
    async with calling(answer) as (client, place):

        async def awaited() -> AsyncIterator[Any]:
            assert not place.connections
            yield row
            await sent.wait()
            yield row

        def iterated() -> Iterator[Any]:
            assert not place.connections
            yield row
            asyncio.run_coroutine_threadsafe(sent.wait(), loop).result(20)
            yield row

        class Pipe(io.RawIOBase):
            def __init__(self) -> None:
                self.rows = iterated()

            def readable(self) -> bool:
                return True

            def readinto(self, buffer: Any) -> int:
                piece = b"".join(json.dumps(each).encode() for each in islice(self.rows, 1))
                buffer[: len(piece)] = piece
                return len(piece)

        sources: dict[str, Callable[[], Any]] = {
            "awaited": awaited,
            "iterated": iterated,
            "read": lambda: io.BufferedReader(Pipe()),
        }
        with pytest.raises(RequestTimeoutError) as caught:
            await client.import_users(sources[kind]())
        assert caught.value.retryable
        assert len(place.requests) == 1
        await place.requests[0].gone.wait()


async def test_details_may_have_any_name() -> None:
    async with calling(bad(422, "INVALID_REQUEST", kind="x", self="y", code="z", args="w")) as (client, _):
        with pytest.raises(InvalidRequestError) as caught:
            await client.get_user("usr_a")
    assert caught.value.details == {"kind": "x", "self": "y", "code": "z", "args": "w"}
    assert caught.value.code == "INVALID_REQUEST"


async def test_a_server_that_says_when_is_asked_then(pauses: list[float | None]) -> None:
    busy = bad(429, "RATE_LIMITED", "Retry-After: 7", retry_after=7)
    async with calling(busy, raw(503, b"", "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT"), good(USER)) as (client, _):
        assert await client.get_user("usr_a") == USER
    assert pauses == [7.0, None]


async def test_a_write_that_the_database_may_have_done_is_not_repeated_behind_the_callers_back() -> None:
    unavailable = bad(503, "STORAGE_UNAVAILABLE", "Retry-After: 1")
    async with calling(unavailable) as (client, place):
        with pytest.raises(StorageUnavailableError):
            await client.create_user("usr_a")
        assert len(place.requests) == 1
        with pytest.raises(StorageUnavailableError):
            await client.get_user("usr_a")
        assert len(place.requests) == 4


async def test_a_server_that_does_not_answer_is_not_waited_for() -> None:
    async with calling(hang, good(USER), timeout=0.05) as (client, place):
        assert await client.get_user("usr_a") == USER
    await place.requests[0].gone.wait()
    assert len(place.requests) == 2


@contextmanager
def full_backlog() -> Iterator[str]:
    """The address of a listener whose queue is full: the kernel lets further connections wait without a word."""
    with socket.socket() as listener, ExitStack() as queue:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_no_call_waits_longer_for_a_connection_than_the_clients_timeout() -> None:
    with full_backlog() as url:
        async with AsyncFormationClient(
            url=url, admin_key=ADMIN_KEY, client_key=CLIENT_KEY, timeout=0.05, retries=1
        ) as client:
            calls: list[Awaitable[Any]] = [
                client.resolve_user("a"),
                client.chat("Hi", "a"),
                client.chat("Hi", "a", timeout=300),
                listen(client),
                client.export_user("a"),
                client.import_users([{"identifiers": ["a"]}]),
            ]
            # Far below what a chat may take beyond it; whoever waits for that instead is told so here.
            async with asyncio.timeout(20):
                told = await asyncio.gather(*calls, return_exceptions=True)
    for error in told:
        assert isinstance(error, ServerUnavailableError)
        assert "did not take a connection" in error.message or "did not answer within 0.05 s" in error.message


async def test_a_call_that_is_cancelled_hangs_up() -> None:
    async with calling(hang) as (client, place):
        task = asyncio.create_task(client.get_user("usr_a"))
        await place.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await place.requests[0].gone.wait()
        assert len(place.requests) == 1


async def test_connections_are_used_again() -> None:
    peers = set()

    async def answer(request: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername"))
        await good(FOUND)(request, reader, writer)

    async with calling(answer) as (client, place):
        for _ in range(5):
            await client.find_user("a")
    assert len(place.requests) == 5
    assert len(peers) == 1


async def test_each_call_takes_the_key_that_it_needs_and_no_other() -> None:
    async with calling(good(FOUND)) as (client, place):
        await client.find_user("a")
        with pytest.raises(ServerUnavailableError):
            await client.get_user("usr_a")
    sent = [
        {name for name in request.headers if "key" in name or name == "authorization"} for request in place.requests
    ]
    assert sent[0] == {"x-muxi-client-key"}
    assert sent[1] == {"x-muxi-admin-key"}

    async with scripted(good(FOUND)) as place, AsyncFormationClient(url=place.url, user_token="eyJ.x.y") as client:
        await client.find_user("a")
    assert place.requests[0].headers["authorization"] == "Bearer eyJ.x.y"
    assert not [name for name in place.requests[0].headers if name.startswith("x-muxi")]


async def test_both_forms_of_address() -> None:
    for tail in ("", "/", "/v1", "/v1/"):
        async with scripted(good(FOUND)) as place:
            async with AsyncFormationClient(url=place.url + tail, client_key=CLIENT_KEY) as client:
                await client.find_user("a")
            async with AsyncFormationClient(
                server_url=place.url + tail, formation_id="my formation/2", client_key=CLIENT_KEY
            ) as client:
                await client.find_user("a")
                assert client.formation_id == "my formation/2"
        assert [request.path for request in place.requests] == [
            "/v1/users/resolve",
            "/api/my%20formation%2F2/v1/users/resolve",
        ]


async def test_no_identifier_stands_in_an_address() -> None:
    async with calling(good({})) as (client, place):
        for call in (client.get_user, client.delete_user, client.get_user_identifiers, client.get_preferences):
            with pytest.raises(ServerUnavailableError):
                await call(("s3cret/identifier", "pat"))  # type: ignore[operator]
        for work in (
            client.get_user_context("s3cret", query="s3cret"),
            client.search_memories("s3cret", "s3cret"),
            client.unlink_user_identifier("s3cret"),
        ):
            with pytest.raises(ServerUnavailableError):
                await work
    assert place.requests
    assert not [request.path for request in place.requests if "s3cret" in request.path]


# Streams


async def listen(client: AsyncFormationClient) -> tuple[list[str], Any]:
    stream = client.chat_stream("Hi", "a")
    pieces = [piece async for piece in stream]
    return pieces, stream.reply


async def test_a_stream_however_it_is_cut() -> None:
    whole = b": keepalive\n\n" + token("Hé") + b"\r\n" + token("llo") + DONE
    for size in (1, 3, 7, 1000):
        cut = [whole[start : start + size] for start in range(0, len(whole), size)]
        async with calling(events(*cut)) as (client, _):
            assert await listen(client) == (["Hé", "llo"], REPLY)


async def test_a_stream_that_did_not_begin_is_begun_again_under_its_key() -> None:
    again = bad(409, "REQUEST_IN_PROGRESS", "Retry-After: 1")
    async with calling(
        drop,
        again,
        events(),
    ) as (client, place):
        with pytest.raises(ServerUnavailableError, match="before it began"):
            await listen(client)
    assert len(place.requests) == 3
    async with calling(drop, again, events(token("Hi"), DONE)) as (client, place):
        assert (await listen(client))[0] == ["Hi"]
    assert len(place.requests) == 3
    assert len({request.raw for request in place.requests}) == 1
    assert place.requests[0].key


async def test_a_stream_that_breaks_off_is_not_begun_again() -> None:
    async with calling(events(token("Hi"))) as (client, place):
        stream = client.chat_stream("Hi", "a")
        assert await anext(stream) == "Hi"
        with pytest.raises(ServerUnavailableError, match="may have been recorded"):
            await anext(stream)
        with pytest.raises(ServerUnavailableError):
            await anext(stream)
        with pytest.raises(InvalidRequestError):
            _ = stream.reply
    assert len(place.requests) == 1


async def test_errors_of_a_stream() -> None:
    late = b'event: error\ndata: {"error": "Down.", "type": "MODEL_FAILED", "details": {"a": 1}}\n\n'
    async with calling(events(token("Hi"), late)) as (client, _):
        with pytest.raises(ModelError, match="Down") as caught:
            await listen(client)
        assert caught.value.details == {"a": 1}
    async with calling(raw(403, late.replace(b"MODEL_FAILED", b"FORBIDDEN"), kind="text/event-stream")) as (client, _):
        with pytest.raises(ForbiddenError):
            await listen(client)
    for nonsense in (b"data: nonsense\n\n", b"data: 5\n\n", b'event: done\ndata: {"finished": true}\n\n'):
        async with calling(events(nonsense)) as (client, _):
            with pytest.raises(ServerUnavailableError, match="none of a formation server"):
                await listen(client)


async def test_whoever_leaves_a_stream_hangs_up() -> None:
    async with calling(events(token("Hi"), then_hang=True)) as (client, place):
        async with client.chat_stream("Hi", "a") as stream:
            assert await anext(stream) == "Hi"
        await place.requests[0].gone.wait()
        with pytest.raises(ClientClosedError):
            await anext(stream)

        dropped = client.chat_stream("Hi", "a")
        assert await anext(dropped) == "Hi"
        del dropped
        await place.requests[1].gone.wait()

        waiting = client.chat_stream("Hi", "a")
        assert await anext(waiting) == "Hi"
        task = asyncio.create_task(anext(waiting))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await place.requests[2].gone.wait()

        ended = client.chat_stream("Hi", "a")
        assert await anext(ended) == "Hi"
        await client.close()
        await place.requests[3].gone.wait()
        with pytest.raises(ClientClosedError):
            await anext(ended)


def test_an_event_that_does_not_end_is_counted() -> None:
    taken = Events()
    assert list(taken.feed(b"data: " + b"x" * 100)) == []
    assert list(taken.feed(b"\ndata: y\n")) == []
    assert taken.waiting >= 100
    assert list(taken.feed(b"\n")) == [("message", b"x" * 100 + b"\ny")]
    assert taken.waiting == 0


# What must not show


async def test_no_key_and_no_secret_shows_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "ghp_of_the_transport_tests_0123456789"
    for behaviour in (drop, raw(307, b"", "Location: /"), raw(200, b"nonsense"), bad(500, "INTERNAL")):
        async with calling(behaviour, retries=0) as (client, _):
            calls: list[Callable[[], Any]] = [
                lambda client=client: client.set_credential("a", "github", secret),  # type: ignore[misc]
                lambda client=client: client.create_user("usr_a"),  # type: ignore[misc]
                lambda client=client: listen(client),  # type: ignore[misc]
            ]
            for call in calls:
                with pytest.raises(MuxiError) as caught:
                    await call()
                told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
                frames = [
                    frame for frame in told.stack if frame.filename != __file__ and "locals" not in frame.filename
                ]
                shown = "".join(str(value) for frame in frames for value in (frame.locals or {}).values())
                shown += repr(caught.value) + repr(client.__dict__) + repr(client._lifecycle.__dict__)
                for key in (ADMIN_KEY, CLIENT_KEY, secret):
                    assert key not in shown, key
    assert not [record for record in caplog.records if "transport_tests" in record.getMessage()]
