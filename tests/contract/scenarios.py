"""What is asked of everybody: each public call, how it goes well and each way in which it does not.

A scenario is a coroutine function of :class:`Calls`; what it tells is compared. It begins with nobody there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from muxi_identity import MuxiError
from tests.contract.parties import Calls

Scenario = Callable[[Calls], Awaitable[Any]]
SCENARIOS: list[Scenario] = []

ALICE, SLACK, CHAT = "alice@email.com", ("U98765ABC", "slack"), "user_123"
FAILING = ("fail", "busy", "busy a while", "busy who knows", "late")
"""Messages that the responder of these scenarios has an error for."""
NOBODY = "nobody@email.com"
KEY = "key_live_0123456789abcdefghij"
TOKEN = "ghp_1234567890abcdef1234567890abcdef1234"


def scenario(given: Scenario) -> Scenario:
    SCENARIOS.append(given)
    return given


async def outcome(work: Awaitable[Any]) -> Any:
    """Return what a call returned or the error that it raised."""
    try:
        return await work
    except MuxiError as error:
        return error


async def linked(c: Calls) -> str:
    result = await c.associate_user_identifiers([ALICE, SLACK, CHAT])
    return str(result["muxi_user_id"])


async def two_of_a_kind(c: Calls) -> str:
    """Make two people who are known by the same spelling under different types, and return it."""
    for kind in ("telegram", "github"):
        await c.associate_user_identifiers([("12345", kind)])
    return "12345"


async def naming(call: Callable[[Any], Awaitable[Any]], *, ambiguous: str | None = None) -> list[Any]:
    """Return what comes of naming the user wrongly, in every way there is."""
    wrong = [
        "usr_nobodyatall", NOBODY, ("pat_0123456789abcdefghij", "pat"), (KEY, "api_key"),
        "", "   ", "null", "a\u202eb", "a\x00b", "\ud800", True, None, 1.5, [], ("a", "b", "c"),
        {"identifier": "a", "typ": "b"}, ("value", "NO TYPE!"), {"identifier": "a", "scope": "b"},
        "x" * 600, "usr_!", "refused", b"bytes",
    ]  # fmt: skip
    return [await outcome(call(each)) for each in [*wrong, *([ambiguous] if ambiguous else [])]]


# Who somebody is


@scenario
async def resolving(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    return [
        await c.resolve_user("New@Email.com", create_user=True),
        await c.resolve_user("New@Email.com"),
        await c.resolve_user(("new@email.com", "email"), create_user=True),
        await c.resolve_user({"identifier": "W1", "type": "slack", "scope": "T1"}, create_user=True),
        await c.resolve_user({"identifier": "W1", "type": "slack", "scope": "T2"}, create_user=True),
        await c.resolve_user(4711, create_user=True),
        await c.resolve_user("Müller/Straße 5?&#%", create_user=True),
        await c.resolve_user(("usr_not_an_id_but_a_login", "internal"), create_user=True),
        await outcome(c.resolve_user(NOBODY)),
        await outcome(c.resolve_user(ALICE, create_user="yes")),
        await naming(c.resolve_user, ambiguous=number),
        await naming(lambda who: c.resolve_user(who, create_user=isinstance(who, str) and who != NOBODY)),
    ]


@scenario
async def finding(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    alice = await linked(c)
    return [
        await c.find_user(NOBODY),
        await c.find_user(alice),
        await c.find_user(SLACK),
        await naming(c.find_user, ambiguous=number),
    ]


@scenario
async def channels(c: Calls) -> Any:
    alice = await linked(c)
    slack, keys, plain = c.channel("slack"), c.channel("pat"), c.channel("crm", scope="eu")
    return [
        await slack.resolve_user("U98765ABC"),
        await slack.resolve_user(ALICE, create_user=True),
        await slack.resolve_user(alice),
        await slack.get_user(alice),
        await slack.find_user("usr_nobodyatall"),
        await plain.resolve_user(77, create_user=True),
        await plain.get_user_identifiers("77", detailed=True),
        await plain.resolve_user((ALICE, "email")),
        await outcome(plain.unlink_user_identifier("77")),
        await outcome(plain.unlink_user_identifier("77", force=True)),
        await outcome(slack.unlink_user_identifier(alice)),
        # A public id is no proof of anything, and must not pass for a key.
        await outcome(keys.resolve_user(alice)),
        await outcome(keys.find_user(alice)),
        await outcome(keys.get_user(alice)),
        await outcome(keys.chat("Hello", alice)),
        await outcome(keys.unlink_user_identifier(alice)),
        await outcome(keys.get_preferences(alice)),
        await slack.set_preference("U98765ABC", "language", "de"),
        await slack.get_preferences(alice, detailed=True),
        await outcome(slack.get_preferences("")),
        [await outcome(async_of(lambda kind=kind: c.channel(kind) and None)) for kind in ("NO TYPE!", "", None, 5)],
    ]


async def async_of(call: Callable[[], Any]) -> Any:
    return call()


@scenario
async def creating_and_reading_users(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    made = await c.create_user("usr_alice", source="test", reason="for a reason,\non two lines")
    return [
        made,
        await c.create_user(),
        await outcome(c.create_user("usr_alice")),
        await outcome(c.create_user("alice")),
        await outcome(c.create_user("usr_!")),
        await outcome(c.create_user(5)),
        await outcome(c.create_user("usr_b", source="x" * 1001)),
        await c.get_user("usr_alice"),
        await naming(c.get_user, ambiguous=number),
    ]


@scenario
async def listing_users(c: Calls) -> Any:
    empty = await c.list_users()
    for name in ("usr_a", "usr_b", "usr_c"):
        await c.create_user(name)
    page = await c.list_users(limit=2)
    return [
        empty,
        page,
        await c.list_users(limit=2, cursor=page["next_cursor"]),
        [await outcome(c.list_users(limit=limit)) for limit in (0, 501, True, "5", 2.0, None)],
        [await outcome(c.list_users(cursor=cursor)) for cursor in ("", "made up", 5, "x" * 600, "é", "a\x00")],
    ]


@scenario
async def searching_users(c: Calls) -> Any:
    await linked(c)
    await c.associate_user_identifiers(["alix+1@email.com", ("a&b=c?%#/ü", "crm"), ("sk_" + KEY, "api_key")])
    await c.create_user("usr_bob")
    long_ago, ahead = "2001-02-03T04:05:06.789", datetime(2999, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    wrong: list[dict[str, Any]] = [
        {"identifier": ""}, {"identifier": " "}, {"identifier": "x" * 513}, {"identifier": "\ud800"}, {"identifier": 5},
        {"type": "NO TYPE!"}, {"type": 5}, {"created_from": "soon"}, {"created_before": 5},
    ]  # fmt: skip
    return [
        await c.list_users(identifier="ali"),
        await c.list_users(identifier="alix+1@e", type="email"),
        await c.list_users(identifier="a&b=c?%#/u\u0308", type="crm"),
        await c.list_users(identifier="sk_"),
        await c.list_users(type="slack"),
        await c.list_users(created_from=long_ago, created_before=ahead, limit=1),
        await c.list_users(created_before=long_ago),
        await c.list_users(created_from=ahead),
        [await outcome(c.list_users(**each)) for each in wrong],
    ]


@scenario
async def deleting_users(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    await c.create_user("usr_bob")
    await c.associate_user_identifiers(["bob@email.com"], "usr_bob")
    await c.associate_user_identifiers([ALICE, "bob@email.com"], on_conflict="merge")
    return [
        await outcome(c.delete_user(ALICE)),
        await outcome(c.delete_user(ALICE, include_merged="yes")),
        await outcome(c.delete_user(ALICE, dry_run="yes")),
        await c.delete_user(ALICE, include_merged=True, dry_run=True),
        await outcome(c.delete_user(ALICE, include_merged=True, source="console", reason="she asked; naïve")),
        await outcome(c.delete_user(ALICE)),
        await naming(c.delete_user, ambiguous=number),
    ]


@scenario
async def linking(c: Calls) -> Any:
    first = await c.associate_user_identifiers(
        [ALICE, {"identifier": "U98765ABC", "type": "slack", "scope": "T1", "metadata": {"team": "red"}}, 4711],
        verified=True,
        source="sign-up",
        reason="for a reason,\non two lines",
    )
    expiry = datetime(2999, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    return [
        first,
        await c.associate_user_identifiers([ALICE, "new"], first["muxi_user_id"]),
        await c.associate_user_identifiers(
            [{"identifier": KEY, "type": "api_key", "expires_at": expiry}], (ALICE, "email")
        ),
        await c.get_user_identifiers(ALICE),
        await c.get_user_identifiers(ALICE, detailed=True),
        await c.resolve_user(KEY),
        await outcome(c.associate_user_identifiers(["six"], ALICE)),
        await outcome(c.associate_user_identifiers([ALICE], "usr_nobodyatall")),
        await outcome(c.associate_user_identifiers([ALICE], on_conflict="take")),
        await outcome(c.associate_user_identifiers([ALICE], verified="false")),
        await outcome(c.associate_user_identifiers([ALICE], source=5)),
        [
            await outcome(c.associate_user_identifiers(each))
            for each in ([], "text", None, {"a": 1}, [[]], ["x"] * 1001)
        ],
        await naming(lambda who: c.associate_user_identifiers([who])),
        await naming(lambda who: c.associate_user_identifiers(["someone"], who)),
    ]


@scenario
async def conflicts(c: Calls) -> Any:
    await c.associate_user_identifiers([ALICE])
    await c.associate_user_identifiers(["bob@email.com", (KEY[::-1], "api_key")])
    await c.resolve_user("stranger", create_user=True)
    number = await two_of_a_kind(c)
    return [
        await outcome(c.associate_user_identifiers([ALICE, "bob@email.com"])),
        await outcome(c.associate_user_identifiers([ALICE, (KEY[::-1], "api_key")])),
        await outcome(c.associate_user_identifiers([ALICE, "bob@email.com"], on_conflict="absorb")),
        await outcome(c.associate_user_identifiers([ALICE, number])),
        await c.associate_user_identifiers([ALICE, "stranger"], on_conflict="absorb"),
        await c.associate_user_identifiers([ALICE, "bob@email.com"], on_conflict="merge"),
        await c.get_user("bob@email.com"),
    ]


@scenario
async def linking_once(c: Calls) -> Any:
    first = await c.associate_user_identifiers(["once"], idempotency_key="the same")
    return [
        first,
        await c.associate_user_identifiers(["once"], idempotency_key="the same") == first,
        await c.associate_user_identifiers(["twice"], idempotency_key="schlüssel \n 2"),
        await c.associate_user_identifiers(["twice"], idempotency_key="schlüssel \n 2"),
        different(await outcome(c.associate_user_identifiers(["other"], idempotency_key="the same"))),
        [await outcome(c.associate_user_identifiers(["k"], idempotency_key=key)) for key in ("", "x" * 256, "\0", 5)],
    ]


def different(error: MuxiError) -> Any:
    """Return an error without its words: they name the argument, or the header."""
    return [type(error).__name__, error.code, dict(error.details)]


@scenario
async def reading_identifiers(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    return [
        await c.get_user_identifiers(SLACK),
        await c.get_user_identifiers(CHAT, detailed=True),
        await naming(c.get_user_identifiers, ambiguous=number),
    ]


@scenario
async def unlinking(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    await c.associate_user_identifiers([("a/b?c=d e%2F", "internal"), (KEY[5:], "api_key")], ALICE)
    return [
        await c.unlink_user_identifier(("a/b?c=d e%2F", "internal"), source="s", reason="r"),
        await c.unlink_user_identifier((KEY[5:], "api_key")),
        await c.unlink_user_identifier(ALICE),
        await c.unlink_user_identifier(SLACK),
        await outcome(c.unlink_user_identifier(CHAT)),
        await outcome(c.unlink_user_identifier(CHAT, force="yes")),
        await c.unlink_user_identifier(CHAT, force=True),
        await outcome(c.unlink_user_identifier(CHAT)),
        await outcome(c.unlink_user_identifier("usr_alice")),
        await naming(c.unlink_user_identifier, ambiguous=number),
    ]


# Conversation


@scenario
async def chatting(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    await c.chat("Hello", CHAT, session_id="shared", audience="shared")
    reply = await c.chat("My budget is $5,000", CHAT)
    return [
        reply,
        str(reply),
        [reply.text, reply.user_id, reply.session_id, reply.request_id],
        await c.chat("What's my budget?", SLACK, session_id="thread/1 #?", timeout=20),
        await c.chat("Grüße 🎈", "first contact"),
        [await outcome(c.chat(message, CHAT)) for message in (*FAILING, "", " ", None, 5, "a\0", "x" * 100_001)],
        [await outcome(c.chat("Hi", CHAT, session_id=each)) for each in ("", "x" * 256, 5, "a\nb", b"x")],
        [await outcome(c.chat("Hi", CHAT, timeout=each)) for each in (0, -1, 3601, "5", True, float("nan"))],
        await outcome(c.chat("Hi", CHAT, audience="everybody")),
        await outcome(c.chat("Hi", CHAT, session_id="shared")),
        await naming(lambda who: c.chat("Hi", who), ambiguous=number),
    ]


@scenario
async def streaming(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    await c.chat("Hello", CHAT, session_id="shared", audience="shared")
    return [
        await c.chat_stream("My budget is $5,000", CHAT),
        await c.chat_stream("What's my budget?", SLACK, session_id="thread/1 #?", timeout=20),
        await c.chat_stream("Grüße 🎈\n\nund mehr", "first contact"),
        [await outcome(c.chat_stream(message, CHAT)) for message in (*FAILING, "", None, "x" * 100_001)],
        [await outcome(c.chat_stream("Hi", CHAT, session_id=each)) for each in ("", "x" * 256, 5)],
        await outcome(c.chat_stream("Hi", CHAT, timeout=0)),
        await outcome(c.chat_stream("Hi", CHAT, audience="everybody")),
        await outcome(c.chat_stream("Hi", CHAT, session_id="shared")),
        await naming(lambda who: c.chat_stream("Hi", who), ambiguous=number),
    ]


@scenario
async def own_loop(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    said = [{"role": "user", "content": "I am vegan."}, {"role": "assistant", "content": "Noted!"}]
    await c.record_turn(CHAT, said, session_id="shared", audience="shared")
    turn = await c.record_turn(
        CHAT, said, memories=["Is vegan", {"content": "Likes tofu", "key": "food", "value": "tofu"}], topics=["dinner"]
    )
    await c.set_preference(CHAT, "language", "de")
    await c.set_credential(CHAT, "notion", "secret-of-four-words")
    await c.schedule_task(CHAT, "Call Bob", at="2999-01-31T09:00")
    context = await c.get_user_context(CHAT, query="What do I eat: vegan?")
    return [
        turn,
        context,
        str(context),
        await c.get_user_context("first contact"),
        await c.get_user_context(CHAT, "another", audience="shared", memory_limit=0),
        await outcome(c.get_user_context(CHAT, "shared")),
        await outcome(c.get_user_context(CHAT, 5)),
        await outcome(c.get_user_context(CHAT, audience="all")),
        [await outcome(c.get_user_context(CHAT, query=query)) for query in ("", 5, "x" * 10_001)],
        [await outcome(c.get_user_context(CHAT, memory_limit=limit)) for limit in (-1, 501, True, "5", None)],
        await naming(c.get_user_context, ambiguous=number),
        await outcome(c.record_turn(CHAT, said, session_id="shared")),
        await outcome(c.record_turn(CHAT, said, session_id="")),
        await outcome(c.record_turn(CHAT, said, audience="all")),
        [await outcome(c.record_turn(CHAT, each)) for each in (None, "text", [5], [{"role": "you", "content": "x"}])],
        await outcome(c.record_turn(CHAT, [{"role": "user", "content": "x" * 100_001}])),
        [await outcome(c.record_turn(CHAT, said, memories=each)) for each in ("text", [5], [TOKEN], ["x"] * 101)],
        [await outcome(c.record_turn(CHAT, said, topics=each)) for each in ("text", [5], [TOKEN], ["x" * 301])],
        await naming(lambda who: c.record_turn(who, said), ambiguous=number),
    ]


@scenario
async def sessions(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    alice = await linked(c)
    strange = 'a/b?c #%2F"é'
    for session_id in ("one", strange, "three"):
        await c.chat("Hello", CHAT, session_id=session_id)
    await c.chat("Hello", SLACK, session_id="one")
    page = await c.list_sessions(CHAT, limit=2)
    messages = await c.get_session_messages("one", CHAT, limit=1)
    return [
        page,
        await c.list_sessions(CHAT, limit=2, cursor=page["next_cursor"]),
        await c.list_sessions(alice),
        [await outcome(c.list_sessions(CHAT, limit=limit)) for limit in (0, 501, True)],
        await outcome(c.list_sessions(CHAT, cursor="made up")),
        await naming(c.list_sessions, ambiguous=number),
        await c.get_session(strange, CHAT),
        [await outcome(c.get_session(each, CHAT)) for each in ("none", "", None, 5, "x" * 256)],
        await outcome(c.get_session("one", alice)),
        await naming(lambda who: c.get_session("one", who), ambiguous=number),
        messages,
        await c.get_session_messages("one", CHAT, limit=1, cursor=messages["next_cursor"]),
        [await outcome(c.get_session_messages(each, CHAT)) for each in ("none", "", None)],
        [await outcome(c.get_session_messages("one", CHAT, limit=limit)) for limit in (0, 501)],
        await outcome(c.get_session_messages("one", CHAT, cursor=page["next_cursor"])),
        await outcome(c.get_session_messages("one", alice)),
        await naming(lambda who: c.get_session_messages("one", who), ambiguous=number),
        await c.clear_session("one", CHAT),
        [await outcome(c.clear_session(each, CHAT)) for each in ("none", "", None)],
        await c.chat("Hello", CHAT, session_id="one"),
        await outcome(c.clear_session("one", alice)),
        await naming(lambda who: c.clear_session("one", who), ambiguous=number),
        await c.clear_sessions(CHAT),
        await c.clear_sessions(alice),
        await naming(c.clear_sessions, ambiguous=number),
    ]


@scenario
async def restoring(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    said = [
        {"role": "user", "content": "Hello!", "created_at": "2026-01-01T00:00:00Z"},
        {"role": "tool", "content": "{}"},
    ]
    wrong = [
        None,
        [5],
        [{"role": "user"}],
        [{"role": "user", "content": "a", "more": 1}],
        [{"role": "user", "content": ""}],
    ]
    await c.chat("Hello", CHAT, session_id="shared", audience="shared")
    return [
        await c.restore_session("one", CHAT, said),
        await c.get_session_messages("one", CHAT),
        await c.restore_session("many", CHAT, [{"role": "user", "content": str(n)} for n in range(60)]),
        [await outcome(c.restore_session("one", CHAT, each)) for each in wrong],
        await outcome(c.restore_session("one", CHAT, [{"role": "user", "content": "x" * 100_001}])),
        [await outcome(c.restore_session(each, CHAT, said)) for each in ("", None, 5)],
        await outcome(c.restore_session("one", CHAT, said, audience="all")),
        await outcome(c.restore_session("shared", CHAT, said)),
        await naming(lambda who: c.restore_session("one", who, said), ambiguous=number),
    ]


@scenario
async def session_contexts(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    values = {"ticket": 4711, "step": "address", "deep": {"list": [1, 2.5, True, None, "é"]}}
    wrong: list[Any] = [
        None,
        [],
        "text",
        {5: 1},
        {"": 1},
        {"a": object()},
        {"a": float("nan")},
        {"a": (1, 2)},
        {"a": "x" * 20_000},
        {"a": [TOKEN]},
    ]
    await c.set_session_context("shared", CHAT, {}, audience="shared")
    return [
        await c.set_session_context("one", CHAT, values),
        await c.set_session_context("one", CHAT, {"step": None, "big": 2**70}),
        await c.get_session("one", CHAT),
        [await outcome(c.set_session_context("one", CHAT, each)) for each in wrong],
        [await outcome(c.set_session_context(each, CHAT, {})) for each in ("", None)],
        await outcome(c.set_session_context("one", CHAT, {}, audience="all")),
        await outcome(c.set_session_context("shared", CHAT, {}, audience="private")),
        await naming(lambda who: c.set_session_context("one", who, {}), ambiguous=number),
    ]


@scenario
async def recording_once(c: Calls) -> Any:
    said = [{"role": "user", "content": "I am vegan."}]

    async def record(**more: Any) -> Any:
        return await c.record_turn(CHAT, said, **{"memories": ["Is vegan"], "idempotency_key": "turn", **more})

    first, named = await record(), await record(session_id="mine", idempotency_key="named \n é")
    again = [await record() == first, await record(session_id="mine", idempotency_key="named \n é") == named]
    refused = [await outcome(record(**more)) for more in ({"topics": ["food"]}, {"session_id": "other"})]
    await c.associate_user_identifiers([ALICE, CHAT])
    await c.unlink_user_identifier(CHAT)
    return [
        first,
        named,
        again,
        [different(each) for each in refused],
        await record() == first,  # though nobody has the identifier any more
        await c.find_user(CHAT),
        await c.list_memories(ALICE),
        [await outcome(record(idempotency_key=key)) for key in ("", "x" * 256, "\0", 5)],
    ]


# What follows the person


@scenario
async def memories(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    kept = await c.add_memory(
        CHAT, "My budget is $5,000", key="Budget", value="$5,000", metadata={"n": [1]}, shareable=True
    )
    await c.add_memory(SLACK, "Prefers trains to planes", type="Travel")
    await c.add_memory(SLACK, "Grüße an Zoë")
    page = await c.list_memories(ALICE, limit=2)
    one = kept["memory_id"]
    ids = ("mem_none", "", None, 5, "a/b", "..", "x" * 600)
    parts: list[dict[str, Any]] = [
        {"content": 5}, {"content": ""}, {"content": "x" * 10_001}, {"type": 5}, {"type": ""}, {"value": "x" * 1_001},
        {"metadata": 5}, {"metadata": {"a": object()}}, {"metadata": {"a": "x" * 9_000}}, {"shareable": "no"},
        {"content": f"My token is {TOKEN}"},
    ]  # fmt: skip
    return [
        kept,
        await c.add_memory(CHAT, "My budget is $5,000", key="budget", value="$5,000"),
        [await outcome(c.add_memory(CHAT, **{"content": "x", **each})) for each in parts],
        [await outcome(c.add_memory(CHAT, "x", **each)) for each in ({"value": "1"}, {"key": 5}, {"key": "x" * 200})],
        await naming(lambda who: c.add_memory(who, "x"), ambiguous=number),
        page,
        await c.list_memories(ALICE, limit=2, cursor=page["next_cursor"]),
        await c.list_memories(ALICE, type="travel"),
        [await outcome(c.list_memories(ALICE, limit=limit)) for limit in (0, 501)],
        [await outcome(c.list_memories(ALICE, type=kind)) for kind in ("", 5, "x" * 65)],
        await outcome(c.list_memories(ALICE, cursor="made up")),
        await naming(c.list_memories, ambiguous=number),
        await c.search_memories(ALICE, "Which train, and what budget?"),
        await c.search_memories(ALICE, "zoe", type="note", limit=1),
        [await outcome(c.search_memories(ALICE, query)) for query in ("", " ", 5, "x" * 10_001)],
        [await outcome(c.search_memories(ALICE, "x", limit=limit)) for limit in (0, 101, True)],
        await outcome(c.search_memories(ALICE, "x", type=5)),
        await naming(lambda who: c.search_memories(who, "x"), ambiguous=number),
        await c.get_memory(one, SLACK),
        [await outcome(c.get_memory(each, SLACK)) for each in ids],
        await naming(lambda who: c.get_memory(one, who), ambiguous=number),
        await c.update_memory(
            one, SLACK, content="My budget is $6,000", value="$6,000", metadata=None, shareable=False
        ),
        await c.update_memory(one, SLACK, value=None),
        await outcome(c.update_memory(one, SLACK)),
        [await outcome(c.update_memory(one, SLACK, **each)) for each in parts],
        [await outcome(c.update_memory(each, SLACK, content="x")) for each in ids],
        await naming(lambda who: c.update_memory(one, who, content="x"), ambiguous=number),
        await c.get_synopsis(ALICE),
        await naming(c.get_synopsis, ambiguous=number),
        await c.delete_memory(one, SLACK),
        [await outcome(c.delete_memory(each, SLACK)) for each in (one, *ids)],
        await naming(lambda who: c.delete_memory(one, who), ambiguous=number),
    ]


@scenario
async def working_memory(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    return [
        await c.add_working_memory(CHAT, "is packing\nfor Lisbon", kind="topic", ttl=3600, shareable=True),
        await c.add_working_memory(SLACK, "likes tea"),
        [await outcome(c.add_working_memory(CHAT, content)) for content in ("", 5, "x" * 301, f"token {TOKEN}", "a\0")],
        [await outcome(c.add_working_memory(CHAT, "x", ttl=ttl)) for ttl in (0, -1, 1e9, "5", True)],
        [await outcome(c.add_working_memory(CHAT, "x", kind=kind)) for kind in ("other", None)],
        await outcome(c.add_working_memory(CHAT, "x", shareable="yes")),
        await naming(lambda who: c.add_working_memory(who, "x"), ambiguous=number),
        await c.get_working_memory(ALICE),
        await c.get_working_memory(ALICE, limit=1),
        [await outcome(c.get_working_memory(ALICE, limit=limit)) for limit in (0, 501)],
        await naming(c.get_working_memory, ambiguous=number),
        await c.clear_working_memory(ALICE),
        await naming(c.clear_working_memory, ambiguous=number),
    ]


@scenario
async def preferences(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    values: list[Any] = [None, True, 0, -1.5, "text", [], {"a": {"b": [1, None]}}, 2**53 + 1, 2**70, 1e300, "é🎈\n"]
    wrong: list[Any] = [object(), float("inf"), (1,), {1: 2}, "x" * 8_001, "\ud800", [[]] * 1 + [TOKEN]]
    keys = ("", " ", None, 5, "a\nb", "x" * 129)
    return [
        [await c.set_preference(CHAT, "any", value) for value in values],
        await c.set_preference(SLACK, " font size/é?#%2F.. ", 14, shareable=True),
        [await outcome(c.set_preference(CHAT, "wrong", value)) for value in wrong],
        [await outcome(c.set_preference(CHAT, key, 1)) for key in keys],
        await outcome(c.set_preference(CHAT, "k", 1, shareable="yes")),
        await naming(lambda who: c.set_preference(who, "k", 1), ambiguous=number),
        await c.get_preferences(ALICE),
        await c.get_preferences(ALICE, detailed=True),
        await outcome(c.get_preferences(ALICE, detailed="yes")),
        await naming(c.get_preferences, ambiguous=number),
        await c.get_preference(ALICE, "font size/é?#%2F.."),
        [await outcome(c.get_preference(ALICE, key)) for key in ("none", *keys)],
        await naming(lambda who: c.get_preference(who, "any"), ambiguous=number),
        await c.delete_preference(ALICE, "any"),
        [await outcome(c.delete_preference(ALICE, key)) for key in ("any", *keys)],
        await naming(lambda who: c.delete_preference(who, "any"), ambiguous=number),
    ]


@scenario
async def credentials(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    kept = await c.set_credential(CHAT, "GitHub", TOKEN)
    oauth = await c.set_credential(SLACK, "google", {"access_token": "ya29.abcdef", "expires": 3600}, name="work")
    one = kept["credential_id"]
    names = ("", " ", None, 5, "a b", "x" * 300, TOKEN)
    ids = ("cred_none", "", None, 5, "x" * 65, "a/b")
    return [
        kept,
        oauth,
        await c.set_credential(CHAT, "json", '{"a": 1}'),
        [
            await outcome(c.set_credential(CHAT, "notion", each))
            for each in ("", " ", {}, 5, None, "x" * 70_000, {"a": object()})
        ],
        [await outcome(c.set_credential(CHAT, each, "secret-of-four-words")) for each in names],
        [await outcome(c.set_credential(CHAT, "notion", "secret-of-four-words", name=each)) for each in names],
        await naming(lambda who: c.set_credential(who, "notion", "secret-of-four-words"), ambiguous=number),
        await c.list_credentials(ALICE),
        await c.list_credentials(ALICE, service="GITHUB"),
        [await outcome(c.list_credentials(ALICE, service=each)) for each in ("", "a b", 5, TOKEN)],
        await naming(c.list_credentials, ambiguous=number),
        await c.get_credential(one, ALICE),
        [await outcome(c.get_credential(each, ALICE)) for each in ids],
        await naming(lambda who: c.get_credential(one, who), ambiguous=number),
        await c.list_credential_services(),
        counts(await c.rotate_credentials()),
        await c.delete_credential(one, ALICE),
        [await outcome(c.delete_credential(each, ALICE)) for each in (one, *ids)],
        await naming(lambda who: c.delete_credential(one, who), ambiguous=number),
    ]


async def whose(call: Callable[[Any], Awaitable[Any]], ambiguous: str) -> list[Any]:
    """Return what comes of naming wrongly whose task it is; nobody at all would be right."""
    return [await outcome(call(each)) for each in ("usr_nobodyatall", NOBODY, "", 1.5, ambiguous)]


def counts(rotation: dict[str, Any]) -> dict[str, Any]:
    return {**rotation, "key_id": len(rotation["key_id"])}  # each formation has keys of its own


@scenario
async def tasks(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    await c.resolve_user("bob", create_user=True)
    at = datetime(2999, 1, 31, 9, tzinfo=timezone(timedelta(hours=1)))
    task = await c.schedule_task(CHAT, "Call Bob", at=at)
    cron = await c.schedule_task(SLACK, "Good morning", cron="0 9 * * MON-FRI", timezone="europe/berlin")
    await c.schedule_task(SLACK, "Naive", at=datetime(2999, 10, 27, 2, 30, fold=1), timezone="Europe/Berlin")
    one = task["task_id"]
    page = await c.list_tasks(ALICE, limit=2)
    wrong: list[dict[str, Any]] = [
        {}, {"cron": "* * * * *", "at": "2999-01-01T09:00"}, {"cron": "never"}, {"cron": ""}, {"cron": 5},
        {"at": "soon"}, {"at": "2000-01-01"}, {"at": 5}, {"at": ""},
        {"at": "2999-01-01T09:00", "timezone": "Mars/Olympus"}, {"at": "2999-01-01T09:00", "timezone": 5},
        {"at": "2999-01-01T09:00", "timezone": None},
    ]  # fmt: skip
    messages = ("", None, 5, "x" * 10_001, f"Use {TOKEN}")
    ids = ("task_none", "", "a/b", "..", "x" * 600)
    return [
        task,
        cron,
        [await outcome(c.schedule_task(CHAT, "Hi", **each)) for each in wrong],
        [await outcome(c.schedule_task(CHAT, each, at="2999-01-01T09:00")) for each in messages],
        await naming(lambda who: c.schedule_task(who, "Hi", at="2999-01-01T09:00"), ambiguous=number),
        page,
        await c.list_tasks(ALICE, limit=2, cursor=page["next_cursor"]),
        await c.list_tasks(ALICE, status="paused"),
        [await outcome(c.list_tasks(ALICE, status=each)) for each in ("other", "", 5)],
        [await outcome(c.list_tasks(ALICE, limit=each)) for each in (0, 501)],
        await outcome(c.list_tasks(ALICE, cursor="made up")),
        await naming(c.list_tasks, ambiguous=number),
        await c.get_task(one, ALICE),
        await c.get_task(one),
        await outcome(c.get_task(one, "bob")),
        [await outcome(c.get_task(each)) for each in ids],
        await c.update_task(one, ALICE, message="Call Alice", cron="@daily", timezone="UTC"),
        await c.update_task(one, at="2999-02-28T09:00"),
        await outcome(c.update_task(one)),
        await outcome(c.update_task(one, "bob", message="Mine")),
        [await outcome(c.update_task(one, **each)) for each in wrong[1:]],
        [await outcome(c.update_task(one, message=each)) for each in messages],
        [await outcome(c.update_task(each, message="Hi")) for each in ids],
        await c.pause_task(one, SLACK),
        await c.pause_task(one),
        await c.resume_task(one, SLACK),
        [await outcome(call(one, "bob")) for call in (c.pause_task, c.resume_task, c.delete_task, c.list_task_runs)],
        [await outcome(call("task_none")) for call in (c.pause_task, c.resume_task, c.delete_task, c.list_task_runs)],
        await whose(lambda who: c.get_task(one, who), number),
        await whose(lambda who: c.update_task(one, who, message="Hi"), number),
        await whose(lambda who: c.pause_task(one, who), number),
        await whose(lambda who: c.resume_task(one, who), number),
        await whose(lambda who: c.list_task_runs(one, who), number),
        await whose(lambda who: c.delete_task(one, who), number),
        await c.list_task_runs(one),
        [await outcome(c.list_task_runs(one, limit=each)) for each in (0, 501)],
        await outcome(c.list_task_runs(one, cursor="made up")),
        await c.delete_task(one, ALICE),
        await outcome(c.delete_task(one)),
    ]


# One person or two


@scenario
async def merging(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    await c.associate_user_identifiers(["bob@email.com", "bob"])
    await c.set_preference(CHAT, "language", "de")
    await c.set_preference("bob", "language", "en")
    preview = await c.merge_users(ALICE, "bob", dry_run=True)
    merged = await c.merge_users(ALICE, ("bob@email.com", "email"), reason="for a reason,\non two lines", source="s")
    undo = merged["merge_id"]
    await c.associate_user_identifiers(["d", "e", "f", "g"])
    return [
        preview,
        merged,
        await c.merge_users(ALICE, "bob"),
        await c.get_preferences("bob"),
        await outcome(c.merge_users(ALICE, CHAT)),
        await outcome(c.merge_users(ALICE, "d")),
        await outcome(c.merge_users(ALICE, "bob", dry_run="yes")),
        await outcome(c.merge_users(ALICE, "bob", source=5)),
        await naming(lambda who: c.merge_users(ALICE, who), ambiguous=number),
        await naming(lambda who: c.merge_users(who, ALICE), ambiguous=number),
        await c.unmerge_users(undo, dry_run=True),
        await c.unmerge_users(undo, reason="r", source="s"),
        await c.unmerge_users(undo),
        await c.get_preferences("bob"),
        [await outcome(c.unmerge_users(each)) for each in ("mrg_none", "", None, 5, "a/b", "x" * 65)],
        await outcome(c.unmerge_users("mrg_none", dry_run="yes")),
        await c.explain(ALICE, "bob"),
        await c.explain(ALICE, CHAT),
        await naming(lambda who: c.explain(ALICE, who), ambiguous=number),
        await naming(lambda who: c.explain(who, ALICE), ambiguous=number),
    ]


@scenario
async def splitting(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    await c.resolve_user("bob", create_user=True)
    await c.chat("My budget is $5,000", SLACK)
    return [
        await c.split_user(ALICE, [SLACK], dry_run=True),
        await c.split_user(ALICE, [SLACK], reason="r", source="s"),
        await outcome(c.split_user(ALICE, [ALICE, CHAT])),
        await outcome(c.split_user(ALICE, ["bob"])),
        await outcome(c.split_user(ALICE, [CHAT], dry_run="yes")),
        await outcome(c.split_user(ALICE, [CHAT], reason=5)),
        [await outcome(c.split_user(ALICE, each)) for each in ([], None, "text", ["x"] * 1_001)],
        await naming(lambda who: c.split_user(ALICE, [who]), ambiguous=number),
        await naming(lambda who: c.split_user(who, [CHAT]), ambiguous=number),
    ]


@scenario
async def succession(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    old, new = KEY + "old", KEY + "new"
    await c.associate_user_identifiers([(old, "api_key")], ALICE)
    await c.resolve_user("bob", create_user=True)
    return [
        await c.replace_identifier(SLACK, "W1", verified=True, reason="moved", source="s"),
        await c.replace_identifier(SLACK, "W1"),
        await outcome(c.replace_identifier(CHAT, "bob")),
        await outcome(c.replace_identifier(CHAT, CHAT)),
        await outcome(c.replace_identifier((old, "api_key"), (new, "api_key"))),
        await outcome(c.replace_identifier(CHAT, "x", verified="yes")),
        await outcome(c.replace_identifier(CHAT, "x", source=5)),
        await naming(lambda who: c.replace_identifier(who, "x"), ambiguous=number),
        await naming(lambda who: c.replace_identifier(CHAT, who)),
        await c.rotate_identifier(old, (new, "api_key"), reason="leaked"),
        await c.rotate_identifier(old, (new, "api_key")),
        await outcome(c.rotate_identifier((new, "api_key"), (new, "api_key"))),
        await outcome(c.rotate_identifier((new, "api_key"), (old, "api_key"))),
        await outcome(c.rotate_identifier(CHAT, "x")),
        await naming(lambda who: c.rotate_identifier(who, (new + "er", "api_key")), ambiguous=number),
        await naming(lambda who: c.rotate_identifier((new, "api_key"), who)),
    ]


@scenario
async def limits_and_owners(c: Calls) -> Any:
    await c.associate_user_identifiers([ALICE, ("A1", "crm")])
    await c.associate_user_identifiers([("A2", "crm"), (KEY + "bob", "api_key"), ("only", "crm")])
    await c.associate_user_identifiers([(KEY + "alice", "api_key"), ("R0", "rare")], ALICE)
    return [
        await outcome(c.rotate_identifier((KEY + "alice", "api_key"), (KEY + "bob", "api_key"))),
        await outcome(c.replace_identifier((ALICE, "email"), ("R1", "rare"))),
        await outcome(c.replace_identifier(("A1", "crm"), ("R2", "rare"))),
    ]


@scenario
async def histories(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    await c.unlink_user_identifier(SLACK, source="console", reason="moved\naway")
    page = await c.get_user_history(ALICE, limit=2)
    return [
        page,
        await c.get_user_history(ALICE, limit=2, cursor=page["next_cursor"]),
        [await outcome(c.get_user_history(ALICE, limit=limit)) for limit in (0, 501, True)],
        await outcome(c.get_user_history(ALICE, cursor="made up")),
        await naming(c.get_user_history, ambiguous=number),
    ]


@scenario
async def exporting(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    await c.chat("My budget is $5,000", CHAT)
    await c.set_preference(SLACK, "n", 2**70)
    await c.set_credential(CHAT, "github", TOKEN)
    await c.schedule_task(CHAT, "Hi", at="2999-01-01T09:00")
    archive = await c.export_user(ALICE)
    many = [{"role": "user", "content": str(number)} for number in range(50)]
    for session in ("one", "two"):
        await c.restore_session(session, CHAT, many)
    return [
        archive,
        await outcome(c.export_user(ALICE)),
        await naming(c.export_user, ambiguous=number),
    ]


@scenario
async def imports(c: Calls) -> Any:
    await c.create_user("usr_alice")
    await c.associate_user_identifiers([ALICE], "usr_alice")
    await c.associate_user_identifiers([("key_imports_0123456789abcdef", "api_key")], "usr_alice")
    rows = [
        {"identifiers": [ALICE, SLACK], "verified": True},
        {"identifiers": ["bob@email.com", {"identifier": "B", "type": "github", "metadata": {"a": 1}}]},
        {"identifiers": ["undefined"]},
        {"identifiers": [ALICE, "bob@email.com"]},
        {"identifiers": [CHAT], "user_id": "usr_carol", "external_id": 7},
        {"identifiers": [(f"n{number}", "github") for number in range(9)]},
        {"nobody": True},
        {"id": "U5", "team_id": "T1", "profile": {"email": "eve@email.com"}},
        {"id": "U6", "is_bot": True, "profile": {}},
    ]
    page = {"ok": True, "members": rows[-2:]}
    told: list[Any] = []
    return [
        await c.import_users(rows, dry_run=True),
        await c.import_users(rows, import_id="one", on_refused=lambda each: told.append(each["line"])),
        sorted(told),
        await c.import_users(rows, import_id="one"),
        await c.import_users(rows, import_id="two", on_conflict="merge", create_users=True, verified=True),
        await c.import_users(page, import_id="three", scoped=False),
        await outcome(c.import_users(rows[:-1], import_id="one")),
        await outcome(c.import_users(rows, import_id="one", verified=True)),
        await outcome(c.import_users(rows, import_id="not an id!")),
        await outcome(c.import_users(rows, on_conflict="win")),
        await outcome(c.import_users(rows, verified="yes")),
        await outcome(c.import_users(17)),
        await outcome(c.import_users("/nowhere/people.csv")),
        await c.export_users(),
    ]


@scenario
async def link_codes(c: Calls) -> Any:
    number = await two_of_a_kind(c)
    await linked(c)
    asked = await c.create_link_code(("W7", "slack"))
    await c.associate_user_identifiers([f"full{n}" for n in range(5)])
    full = await c.create_link_code("full0")
    return [
        [len(asked["code"]), asked.keys() == {"code", "expires_at"}],
        await c.redeem_link_code(asked["code"], ALICE),
        await outcome(c.redeem_link_code(asked["code"], ALICE, confirm="yes")),
        await outcome(c.redeem_link_code(asked["code"], ("W7", "slack"), confirm=True)),
        await c.redeem_link_code(asked["code"].lower(), ALICE, confirm=True),
        await outcome(c.redeem_link_code(full["code"], ALICE, confirm=True)),
        [await outcome(c.redeem_link_code(code, "guesser")) for code in (None, 5, b"x")],
        [
            without_seconds(await outcome(c.redeem_link_code(code, "guesser")))
            for code in ("", "A", "\0", "x" * 99, "B", "C")
        ],
        await outcome(c.redeem_link_code("ABCD-EFGH", (await c.resolve_user(ALICE))["muxi_user_id"])),
        await naming(lambda who: c.redeem_link_code("ABCD-EFGH", who), ambiguous=number),
        await outcome(c.create_link_code((await c.resolve_user(ALICE))["muxi_user_id"])),
        await naming(lambda who: made(c.create_link_code(who)), ambiguous=number),
    ]


async def made(asking: Awaitable[dict[str, Any]]) -> bool:
    return bool((await asking)["code"])


def without_seconds(error: MuxiError) -> Any:
    """Return an error without how long it will last: that goes down while the scenario runs."""
    details = {name: value for name, value in error.details.items() if name != "retry_after"}
    return [type(error).__name__, error.code, sorted(error.details), details]


@scenario
async def dead_events(c: Calls) -> Any:
    return [
        await c.list_dead_events(),
        [await outcome(c.list_dead_events(limit=limit)) for limit in (0, 501)],
        await outcome(c.list_dead_events(cursor="made up")),
        [await outcome(c.retry_dead_event(each)) for each in ("evt_none", "", "a/b", "..")],
    ]
