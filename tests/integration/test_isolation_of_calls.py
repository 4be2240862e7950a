"""Every call, made in one formation with names and ids of another in the same database: it finds nothing there."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from muxi_identity import AsyncFormationClient, MuxiError
from muxi_identity.config import FormationConfig
from tests.formations import Time, client_of, dump
from tests.invariants import check_invariants

ALICE, PHONE, BOB = ("U1", "slack"), ("5550100", "crm"), ("bob", "github")
OLD_KEY, NEW_KEY = ("key_7Hq2mZx9Lw4Tn8Rb5Vc1", "api_key"), ("key_0Pq8nYt3Kd6Ws2Fg9Jh5", "api_key")

IMPORT = "monday"


class Ids(NamedTuple):
    """What one formation gave out; another must take none of it for its own."""

    user: str
    other: str
    session: str
    memory: str
    credential: str
    task: str
    merge: str
    code: str
    users_cursor: str
    memories_cursor: str


async def furnish(client: AsyncFormationClient, mark: str) -> Ids:
    """Give Alice one of everything, with ``mark`` in it, and merge somebody into her."""
    linked = await client.associate_user_identifiers([ALICE, PHONE, OLD_KEY])
    bob = await client.associate_user_identifiers([BOB])
    said = await client.chat(f"My hobby is {mark}", ALICE)
    memory = await client.add_memory(ALICE, f"Plays the {mark}")
    await client.add_working_memory(ALICE, f"Bought a {mark}")
    await client.set_preference(ALICE, "theme", mark)
    await client.set_session_context(said.session_id, ALICE, {"page": mark})
    credential = await client.set_credential(ALICE, "mail", mark)
    task = await client.schedule_task(ALICE, f"Remind me of the {mark}", cron="0 9 * * *")
    merged = await client.merge_users(ALICE, BOB)
    await client.import_users([{"identifiers": [(mark, "crm")]}, {"identifiers": ["undefined"]}], import_id=IMPORT)
    code = await client.create_link_code(ALICE)
    await client.add_memory(BOB, f"Sells a {mark}")
    await client.create_user()
    users = await client.list_users(limit=1)
    memories = await client.list_memories(ALICE, limit=1)
    assert users["next_cursor"] is not None
    assert memories["next_cursor"] is not None
    return Ids(
        linked["muxi_user_id"],
        bob["muxi_user_id"],
        said.session_id,
        memory["memory_id"],
        credential["credential_id"],
        task["task_id"],
        str(merged["merge_id"]),
        code["code"],
        users["next_cursor"],
        memories["next_cursor"],
    )


async def _streamed(client: AsyncFormationClient, user: Any) -> str:
    async with client.chat_stream("What is my hobby?", user) as stream:
        return "".join([token async for token in stream])


async def _exported(client: AsyncFormationClient) -> list[Any]:
    return [person async for person in client.export_users()]


Call = Callable[[AsyncFormationClient, Ids], Awaitable[Any]]

CALLS: dict[str, list[Call]] = {
    "resolve_user": [lambda c, i: c.resolve_user(ALICE), lambda c, i: c.resolve_user(i.user, create_user=True)],
    "find_user": [
        lambda c, i: c.find_user(PHONE),
        lambda c, i: c.find_user("5550100"),
        lambda c, i: c.find_user(i.user),
    ],
    "get_user": [lambda c, i: c.get_user(ALICE), lambda c, i: c.get_user(i.other)],
    "get_user_identifiers": [lambda c, i: c.get_user_identifiers(i.user, detailed=True)],
    "get_user_history": [lambda c, i: c.get_user_history(i.user), lambda c, i: c.get_user_history(ALICE)],
    "explain": [lambda c, i: c.explain(ALICE, PHONE), lambda c, i: c.explain(i.user, i.other)],
    "export_user": [lambda c, i: c.export_user(ALICE), lambda c, i: c.export_user(i.user)],
    "list_users": [
        lambda c, i: c.list_users(identifier="U1"),
        lambda c, i: c.list_users(cursor=i.users_cursor),
    ],
    "export_users": [lambda c, i: _exported(c)],
    "get_user_context": [lambda c, i: c.get_user_context(ALICE, i.session, "hobby")],
    "get_session": [lambda c, i: c.get_session(i.session, ALICE)],
    "get_session_messages": [lambda c, i: c.get_session_messages(i.session, ALICE)],
    "list_sessions": [lambda c, i: c.list_sessions(ALICE)],
    "get_memory": [lambda c, i: c.get_memory(i.memory, ALICE), lambda c, i: c.get_memory(i.memory, i.user)],
    "list_memories": [
        lambda c, i: c.list_memories(ALICE),
        lambda c, i: c.list_memories(ALICE, cursor=i.memories_cursor),
    ],
    "search_memories": [lambda c, i: c.search_memories(ALICE, "plays sells hobby")],
    "get_working_memory": [lambda c, i: c.get_working_memory(ALICE)],
    "get_synopsis": [lambda c, i: c.get_synopsis(ALICE)],
    "get_preference": [lambda c, i: c.get_preference(ALICE, "theme")],
    "get_preferences": [lambda c, i: c.get_preferences(ALICE, detailed=True)],
    "list_credentials": [lambda c, i: c.list_credentials(ALICE)],
    "get_credential": [lambda c, i: c.get_credential(i.credential, ALICE)],
    "get_credential_secret": [lambda c, i: c.get_credential_secret(ALICE, "mail")],
    "list_credential_services": [lambda c, i: c.list_credential_services()],
    "list_tasks": [lambda c, i: c.list_tasks(ALICE)],
    "get_task": [lambda c, i: c.get_task(i.task), lambda c, i: c.get_task(i.task, ALICE)],
    "list_task_runs": [lambda c, i: c.list_task_runs(i.task)],
    "list_dead_events": [lambda c, i: c.list_dead_events()],
    "chat": [lambda c, i: c.chat("What is my hobby?", ALICE), lambda c, i: c.chat("Hi", ALICE, session_id=i.session)],
    "chat_stream": [lambda c, i: _streamed(c, ALICE)],
    "record_turn": [lambda c, i: c.record_turn(ALICE, [{"role": "user", "content": "Hi"}], session_id=i.session)],
    "set_session_context": [lambda c, i: c.set_session_context(i.session, ALICE, {"page": None})],
    "restore_session": [lambda c, i: c.restore_session(i.session, ALICE, [{"role": "user", "content": "Hi"}])],
    "clear_session": [lambda c, i: c.clear_session(i.session, ALICE)],
    "clear_sessions": [lambda c, i: c.clear_sessions(ALICE)],
    "add_memory": [lambda c, i: c.add_memory(ALICE, "Likes tea")],
    "update_memory": [lambda c, i: c.update_memory(i.memory, ALICE, content="Gone")],
    "delete_memory": [lambda c, i: c.delete_memory(i.memory, ALICE), lambda c, i: c.delete_memory(i.memory, i.user)],
    "add_working_memory": [lambda c, i: c.add_working_memory(ALICE, "Was here")],
    "clear_working_memory": [lambda c, i: c.clear_working_memory(ALICE)],
    "set_preference": [lambda c, i: c.set_preference(ALICE, "theme", "dark")],
    "delete_preference": [lambda c, i: c.delete_preference(ALICE, "theme")],
    "set_credential": [lambda c, i: c.set_credential(ALICE, "mail", "another")],
    "delete_credential": [lambda c, i: c.delete_credential(i.credential, ALICE)],
    "rotate_credentials": [lambda c, i: c.rotate_credentials()],
    "schedule_task": [lambda c, i: c.schedule_task(ALICE, "Remind me", cron="* * * * *")],
    "update_task": [lambda c, i: c.update_task(i.task, message="Gone")],
    "pause_task": [lambda c, i: c.pause_task(i.task)],
    "resume_task": [lambda c, i: c.resume_task(i.task)],
    "run_due_tasks": [lambda c, i: c.run_due_tasks()],
    "delete_task": [lambda c, i: c.delete_task(i.task), lambda c, i: c.delete_task(i.task, ALICE)],
    "deliver_events": [lambda c, i: c.deliver_events()],
    "retry_dead_event": [lambda c, i: c.retry_dead_event("evt_1")],
    "redeem_link_code": [lambda c, i: c.redeem_link_code(i.code, BOB, confirm=True)],
    "create_link_code": [lambda c, i: c.create_link_code(ALICE)],
    "create_user": [lambda c, i: c.create_user(i.user)],
    "import_users": [
        lambda c, i: c.import_users([{"user_id": i.user, "identifiers": [("new", "crm")]}]),
        lambda c, i: c.import_users(
            [{"identifiers": [ALICE, BOB]}, {"user_id": i.other, "identifiers": [("bob2", "github")]}],
            on_conflict="merge",
            create_users=True,
        ),
        lambda c, i: c.import_users([{"identifiers": [ALICE, ("again", "crm")]}], dry_run=True),
        # An import of the other formation is none of this one's, whatever it is called.
        lambda c, i: c.import_users([{"identifiers": [("more", "crm")]}], import_id=IMPORT),
    ],
    "associate_user_identifiers": [
        lambda c, i: c.associate_user_identifiers([("new", "crm")], i.other),
        lambda c, i: c.associate_user_identifiers([ALICE, BOB], on_conflict="merge"),
    ],
    "replace_identifier": [lambda c, i: c.replace_identifier(PHONE, ("5550101", "crm"))],
    "rotate_identifier": [lambda c, i: c.rotate_identifier(OLD_KEY, NEW_KEY)],
    "merge_users": [lambda c, i: c.merge_users(i.user, i.other), lambda c, i: c.merge_users(BOB, ALICE)],
    "split_user": [lambda c, i: c.split_user(ALICE, [PHONE])],
    "unmerge_users": [lambda c, i: c.unmerge_users(i.merge)],
    "unlink_user_identifier": [lambda c, i: c.unlink_user_identifier(ALICE, force=True)],
    "delete_user": [
        lambda c, i: c.delete_user(i.user, include_merged=True),
        lambda c, i: c.delete_user(BOB, include_merged=True),
    ],
}
NO_CALLS = {"cache_info", "channel", "close", "ephemeral", "formation_id"}
# They work for ever, by what run_due_tasks and deliver_events do.
ENDLESS = {"run_tasks", "run_events"}


def test_every_call_has_its_case() -> None:
    calls = {name for name in dir(AsyncFormationClient) if not name.startswith("_")}
    assert set(CALLS) == calls - NO_CALLS - ENDLESS


async def _answer(call: Call, client: AsyncFormationClient, ids: Ids) -> str:
    try:
        return repr(await call(client, ids))
    except MuxiError as error:
        return f"{error!r} {vars(error)!r}"


@pytest.mark.parametrize("known", [False, True], ids=["nobody there", "the same people there"])
async def test_no_call_reaches_another_formation(
    database_config: FormationConfig, known: bool, subtests: pytest.Subtests
) -> None:
    config = database_config
    elsewhere = dataclasses.replace(config, id=f"{config.id}-elsewhere")
    async with client_of(config, Time()) as here, client_of(elsewhere, time := Time()) as there:
        ids = await furnish(here, "xylophone")
        if known:
            await furnish(there, "tuba")
        time.advance(60)  # what is due here may be due there
        before = await dump(config)
        for name, calls in CALLS.items():
            with subtests.test(name):
                for call in calls:
                    answer = await _answer(call, there, ids)
                    assert "xylophone" not in answer
                    # An id comes back only to whoever sent it.
                    if not {"user", "other"} & set(call.__code__.co_names):
                        assert ids.user not in answer
                        assert ids.other not in answer
                assert await dump(config) == before
        assert "xylophone" in (await here.chat("What is my hobby?", ALICE)).text
        assert (await here.get_user(BOB))["muxi_user_id"] == ids.user
    await check_invariants(elsewhere, now=time.at)
