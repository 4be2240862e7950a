"""Replies in pieces: in order, held back by their reader, recorded at the end, and not at all where nobody wants it."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator

import pytest

from muxi_identity import (
    AsyncFormationClient,
    ClientClosedError,
    Fact,
    FormationClient,
    IdentityChangedError,
    InvalidRequestError,
    ModelError,
    ModelTimeoutError,
    Response,
    Turn,
    UserNotFoundError,
)
from muxi_identity.config import FormationConfig
from tests.formations import client_of, dump, rows_of
from tests.invariants import check_invariants


class Words:
    """Says ten words, and stops in the middle where the message says how."""

    restartable = True

    def __init__(self) -> None:
        self.given = 0
        self.ended = threading.Event()
        self.halfway = asyncio.Event()
        self.go_on = asyncio.Event()

    async def respond(self, turn: Turn) -> Response:
        raise AssertionError("it is asked for pieces")

    async def stream(self, turn: Turn) -> AsyncIterator[str | Response]:
        try:
            for n in range(10):
                if n == 5:
                    self.halfway.set()
                    await self.stop(turn.message)
                self.given += 1
                yield f"{n} "
            learned = [Fact("count", "My count is ten", "ten")]
            if turn.message != "no response":
                yield Response("0 1 2 3 4 5 6 7 8 9 ", learned)
        finally:
            self.ended.set()

    async def stop(self, how: str) -> None:
        match how:
            case "fail":
                raise ModelError("It broke off.")
            case "wait":
                await self.go_on.wait()
            case "interrupt":
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, signal.SIGINT)
                await self.go_on.wait()


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture
async def client(database_config: FormationConfig, words: Words) -> AsyncIterator[AsyncFormationClient]:
    async with AsyncFormationClient(database_config, responder=words) as client:
        await client.resolve_user("alice", create_user=True)
        yield client


async def read(stream: AsyncIterator[str], pieces: list[str]) -> None:
    async for piece in stream:
        pieces.append(piece)


async def test_the_pieces_come_in_order_and_the_turn_is_recorded_at_the_end(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    before = await dump(database_config)
    stream = client.chat_stream("Count", "alice", session_id="s-1")
    pieces = []
    async for piece in stream:
        pieces.append(piece)
        if len(pieces) == 10:
            assert await dump(database_config) == before
            with pytest.raises(InvalidRequestError, match="come to its end"):
                _ = stream.reply

    assert pieces == [f"{n} " for n in range(10)]
    assert stream.reply.text == "".join(pieces)
    assert (stream.reply.session_id, stream.reply.user_id[:4]) == ("s-1", "usr_")
    page = await client.get_session_messages("s-1", "alice")
    assert [each["content"] for each in page["messages"]] == ["Count", stream.reply.text]
    assert [each["value"] for each in (await client.list_memories("alice"))["memories"]] == ["ten"]
    assert [piece async for piece in stream] == []  # it stays at its end
    await stream.aclose()
    assert stream.reply.text
    await check_invariants(database_config)


async def test_nothing_is_computed_before_it_is_asked_for(client: AsyncFormationClient, words: Words) -> None:
    stream = client.chat_stream("Count", "alice")
    await client.list_users()
    assert words.given == 0
    assert await anext(stream) == "0 "
    await client.list_users()
    assert words.given == 1  # and no further than it was asked for
    await stream.aclose()


async def test_a_stream_that_is_left_records_nothing(
    client: AsyncFormationClient, words: Words, database_config: FormationConfig
) -> None:
    before = await dump(database_config)

    async with client.chat_stream("Count", "alice") as stream:
        async for piece in stream:
            if piece == "9 ":  # also at the very last piece: its end was not asked for
                break
    assert words.ended.is_set()
    with pytest.raises(ClientClosedError):
        await anext(stream)

    words.ended.clear()
    stream = client.chat_stream("Count", "alice")
    await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert words.ended.is_set()

    unread = client.chat_stream("Count", "alice")
    await unread.aclose()
    with pytest.raises(ClientClosedError):
        await anext(unread)
    assert await dump(database_config) == before


async def test_a_reader_who_is_cancelled_ends_the_turn(
    client: AsyncFormationClient, words: Words, database_config: FormationConfig
) -> None:
    before = await dump(database_config)

    async def read() -> None:
        async for _ in client.chat_stream("wait", "alice"):
            pass

    reader = asyncio.create_task(read())
    await words.halfway.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert words.ended.is_set()
    assert await dump(database_config) == before


async def test_a_stream_that_nobody_holds_ends(client: AsyncFormationClient, words: Words) -> None:
    stream = client.chat_stream("Count", "alice")
    await anext(stream)
    del stream
    gc.collect()
    assert await asyncio.to_thread(words.ended.wait, 30)


async def test_a_stream_that_fails_records_nothing(
    client: AsyncFormationClient, database_config: FormationConfig
) -> None:
    before = await dump(database_config)
    for message, error in (("fail", ModelError), ("no response", ModelError)):
        stream = client.chat_stream(message, "alice")
        pieces: list[str] = []
        with pytest.raises(error):
            await read(stream, pieces)
        assert pieces[:5] == ["0 ", "1 ", "2 ", "3 ", "4 "]
        with pytest.raises(error):
            await anext(stream)
    stream = client.chat_stream("wait", "alice", timeout=0.1)
    with pytest.raises(ModelTimeoutError):
        async for _ in stream:
            pass
    with pytest.raises(UserNotFoundError):
        await anext(client.chat_stream("Count", "usr_nobody"))
    assert await dump(database_config) == before


async def test_a_turn_is_not_told_to_somebody_else(
    client: AsyncFormationClient, words: Words, database_config: FormationConfig
) -> None:
    stream = client.chat_stream("wait", "alice")
    pieces = [await anext(stream) for _ in range(5)]
    async with client_of(database_config) as other:
        await other.unlink_user_identifier("alice", force=True)
        await other.resolve_user("alice", create_user=True)
    words.go_on.set()
    with pytest.raises(IdentityChangedError):
        await read(stream, pieces)
    assert len(pieces) == 10  # it was restartable, but somebody had read it
    assert rows_of(await dump(database_config), "muxi_messages") == []
    await check_invariants(database_config)


async def test_one_reader_at_a_time(client: AsyncFormationClient, words: Words) -> None:
    stream = client.chat_stream("wait", "alice")
    for _ in range(5):
        await anext(stream)
    first = asyncio.create_task(stream.__anext__())
    await words.halfway.wait()
    with pytest.raises(InvalidRequestError, match="one reader"):
        await anext(stream)
    words.go_on.set()
    assert await first == "5 "
    await stream.aclose()


async def test_closing_the_client_ends_its_streams(database_config: FormationConfig, words: Words) -> None:
    client = AsyncFormationClient(database_config, responder=words)
    stream = client.chat_stream("wait", "alice")
    await anext(stream)
    await client.close()
    assert words.ended.is_set()
    with pytest.raises(ClientClosedError):
        await anext(stream)
    with pytest.raises(ClientClosedError):
        await anext(client.chat_stream("Count", "alice"))


async def test_a_responder_without_pieces_gives_one(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        stream = client.channel("slack").chat_stream("My budget is $5,000", "U1")
        assert [piece async for piece in stream] == ["Got it: your budget is $5,000."]
        assert str(await client.chat("What's my budget?", ("U1", "slack"))) == "Your budget is $5,000."


def test_the_synchronous_stream(database_config: FormationConfig, words: Words) -> None:
    with FormationClient(database_config, responder=words) as client:
        stream = client.chat_stream("Count", "alice", session_id="s-1")
        assert "".join(stream) == stream.reply.text == "0 1 2 3 4 5 6 7 8 9 "
        assert client.get_session_messages("s-1", "alice")["count"] == 2
        for leave in ("break", "close", "with"):
            words.ended.clear()
            stream = client.chat_stream("Count", "alice", session_id="s-2")
            if leave == "with":
                with stream:
                    next(stream)
            elif leave == "close":
                next(stream)
                stream.close()
            else:
                for _ in stream:
                    break
                del stream
                gc.collect()
            assert words.ended.wait(30)
        assert client.list_sessions("alice")["count"] == 1


def test_an_interrupt_ends_the_turn(database_config: FormationConfig, words: Words) -> None:
    with FormationClient(database_config, responder=words) as client:
        # The signal may come while it waits for a piece, or between two of them.
        with pytest.raises(KeyboardInterrupt), client.chat_stream("interrupt", "alice", session_id="s-1") as stream:
            for _ in stream:
                pass
        assert words.ended.wait(30)
        with pytest.raises(ClientClosedError):
            next(stream)
        assert client.list_sessions("alice")["count"] == 0


def test_closing_the_client_ends_a_synchronous_stream(database_config: FormationConfig, words: Words) -> None:
    client = FormationClient(database_config, responder=words)
    stream = client.chat_stream("Count", "alice")
    next(stream)
    client.close()
    assert words.ended.is_set()
    with pytest.raises(ClientClosedError):
        next(stream)
