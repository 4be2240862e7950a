"""A real model path: an OpenAI-compatible HTTP server answers, and everything that it may get wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from muxi_identity import (
    AsyncFormationClient,
    ConfigurationError,
    CredentialNotFoundError,
    FormationClient,
    InvalidRequestError,
    ModelError,
    ModelResponder,
    ModelTimeoutError,
    ModelUnavailableError,
    MuxiError,
    TooLargeError,
    TurnTools,
)
from muxi_identity.config import FormationConfig, ModelConfig, Secret
from muxi_identity.conversation.model import patience
from tests.formations import dump
from tests.invariants import check_invariants
from tests.model_server import (
    KEY,
    Answer,
    ModelServer,
    calls,
    drops,
    drops_midway,
    fails,
    hangs,
    model_server,
    raw,
    says,
    streams,
)

TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
AT_ONCE = {"Retry-After": "0"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    monkeypatch.setattr(patience, "PAUSE", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    with model_server() as server:
        yield server


@pytest.fixture
async def client(database_config: FormationConfig, server: ModelServer) -> AsyncIterator[AsyncFormationClient]:
    async with AsyncFormationClient(with_model(database_config, server)) as client:
        yield client


def with_model(config: FormationConfig, server: ModelServer, **changes: Any) -> FormationConfig:
    model = ModelConfig(
        "openai:small", api_key=Secret(KEY), base_url=server.url, instructions="Be brief.", timeout=20, **changes
    )
    return dataclasses.replace(config, model=model)


async def streamed(client: AsyncFormationClient, message: str, user_id: str, **arguments: Any) -> str:
    return "".join([piece async for piece in client.chat_stream(message, user_id, **arguments)])


async def test_a_plain_reply(client: AsyncFormationClient, server: ModelServer) -> None:
    server.will(says("Hello Ada."), says("Again."))
    reply = await client.chat("Hi, who are you?", "alice")
    again = await client.chat("And now?", "alice")

    assert (reply.text, again.text, again.session_id) == ("Hello Ada.", "Again.", reply.session_id)
    asked = server.last
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body["model"] == "small"
    assert asked.body["max_completion_tokens"] == 2_000
    system, first, second, context, message = asked.messages
    assert (system["role"], system["content"].split("\n")[0]) == ("system", "Be brief.")
    assert (first["role"], first["content"]) == ("user", "Hi, who are you?")
    assert (second["role"], second["content"]) == ("assistant", "Hello Ada.")
    assert "BEGIN CONTEXT" in context["content"]
    assert (message["role"], message["content"]) == ("user", "And now?")


async def test_no_tool_names_a_user(client: AsyncFormationClient, server: ModelServer) -> None:
    await client.chat("Hi", "alice")
    assert set(server.last.tools) == {
        "remember", "recall", "forget", "set_preference", "schedule_task", "note_topic",
    }  # fmt: skip
    arguments = {name: set(tool["parameters"]["properties"]) for name, tool in server.last.tools.items()}
    assert arguments == {
        "remember": {"content", "key", "value"},
        "recall": {"query", "limit"},
        "forget": {"what"},
        "set_preference": {"key", "value"},
        "schedule_task": {"message", "cron", "at", "timezone"},
        "note_topic": {"text"},
    }
    assert all(tool["parameters"]["additionalProperties"] is False for tool in server.last.tools.values())


async def test_every_tool_does_what_it_says(
    client: AsyncFormationClient, server: ModelServer, database_config: FormationConfig
) -> None:
    await client.add_memory("alice", "Bought an espresso machine in May")
    server.will(
        calls(
            (
                "remember",
                {"content": "My Favourite Colours are red", "key": "Favourite Colours", "value": "red"},
            ),
            ("remember", {"content": "Plays the cello"}),
            ("recall", {"query": "espresso"}),
            ("set_preference", {"key": "language", "value": "de"}),
            ("schedule_task", {"message": "Say hello", "cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"}),
            ("note_topic", {"text": "coffee"}),
            text="One moment.",
        ),
        calls(("forget", {"what": "espresso machine"}), ("recall", {"query": "elephants", "limit": 3})),
        says("All done."),
    )
    reply = await client.chat("Please do", "alice")

    assert reply.text == "One moment.\n\nAll done."
    assert len(server.requests) == 3
    recalled, forgotten = server.last.results[2], server.last.results[6]
    assert "Bought an espresso machine in May" in recalled
    assert "Bought an espresso machine in May" in forgotten
    assert server.last.results[7] == "Nothing is remembered of that."
    memories = (await client.list_memories("alice"))["memories"]
    assert {(each["type"], each["key"], each["content"]) for each in memories} == {
        ("fact", "favorite color", "My Favourite Colours are red"),  # as the offline responder keeps it
        ("note", None, "Plays the cello"),
    }
    assert await client.get_preferences("alice") == {"language": "de"}
    assert [each["message"] for each in (await client.list_tasks("alice"))["tasks"]] == ["Say hello"]
    assert "coffee" in {each["content"] for each in await client.get_working_memory("alice")}
    await check_invariants(database_config)


async def test_what_a_tool_refuses_is_told_to_the_model(client: AsyncFormationClient, server: ModelServer) -> None:
    server.will(
        calls(
            ("remember", {"content": f"My token is {TOKEN}"}),
            ("schedule_task", {"message": "x", "cron": "now and then"}),
            ("remember", {"content": 5}),
            ("recall", {"query": "x", "user_id": "usr_bob"}),
            ("remember", "{oops"),
            ("no_such_tool", {}),
        ),
        says("I see."),
    )
    assert (await client.chat("Go", "alice")).text == "I see."
    assert all("error" in result for result in server.last.results)
    assert "nothing was kept" in server.last.results[0]
    assert (await client.list_memories("alice"))["count"] == 0


async def test_a_reply_in_pieces(client: AsyncFormationClient, server: ModelServer) -> None:
    server.will(calls(("remember", {"content": "Plays the cello"}), text="Let me see."), says("I will remember that."))
    stream = client.chat_stream("I play the cello", "alice")
    pieces = [piece async for piece in stream]

    assert pieces[:3] == ["Let", " me", " see."]
    assert "".join(pieces) == stream.reply.text == "Let me see.\n\nI will remember that."
    page = await client.get_session_messages(stream.reply.session_id, "alice")
    assert [each["content"] for each in page["messages"]] == ["I play the cello", stream.reply.text]
    assert [each["content"] for each in (await client.list_memories("alice"))["memories"]] == ["Plays the cello"]


WHOLE: dict[str, tuple[list[Answer], type[MuxiError], int]] = {
    "a wrong key": ([fails(401)], ModelError, 1),
    "forbidden": ([fails(403)], ModelError, 1),
    "no such model": ([fails(404)], ModelError, 1),
    "no credit": ([fails(402)], ModelError, 1),
    "rejected": ([fails(400)], ModelError, 1),
    "rate limited": ([fails(429, AT_ONCE)] * 3, ModelUnavailableError, 3),
    "rate limited for longer than the turn": ([fails(429, {"Retry-After": "60"})], ModelUnavailableError, 1),
    "server error": ([fails(500, AT_ONCE)] * 3, ModelUnavailableError, 3),
    "server error without a hint": ([fails(503)] * 3, ModelUnavailableError, 3),
    "hung up": ([drops()] * 3, ModelUnavailableError, 3),
    "no JSON": ([raw(b"{nope")], ModelError, 1),
    "a page": ([raw(b"<html>Bad gateway</html>")], ModelError, 1),
    "nothing": ([raw(b"")], ModelError, 1),
    "a list": ([raw(b"[]")], ModelError, 1),
    "null": ([raw(b"null")], ModelError, 1),
    "no choices": ([raw(b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[]}')], ModelError, 1),
    "a choice that is none": ([raw(b'{"choices":[{"message":5}]}')], ModelError, 1),
    "empty again and again": ([says("")] * 3, ModelError, 3),
    "a tool that is none, again and again": ([calls(("nope", {}))] * 3, ModelError, 3),
    "wrong arguments, again and again": ([calls(("recall", {"user_id": "usr_x"}))] * 3, ModelError, 3),
    "arguments that are no text": ([calls(("remember", "\ud800"))], ModelError, 1),
    "tools without end": ([calls(("remember", {"content": "Plays the cello"}))] * 9, ModelError, 8),
    "too long for it": ([fails(400, content={"error": {"code": "context_length_exceeded"}})], TooLargeError, 1),
}
SAYS_X = {"choices": [{"index": 0, "delta": {"content": "x"}}]}


def calls_in_pieces(**wrong: Any) -> Answer:
    """Stream a call of a tool, a part of which has the wrong shape."""
    function = {"name": wrong.pop("name", "recall"), "arguments": "{}"}
    call = {"index": 0, "id": "call_0", "type": "function", "function": function, **wrong}
    return streams({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]})


PIECES: dict[str, tuple[list[Answer], type[MuxiError], int]] = {
    "broken off": ([drops_midway("a", "b")], ModelUnavailableError, 1),
    "broken off in chunks": ([drops_midway("a", "b", chunked=True)], ModelUnavailableError, 1),
    "an event that is no JSON": (
        [streams(SAYS_X, "{no")],
        ModelError,
        1,
    ),
    "an event of the wrong shape": ([streams({"choices": 5})], ModelError, 1),
    "a call whose id is a list": ([calls_in_pieces(id=[1])], ModelError, 1),
    "a call whose tool is a number": ([calls_in_pieces(name=5)], ModelError, 1),
    "an error in the stream": ([streams({"error": {"message": f"overloaded, {KEY}"}})], ModelError, 1),
    "an empty stream": ([streams("[DONE]")] * 3, ModelError, 1),
}


async def test_a_model_that_fails_leaves_nothing_and_shows_nothing(
    client: AsyncFormationClient,
    server: ModelServer,
    database_config: FormationConfig,
    caplog: pytest.LogCaptureFixture,
    subtests: pytest.Subtests,
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)
    await client.chat("My memory is good", "alice")
    before = await dump(database_config)
    shown: list[str] = [repr(client._lifecycle.config), repr(client._lifecycle.open_formation)]
    for streaming, cases in ((False, WHOLE), (True, WHOLE | PIECES)):
        for name, (answers, kind, requests) in cases.items():
            with subtests.test(name, streaming=streaming):
                server.forget()
                server.will(*answers)
                with pytest.raises(MuxiError) as raised:
                    await (streamed if streaming else client_chat)(client, "PROMPT-MARKER", "alice")
                error = raised.value
                assert type(error) is kind
                assert error.retryable == (kind is ModelUnavailableError)
                assert len(server.requests) == requests
                shown += [str(error), repr(error), repr(error.details), *traceback.format_exception(error)]
                seen: BaseException | None = error
                while seen is not None:
                    shown.append(repr(seen))
                    seen = seen.__cause__ or seen.__context__
        assert await dump(database_config) == before
    server.forget()
    server.will(says("Back again."))
    assert (await client.chat("Hi", "alice")).text == "Back again."
    assert len(caplog.records) > 100  # every library was listened to
    for text in (caplog.text, "".join(shown), repr(await dump(database_config, formation_only=False))):
        assert KEY not in text
    assert "PROMPT-MARKER" not in caplog.text
    assert "PROMPT-MARKER" not in "".join(line for line in shown if "client_chat" not in line)


async def client_chat(client: AsyncFormationClient, message: str, user_id: str) -> str:
    return (await client.chat(message, user_id)).text


async def test_it_asks_again_where_that_helps(client: AsyncFormationClient, server: ModelServer) -> None:
    server.will(fails(429, AT_ONCE), fails(500), says("There."))
    assert (await client.chat("Hi", "alice")).text == "There."
    server.will(fails(503, AT_ONCE), drops(), says("There again."))
    assert await streamed(client, "Hi", "alice") == "There again."
    assert len(server.requests) == 6


async def test_how_long_to_wait_is_told(client: AsyncFormationClient, server: ModelServer) -> None:
    server.will(fails(429, {"Retry-After": "60"}))
    with pytest.raises(ModelUnavailableError) as raised:
        await client.chat("Hi", "alice")
    assert raised.value.retry_after == 60


async def test_a_silent_model_times_out(
    client: AsyncFormationClient, server: ModelServer, database_config: FormationConfig
) -> None:
    await client.resolve_user("alice", create_user=True)
    before = await dump(database_config)
    server.will(hangs(server.released), hangs(server.released), hangs(server.released, "Well"))
    with pytest.raises(ModelTimeoutError):
        await client.chat("Hi", "alice", timeout=0.2)
    with pytest.raises(ModelTimeoutError):
        await streamed(client, "Hi", "alice", timeout=0.2)
    stream = client.chat_stream("Hi", "alice", timeout=2)  # enough for the first piece on a busy machine
    assert await anext(stream) == "Well"
    with pytest.raises(ModelTimeoutError):
        await anext(stream)
    assert await dump(database_config) == before


async def test_the_time_out_of_the_configuration_holds(database_config: FormationConfig, server: ModelServer) -> None:
    config = with_model(database_config, server)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, timeout=0.2))
    server.will(hangs(server.released))
    async with AsyncFormationClient(config) as client:
        with pytest.raises(ModelTimeoutError, match=r"within 0\.2 seconds"):
            await client.chat("Hi", "alice")


async def test_a_turn_that_is_cancelled_leaves_nothing(
    client: AsyncFormationClient, server: ModelServer, database_config: FormationConfig
) -> None:
    await client.resolve_user("alice", create_user=True)
    before = await dump(database_config)
    server.will(hangs(server.released))
    turn = asyncio.create_task(client.chat("Hi", "alice"))
    await asyncio.to_thread(server.wait_for, 1)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert await dump(database_config) == before


async def test_what_is_too_long_for_the_model_is_refused(database_config: FormationConfig, server: ModelServer) -> None:
    async with AsyncFormationClient(with_model(database_config, server, context_tokens=4_000)) as client:
        with pytest.raises(TooLargeError) as raised:
            await client.chat("x" * 20_000, "alice")
        assert 0 < raised.value.limit < 4_000
        assert server.requests == []
        assert (await client.chat("x" * 1_000, "alice")).text == "Hello from the model."


async def test_a_prompt_keeps_to_its_budget(database_config: FormationConfig, server: ModelServer) -> None:
    async with AsyncFormationClient(with_model(database_config, server, context_tokens=4_000)) as client:
        await client.set_preference("alice", "language", "de")
        for n in range(30):
            await client.add_memory("alice", f"Memory {n}: " + "word " * 50)
        for n in range(12):
            server.will(says("answer " * 60))
            await client.chat(f"Question {n}: " + "word " * 60, "alice")
        sent = server.last
    assert len(sent.text.encode()) / 3 < 4_000
    assert "language: de" in sent.text
    assert "Question 11" in sent.text
    assert "Question 0:" not in sent.text


async def test_tools_of_the_host_act_for_the_person(database_config: FormationConfig, server: ModelServer) -> None:
    revealed: list[str] = []

    async def open_issues(tools: TurnTools, repository: str) -> str:
        """List the person's open issues.

        Args:
            tools: The turn's tools.
            repository: Which repository.
        """
        try:
            secret = await tools.credential("github")
        except CredentialNotFoundError as error:
            return error.code
        revealed.append(secret.reveal())
        return f"{repository}: 3 open, asked with {secret.reveal()}"

    def add(tools: TurnTools, one: int, other: int = 2) -> dict[str, int]:
        """Add two numbers."""
        return {"sum": one + other}

    def breaks(tools: TurnTools) -> str:
        """Break."""
        raise RuntimeError(f"https://user:{TOKEN}@example.com failed")

    def no_text(tools: TurnTools) -> object:
        """Return what is no text."""
        return object()

    config = with_model(database_config, server)
    responder = ModelResponder(
        "openai:small", api_key=KEY, base_url=server.url, tools=[open_issues, add, breaks, no_text]
    )
    wanted = calls(
        ("open_issues", {"repository": "a/b"}),
        ("add", {"one": 1}),
        ("breaks", {}),
        ("no_text", {}),
        ("add", {"one": "x"}),
    )
    async with AsyncFormationClient(config, responder=responder) as client:
        await client.set_credential("alice", "github", TOKEN)
        server.will(wanted, says("Done."), wanted, says("Done."))
        assert (await client.chat("Go", "alice")).text == "Done."
        assert server.last.results[0] == "a/b: 3 open, asked with [secret]"
        assert server.last.results[1] == '{"sum":3}'
        assert server.last.results[2] == '{"error":"breaks failed (RuntimeError)."}'
        assert "error" in server.last.results[3]
        assert "error" in server.last.results[4]
        assert (await client.chat("Go", "alice", audience="shared")).text == "Done."
        assert server.last.results[0] == "CREDENTIAL_NOT_FOUND"
    await responder.aclose()
    assert revealed == [TOKEN]
    assert TOKEN not in server.everything
    tool = server.last.tools["open_issues"]
    assert list(tool["parameters"]["properties"]) == ["repository"]
    assert "List the person's open issues." in tool["description"]


async def test_what_tools_answer_has_room_of_its_own(database_config: FormationConfig, server: ModelServer) -> None:
    def long(tools: TurnTools) -> str:
        """Answer at length."""
        return "word " * 2_000

    responder = ModelResponder("openai:small", api_key=KEY, base_url=server.url, tools=[long], context_tokens=8_000)
    async with AsyncFormationClient(database_config, responder=responder) as client:
        server.will(calls(*[("long", {})] * 12), says("Done."))
        await client.chat("Go", "alice")
    await responder.aclose()
    assert server.last.results[0].endswith("[cut]")
    assert "no room" in server.last.results[-1]
    assert len(server.last.text.encode()) / 3 < 8_000


async def test_the_synopsis_is_written_by_the_model(client: AsyncFormationClient, server: ModelServer) -> None:
    await client.add_memory("alice", "My name is Ada", key="name", value="Ada", type="fact")
    server.will(says("Ada is a pianist."))
    assert (await client.get_synopsis("alice"))["text"] == "Ada is a pianist."
    assert "My name is Ada" in server.last.text
    assert "tools" not in server.last.body
    assert (await client.get_synopsis("alice"))["text"] == "Ada is a pianist."
    assert len(server.requests) == 1  # it is kept
    await client.set_preference("alice", "language", "de")
    server.will(fails(401))
    assert "Ada" in (await client.get_synopsis("alice"))["text"]  # by the plain rules


async def test_any_model_of_pydantic_ai_will_do(database_config: FormationConfig) -> None:
    asked: list[list[ModelMessage]] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(messages)
        return ModelResponse(parts=[TextPart("Hello from a function.")])

    async with AsyncFormationClient(database_config, responder=ModelResponder(FunctionModel(answer))) as client:
        assert (await client.chat("Hi", "alice")).text == "Hello from a function."
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("nobody:small", {}, "nobody:small"),
        ("anthropic:claude", {}, "anthropic"),
        ("openai:gpt", {"api_key": None}, "OPENAI_API_KEY"),
        ("openai:gpt", {"base_url": "http://localhost", "context_tokens": 1_000}, "context_tokens"),
    ],
)
def test_a_model_that_cannot_be_used_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, name: str, arguments: dict[str, Any], told: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=told) as raised:
        ModelResponder(name, **{"api_key": KEY, **arguments})
    assert KEY not in str(raised.value)


def test_a_tool_that_cannot_be_offered_is_told_at_once() -> None:
    def nothing() -> str:
        return ""

    def remember(tools: TurnTools) -> str:
        return ""

    def strange(tools: TurnTools, what: Unknown) -> str:  # type: ignore[name-defined]  # noqa: F821
        return ""

    def unreadable(tools: TurnTools, what: asyncio.Lock) -> str:
        return ""

    for tool in (nothing, remember, strange, unreadable):
        with pytest.raises(ConfigurationError):
            ModelResponder("openai:small", base_url="http://127.0.0.1:1/v1", tools=[tool])


async def test_a_missing_extra_is_told(database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in list(sys.modules):
        if name == "pydantic_ai" or name.startswith(("pydantic_ai.", "muxi_identity.conversation.model.agent")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    config = dataclasses.replace(database_config, model=ModelConfig("openai:small", api_key=Secret(KEY)))
    async with AsyncFormationClient(database_config) as offline:
        await offline.chat("Hi", "alice")
    with pytest.raises(ConfigurationError, match=r"pip install 'muxi-identity\[llm\]'"):
        await AsyncFormationClient(config).chat("Hi", "alice")


async def test_a_session_that_was_restored_gives_no_instructions(
    client: AsyncFormationClient, server: ModelServer
) -> None:
    await client.restore_session(
        "s-1",
        "alice",
        [
            {"role": "system", "content": "SYSTEM-MARKER"},
            {"role": "user", "content": "Hello"},
            {"role": "tool", "content": "TOOL-MARKER"},
            {"role": "assistant", "content": "Hi"},
        ],
    )
    await client.chat("And?", "alice", session_id="s-1")
    assert "MARKER" not in server.last.text
    assert [each["content"] for each in server.last.messages[1:3]] == ["Hello", "Hi"]


async def test_bad_input_asks_no_model(client: AsyncFormationClient, server: ModelServer) -> None:
    with pytest.raises(InvalidRequestError):
        await client.chat(" ", "alice")
    assert server.requests == []


def echoes() -> Answer:
    """Answer with the message itself."""
    return lambda exchange: says(exchange.received.messages[-1]["content"])(exchange)


def own_words(client: FormationClient, name: str) -> list[str]:
    """Say ten things, and return what was answered with something else."""
    said = [f"{name} {number}" for number in range(10)]
    return [reply for word in said if (reply := str(client.chat(word, name))) != word]


def test_one_responder_serves_several_loops(server: ModelServer) -> None:
    server.always(echoes())
    responder = ModelResponder("openai:small", api_key=KEY, base_url=server.url, timeout=20)
    with (
        FormationClient.ephemeral(responder=responder) as one,
        FormationClient.ephemeral(responder=responder) as other,
        ThreadPoolExecutor(6) as pool,
    ):
        wrong = pool.map(own_words, [one, other] * 3, [f"user{number}" for number in range(6)])
        assert list(wrong) == [[]] * 6
        for client in (one, other):
            client._run(responder.aclose())  # on the loop that its connections belong to


def test_a_fork_speaks_over_connections_of_its_own(server: ModelServer, tmp_path: Path) -> None:
    server.always(echoes())
    script = f"""
import logging, os, sys
from muxi_identity import FormationClient, ModelResponder
responder = ModelResponder("openai:small", api_key={KEY!r}, base_url={server.url!r}, timeout=20)
client = FormationClient.ephemeral(responder=responder)
assert str(client.chat("before", "alice")) == "before"  # its connection is kept open
child = os.fork()
name = "parent" if child else "child"
for number in range(10):
    assert str(client.chat(f"{{name}} {{number}}", name)) == f"{{name}} {{number}}"
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
