"""The chat turn: what it starts from, what it leaves, and that it leaves all of it or nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from muxi_identity import (
    AsyncFormationClient,
    AudienceMismatchError,
    CredentialNotFoundError,
    Fact,
    IdentityChangedError,
    InvalidRequestError,
    InvalidScheduleError,
    ModelError,
    ModelTimeoutError,
    Response,
    SecretRefusedError,
    TooLargeError,
    Turn,
)
from muxi_identity.config import FormationConfig
from tests.formations import client_of, dump, rows_of
from tests.invariants import check_invariants

TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"


class Scripted:
    """Does in its turn what a test says."""

    def __init__(self, act: Callable[[Turn], Awaitable[Response]], *, restartable: bool = True) -> None:
        self.act = act
        self.restartable = restartable
        self.turns: list[Turn] = []

    async def respond(self, turn: Turn) -> Response:
        self.turns.append(turn)
        return await self.act(turn)


async def said(client: AsyncFormationClient, user_id: str, session_id: str) -> list[tuple[str, str]]:
    page = await client.get_session_messages(session_id, user_id)
    return [(each["role"], each["content"]) for each in page["messages"]]


async def test_a_turn_leaves_messages_facts_and_what_went_on(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        reply = await client.chat("My budget is $5,000 and I live in Oslo.", "alice")
        working = await client.get_working_memory("alice")
        memories = (await client.list_memories("alice"))["memories"]
        messages = await said(client, "alice", reply.session_id)

    assert messages == [("user", "My budget is $5,000 and I live in Oslo."), ("assistant", reply.text)]
    assert {(each["type"], each["key"], each["value"]) for each in memories} == {
        ("fact", "budget", "$5,000"),
        ("fact", "live in", "Oslo"),
    }
    assert {(each["kind"], each["content"]) for each in working} == {
        ("fact", "My budget is $5,000"), ("fact", "I live in Oslo"), ("topic", "budget"), ("topic", "live in"),
    }  # fmt: skip
    assert not any(each["shareable"] for each in [*memories, *working])
    assert reply.request_id.startswith("req_")
    await check_invariants(database_config)


async def test_what_was_asked_about_is_a_topic(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        await client.chat("What's my shoe size?", "alice")
        assert [(each["kind"], each["content"]) for each in await client.get_working_memory("alice")] == [
            ("topic", "shoe size")
        ]


async def test_a_secret_is_neither_learned_nor_kept_in_the_messages(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        password = await client.chat("My wi-fi password is hunter2xyz. My budget is $5.", "alice")
        token = await client.chat(f"My token is {TOKEN}", "alice")
        asked = await client.chat("What is my wi-fi password?", "alice")

    assert password.text == "Got it: your budget is $5. I don't keep keys or passwords in memory."
    assert token.text == "I don't keep keys or passwords in memory."
    assert asked.text == "I don't have that information."
    kept = repr(await dump(database_config))
    assert "hunter2xyz" not in kept
    assert TOKEN not in kept
    assert TOKEN[4:20] not in kept


async def test_no_responder_can_have_a_secret_remembered(database_config: FormationConfig) -> None:
    async def careless(turn: Turn) -> Response:
        learned = [Fact("token", f"My token is {TOKEN}", TOKEN), Fact("colour", "My colour is red", "red")]
        return Response(f"Noted: {TOKEN}", learned, topics=[f"the key {TOKEN}", "colours"])

    async with AsyncFormationClient(database_config, responder=Scripted(careless)) as client:
        reply = await client.chat("Hello", "alice")
        memories = (await client.list_memories("alice"))["memories"]

    assert reply.text == f"Noted: {TOKEN}"  # what is said is said; what is kept is not
    assert [each["key"] for each in memories] == ["colour"]
    assert TOKEN not in repr(await dump(database_config))


async def test_forget_everything_is_everything_that_is_remembered(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        await client.chat("My budget is $5,000. I like tea.", "alice")
        await client.add_memory("alice", "Met at the fair in Lyon")
        linked = await client.associate_user_identifiers(["alice", ("A1", "slack")])
        await client.chat("I live in Oslo", ("A1", "slack"))
        await client.chat("My budget is $1", "bob")
        forgotten = await client.chat("Please forget everything about me. My name is Ada.", "alice")
        left = (await client.list_memories(linked["muxi_user_id"]))["memories"]
        working = await client.get_working_memory("alice")
        bob = (await client.list_memories("bob"))["memories"]

    assert forgotten.text == "Got it: your name is Ada."
    assert [each["content"] for each in left] == ["My name is Ada"]
    assert [each["content"] for each in working if each["kind"] == "fact"] == ["My name is Ada"]
    assert [each["content"] for each in bob] == ["My budget is $1"]


async def test_what_is_forgotten_is_not_found_in_what_went_on(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        await client.chat("My shoe size is 42. My budget is $5.", "alice")
        await client.chat("Forget my shoe size", "alice")
        assert "42" not in str(await client.get_user_context("alice"))
        assert "$5" in str(await client.get_user_context("alice"))


async def test_what_is_said_in_private_is_not_used_in_public(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        private = await client.chat("My budget is $5,000", "alice")
        asked = await client.chat("What's my budget?", "alice", audience="shared")
        told = await client.chat("My colour is red", "alice", audience="shared")
        again = await client.chat("What's my colour?", "alice", audience="shared")
        in_private = await client.chat("What's my colour?", "alice")
        for session_id, audience in ((private.session_id, "shared"), (told.session_id, "private")):
            with pytest.raises(AudienceMismatchError):
                await client.chat("Hi", "alice", session_id=session_id, audience=audience)

    assert asked.text == "I don't have that information."
    assert private.session_id not in (asked.session_id, told.session_id)
    assert asked.session_id == told.session_id == again.session_id
    assert again.text == in_private.text == "Your colour is red."
    assert in_private.session_id == private.session_id


async def test_first_turns_at_the_same_time_begin_one_session(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        replies = await asyncio.gather(*(client.chat(f"My thing {n} is {n}", "alice") for n in range(8)))
        assert len({reply.session_id for reply in replies}) == 1
        assert len({reply.user_id for reply in replies}) == 1
        assert (await client.get_session_messages(replies[0].session_id, "alice"))["count"] == 16
        assert (await client.list_memories("alice"))["count"] == 8
    await check_invariants(database_config)


async def test_the_tools_of_a_turn_are_recorded_with_it(database_config: FormationConfig) -> None:
    async def busy(turn: Turn) -> Response:
        tools = turn.tools
        assert tools is not None
        await tools.remember("My shoe size is 42", key="shoe size", value="42", type="fact")
        await tools.remember("Likes long walks")
        await tools.set_preference("language", "de")
        await tools.schedule_task("Say hello", cron="0 9 * * *", timezone="Europe/Berlin")
        await tools.note_topic("planning a trip to Japan")
        assert (await client.list_memories("alice"))["memories"] == []  # not before the turn is recorded
        return Response("Done.")

    responder = Scripted(busy)
    async with AsyncFormationClient(database_config, responder=responder) as client:
        await client.create_user("usr_alice")
        await client.associate_user_identifiers(["alice"], user_id="usr_alice")
        await client.chat("Go", "alice")
        memories = (await client.list_memories("alice"))["memories"]
        assert {(each["type"], each["key"], each["content"]) for each in memories} == {
            ("fact", "shoe size", "My shoe size is 42"),
            ("note", None, "Likes long walks"),
        }
        assert await client.get_preferences("alice") == {"language": "de"}
        (task,) = (await client.list_tasks("alice"))["tasks"]
        assert (task["message"], task["schedule"], task["timezone"]) == ("Say hello", "0 9 * * *", "Europe/Berlin")
        topics = [each["content"] for each in await client.get_working_memory("alice") if each["kind"] == "topic"]
        assert topics == ["planning a trip to Japan"]
        tools = responder.turns[0].tools
        assert tools is not None
        for late in (tools.remember("late"), tools.recall("late"), tools.credential("github")):
            with pytest.raises(InvalidRequestError, match="has ended"):
                await late


async def test_tools_read_and_forget_what_is_the_persons(database_config: FormationConfig) -> None:
    seen: dict[str, Any] = {}

    async def act(turn: Turn) -> Response:
        tools = turn.tools
        assert tools is not None
        seen["recalled"] = [each["content"] for each in await tools.recall(turn.message)]
        seen["none"] = await tools.recall("the of")
        seen["forgotten"] = [each["content"] for each in await tools.forget("the espresso machine")]
        seen["by another's id"] = await tools.forget(bobs["memory_id"])
        try:
            seen["secret"] = (await tools.credential("github")).reveal()
        except CredentialNotFoundError as error:
            seen["secret"] = error.code
        return Response("Done.")

    async with AsyncFormationClient(database_config, responder=Scripted(act)) as client:
        await client.add_memory("alice", "Bought an espresso machine in May")
        await client.add_memory("alice", "Plays the cello", shareable=True)
        bobs = await client.add_memory("bob", "Bought an espresso machine in June")
        await client.set_credential("alice", "github", TOKEN)
        await client.chat("cello espresso", "alice", audience="shared")
        assert seen == {
            "recalled": ["Plays the cello"], "none": [], "forgotten": [], "by another's id": [],
            "secret": "CREDENTIAL_NOT_FOUND",
        }  # fmt: skip
        await client.chat("cello espresso", "alice")
        assert sorted(seen["recalled"]) == ["Bought an espresso machine in May", "Plays the cello"]
        assert (seen["forgotten"], seen["by another's id"]) == (["Bought an espresso machine in May"], [])
        assert seen["secret"] == TOKEN
        assert [each["content"] for each in (await client.list_memories("alice"))["memories"]] == ["Plays the cello"]
        assert (await client.list_memories("bob"))["count"] == 1


async def test_tools_refuse_what_cannot_be_kept(database_config: FormationConfig) -> None:
    async def act(turn: Turn) -> Response:
        tools = turn.tools
        assert tools is not None
        for refused, error in (
            (tools.remember(f"My token is {TOKEN}"), SecretRefusedError),
            (tools.remember("My token", key="token", value=TOKEN), SecretRefusedError),
            (tools.remember("x" * 5_000), TooLargeError),
            (tools.remember("nul \x00"), InvalidRequestError),
            (tools.remember("  "), InvalidRequestError),
            (tools.set_preference("password", TOKEN), SecretRefusedError),
            (tools.set_preference("x", float("nan")), InvalidRequestError),
            (tools.schedule_task("Hi", cron="every day"), InvalidScheduleError),
            (tools.schedule_task("Hi", cron="0 9 * * *", timezone="Mars/Olympus"), InvalidScheduleError),
            (tools.schedule_task("Hi"), InvalidScheduleError),
            (tools.note_topic(f"about {TOKEN}"), SecretRefusedError),
            (tools.recall("x", 0), InvalidRequestError),
        ):
            with pytest.raises(error):
                await refused
        for n in range(50):
            await tools.note_topic(f"topic {n}")
        with pytest.raises(InvalidRequestError, match="at most 50"):
            await tools.remember("one too many")
        return Response("Done.")

    async with AsyncFormationClient(database_config, responder=Scripted(act)) as client:
        await client.chat("Go", "alice")
        assert (await client.list_memories("alice"))["count"] == 0


async def test_a_turn_that_fails_leaves_nothing(database_config: FormationConfig) -> None:
    waits, asked = asyncio.Event(), asyncio.Event()

    async def fails(turn: Turn) -> Response:
        assert turn.tools is not None
        await turn.tools.remember("Likes tea")
        await turn.tools.set_preference("language", "de")
        match turn.message:
            case "error":
                raise ModelError("no")
            case "bug":
                raise ZeroDivisionError
            case "junk":
                return "not a response"  # type: ignore[return-value]
            case "no text":
                return Response(None)  # type: ignore[arg-type]
            case "endless":
                return Response("x" * 100_001)
            case "preference":
                return Response("Set.", preferences={"x": "y" * 10_000})
            case _:
                asked.set()
                await waits.wait()
                return Response("late")

    async with AsyncFormationClient(database_config, responder=Scripted(fails)) as client:
        await client.resolve_user("alice", create_user=True)
        before = await dump(database_config)
        for message, error in (
            ("error", ModelError), ("bug", ZeroDivisionError), ("junk", ModelError), ("no text", ModelError),
            ("endless", ModelError), ("preference", ModelError),
        ):  # fmt: skip
            with pytest.raises(error):
                await client.chat(message, "alice")
        with pytest.raises(ModelTimeoutError) as raised:
            await client.chat("wait", "alice", timeout=0.05)
        assert raised.value.retryable
        asked.clear()
        waiting = asyncio.create_task(client.chat("wait", "alice"))
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await dump(database_config) == before


async def test_what_no_database_keeps_is_taken_out_of_a_reply(database_config: FormationConfig) -> None:
    async def odd(turn: Turn) -> Response:
        return Response("a\x00b\ud800c", [Fact("k\x00", "My k is v\ud800", "v\x00")], topics=["t\x00"])

    async with AsyncFormationClient(database_config, responder=Scripted(odd)) as client:
        reply = await client.chat("Hi", "alice")
        assert reply.text == "ab?c"
        assert (await client.list_memories("alice"))["memories"][0]["content"] == "My k is v?"


REFUSED: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"message": "x" * 100_001}, TooLargeError),
    ({"message": ""}, InvalidRequestError),
    ({"message": None}, InvalidRequestError),
    ({"message": "\x00"}, InvalidRequestError),
    ({"audience": "public"}, InvalidRequestError),
    ({"audience": None}, InvalidRequestError),
    ({"timeout": 0}, InvalidRequestError),
    ({"timeout": -1}, InvalidRequestError),
    ({"timeout": float("nan")}, InvalidRequestError),
    ({"timeout": float("inf")}, InvalidRequestError),
    ({"timeout": True}, InvalidRequestError),
    ({"timeout": "5"}, InvalidRequestError),
    ({"timeout": 3601}, InvalidRequestError),
    ({"session_id": ""}, InvalidRequestError),
]


async def test_bad_input_is_refused_before_anything_is_written(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        await client.list_users()
        before = await dump(database_config)
        for arguments, error in REFUSED:
            given = {"message": "Hello", "user_id": "alice", **arguments}
            with pytest.raises(error):
                await client.chat(**given)
            with pytest.raises(error):
                await anext(client.chat_stream(**given))
        assert await dump(database_config) == before


async def test_a_turn_is_computed_again_only_where_that_does_no_harm(database_config: FormationConfig) -> None:
    async def moves_on(turn: Turn) -> Response:
        if len(responder.turns) == 1:
            await other.unlink_user_identifier("alice", force=True)
        return Response("Hello", [Fact("turn", f"My turn is {len(responder.turns)}", str(len(responder.turns)))])

    for restartable in (True, False):
        config = dataclasses.replace(database_config, id=f"{database_config.id}-{restartable}".lower())
        responder = Scripted(moves_on, restartable=restartable)
        async with AsyncFormationClient(config, responder=responder) as client, client_of(config) as other:
            first = await client.resolve_user("alice", create_user=True)
            if restartable:
                reply = await client.chat("Hi", "alice")
                assert reply.user_id != first["muxi_user_id"]
                assert [each["value"] for each in (await client.list_memories("alice"))["memories"]] == ["2"]
            else:
                with pytest.raises(IdentityChangedError):
                    await client.chat("Hi", "alice")
            tables = await dump(config)
            assert len(rows_of(tables, "muxi_messages")) == (2 if restartable else 0)
        await check_invariants(config)


async def test_a_responder_is_given_what_there_is(database_config: FormationConfig) -> None:
    async def quiet(turn: Turn) -> Response:
        return Response("Hm.")

    responder = Scripted(quiet)
    async with AsyncFormationClient(database_config, responder=responder) as client:
        await client.set_preference("alice", "language", "de")
        await client.add_memory("alice", "Plays the cello")
        first = await client.chat("One", "alice")
        await client.chat("Two about the cello", "alice", timeout=7)
    turn = responder.turns[1]
    assert [(each.role, each.content) for each in turn.messages] == [("user", "One"), ("assistant", "Hm.")]
    assert turn.context["preferences"] == {"language": "de"}
    assert [each["content"] for each in turn.context["memories"]] == ["Plays the cello"]
    assert turn.context["session_id"] == first.session_id
    assert (turn.timeout, responder.turns[0].timeout) == (7, None)


async def test_all_facts_are_seen_that_the_message_is_about(database_config: FormationConfig) -> None:
    async with client_of(database_config) as client:
        await client.chat("My shoe size is 42", "alice")
        await client.chat(" ".join(f"My number{n} is {n}." for n in range(50)), "alice")
        for start in range(50, 250, 50):
            await client.chat(" ".join(f"My number{n} is {n}." for n in range(start, start + 50)), "alice")
        assert (await client.chat("What is my shoe size?", "alice")).text == "Your shoe size is 42."


WRONG: dict[str, Any] = {
    "a fact that is none": Response("x", ["My colour is red"]),  # type: ignore[list-item]
    "a fact without a key": Response("x", [Fact(None, "My colour is red", "red")]),  # type: ignore[arg-type]
    "a value that is a number": Response("x", [Fact("size", "My size is 5", 5)]),  # type: ignore[arg-type]
    "a key that no index holds": Response("x", [Fact(secrets.token_hex(10_000), "My colour is red", "red")]),
    "no list of facts": Response("x", None),  # type: ignore[arg-type]
    "too many facts": Response("x", [Fact(f"colour {n}", "My colour is red", "red") for n in range(1_001)]),
    "a topic that is none": Response("x", topics=[5]),  # type: ignore[list-item]
    "topics that are a text": Response("x", topics="colours"),
    "preferences that are none": Response("x", preferences=None),  # type: ignore[arg-type]
    "a preference that is no JSON": Response("x", preferences={"colour": object()}),
    "a preference with half a character": Response("x", preferences={"colour": "\ud800"}),
    "a secret as a preference": Response("x", preferences={"colour": TOKEN}),
}


async def test_a_response_of_the_wrong_shape_is_the_responders_fault(
    database_config: FormationConfig, subtests: pytest.Subtests
) -> None:
    given: list[Response] = []

    async def act(turn: Turn) -> Response:
        return given[-1]

    async with AsyncFormationClient(database_config, responder=Scripted(act)) as client:
        await client.resolve_user("alice", create_user=True)
        before = await dump(database_config)
        for name, wrong in WRONG.items():
            given.append(wrong)
            with subtests.test(name):
                with pytest.raises(ModelError):
                    await client.chat("Hello", "alice")
                with pytest.raises(ModelError):
                    await anext(client.chat_stream("Hello", "alice"))
        assert await dump(database_config) == before


@pytest.mark.parametrize(("key", "value"), [(TOKEN, "red"), ("wifi password", "hunter2xyz")])
async def test_a_secret_hides_in_no_part_of_a_memory(database_config: FormationConfig, key: str, value: str) -> None:
    async def act(turn: Turn) -> Response:
        assert turn.tools is not None
        with pytest.raises(SecretRefusedError):
            await turn.tools.remember("So it is", key=key, value=value)
        return Response("Well", [Fact(key, "So it is", value)])

    async with AsyncFormationClient(database_config, responder=Scripted(act)) as client:
        await client.chat("Hello", "alice")
        assert (await client.list_memories("alice"))["memories"] == []


async def test_a_key_is_one_key_however_a_tool_spells_it(database_config: FormationConfig) -> None:
    async def act(turn: Turn) -> Response:
        assert turn.tools is not None
        await turn.tools.remember("My budget is $6", key=" Budget ", value="$6", type="Fact")
        return Response("Well")

    async with AsyncFormationClient(database_config, responder=Scripted(act)) as client:
        await client.add_memory("alice", "My budget is $5", key="budget", value="$5", type="fact")
        await client.chat("Hello", "alice")
        assert [each["content"] for each in (await client.list_memories("alice"))["memories"]] == ["My budget is $6"]
