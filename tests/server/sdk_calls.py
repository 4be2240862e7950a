"""Runs every call of the published SDK against a server. A program of its own: the SDK has our import name.

Arguments: the server's address, the ids of two formations, both keys. Prints one JSON object: what each call answered.
"""

import asyncio
import json
import sys

from muxi.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    MuxiError,
    NotFoundError,
    ValidationError,
)
from muxi.formation import AsyncFormationClient, FormationClient


class Awaited:
    """The synchronous client, with calls that are awaited: what is called stands here once."""

    def __init__(self, formation: FormationClient) -> None:
        self._formation = formation

    def __getattr__(self, name: str):
        async def call(*arguments, **named):
            answer = getattr(self._formation, name)(*arguments, **named)
            return pieces(answer) if hasattr(answer, "__next__") else answer

        return call


async def pieces(stream):
    try:
        for each in stream:
            yield each
    finally:
        stream.close()


async def whole(stream) -> list:
    return [each async for each in await stream]


async def every_call(formation) -> dict:
    said = {}
    said["health"] = await formation.health()
    said["unknown"] = await error_of(formation.resolve_user("alice@email.com"))
    said["resolve"] = await formation.resolve_user("alice@email.com", create_user=True)
    person = said["resolve"]["muxi_user_id"]
    said["link"] = await formation.link_user_identifier(
        person, [{"identifier": "U98765ABC", "type": "slack"}, ["user_123", "internal"], "a/b c", "key=1&x"]
    )
    said["link_nobody"] = await formation.link_user_identifier("", ["bob@email.com"])
    said["conflict"] = await error_of(formation.link_user_identifier(person, ["bob@email.com"]))
    said["identifiers"] = await formation.get_user_identifiers_for_user(person)
    said["unlink"] = await formation.unlink_user_identifier("a/b c")
    said["identifiers_after"] = await formation.get_user_identifiers_for_user("alice@email.com")
    said["chat"] = await formation.chat({"message": "My budget is $5,000"}, user_id="user_123")
    said["asked"] = await formation.chat({"message": "What's my budget?"}, user_id="U98765ABC")
    said["stream"] = await whole(formation.chat_stream({"message": "What is my budget?"}, user_id="alice@email.com"))
    said["stream_refused"] = await error_of(whole(formation.chat_stream({"message": ""}, user_id="user_123")))
    said["sessions"] = await formation.get_sessions("user_123", limit=5)
    session = said["chat"]["session_id"]
    said["session"] = await formation.get_session(session, "user_123")
    said["messages"] = await formation.get_session_messages(session, "user_123")
    said["foreign_session"] = await error_of(formation.get_session(session, "U98765ABC"))
    said["restore"] = await formation.restore_session("restored", "user_123", [{"role": "user", "content": "Hello"}])
    said["restored"] = await formation.get_session_messages("restored", "user_123")
    said["memory"] = await formation.add_memory("user_123", "note", "Allergic to peanuts")
    said["memories"] = await formation.get_memories("U98765ABC", limit=10)
    said["delete_memory"] = await formation.delete_memory("user_123", said["memory"]["id"])
    said["memories_after"] = await formation.get_memories("user_123")
    said["buffer"] = await formation.get_user_buffer("user_123")
    said["clear_session"] = await formation.clear_session_buffer("user_123", "restored")
    said["clear_user"] = await formation.clear_user_buffer("user_123")
    said["stats"] = await formation.get_buffer_stats()
    said["clear_all"] = await formation.clear_all_buffers()
    said["memory_config"] = await formation.get_memory_config()
    credential = {"service": "github", "credential": "ghp_0123456789abcdefghijklmnopqrstuvwxyz"}
    said["credential"] = await formation.create_credential("user_123", credential)
    said["credentials"] = await formation.list_credentials("U98765ABC")
    said["one_credential"] = await formation.get_credential(said["credential"]["id"], "user_123")
    said["services"] = await formation.list_credential_services()
    said["delete_credential"] = await formation.delete_credential(said["credential"]["id"], "user_123")
    said["job"] = await formation.create_scheduler_job("recurring", "0 9 * * 1", "Remind me", "user_123")
    said["once"] = await formation.create_scheduler_job(
        "one_time", "2100-01-01T00:00:00Z", "Happy new century", "user_123"
    )
    said["prompt"] = await formation.create_scheduler_job("prompt", "0 9 * * *", "Good morning", "bob@email.com")
    job = said["job"]["id"]
    said["jobs"] = await formation.get_scheduler_jobs("U98765ABC")
    said["one_job"] = await formation.get_scheduler_job(job)
    said["changed_job"] = await formation.update_scheduler_job(job, message="Remind me again", schedule="0 8 * * 1")
    said["paused"] = await formation.pause_scheduler_job(job)
    said["resumed"] = await formation.resume_scheduler_job(job)
    said["deleted_job"] = await formation.delete_scheduler_job(job)
    events = await formation.stream_events("user_123")
    said["event"] = await anext(events)
    said["told"] = await formation.chat({"message": "Hello!"}, user_id="U98765ABC")
    said["turn"] = await anext(events)
    await events.aclose()
    said["audit"] = await formation.get_audit_log()
    said["status"] = await formation.get_status()
    said["config"] = await formation.get_config()
    for name in (
        "get_agents",
        "get_mcp_tools",
        "get_triggers",
        "get_sops",
        "get_overlord_config",
        "get_formation_info",
        "get_scheduler_config",
    ):
        said[name] = await error_of(getattr(formation, name)())
    said["request"] = await whole(formation.stream_request("user_123", session, "req_1"))
    said["audio"] = await error_of(formation.audio_chat({"message": "x"}, user_id="user_123"))
    return said


async def error_of(call) -> dict:
    try:
        await call
    except MuxiError as error:
        kinds = (NotFoundError, ConflictError, AuthenticationError, AuthorizationError, ValidationError)
        kind = next((kind.__name__ for kind in kinds if isinstance(error, kind)), type(error).__name__)
        return {"kind": kind, "code": error.code, "message": error.message, "status": error.status_code}
    return {"kind": None}


async def main() -> None:
    url, formation_id, other_id, admin_key, client_key = sys.argv[1:]
    keys = {"admin_key": admin_key, "client_key": client_key}
    said = {}
    with FormationClient(url=url, **keys) as formation:
        said["sync"] = await every_call(Awaited(formation))
    async with AsyncFormationClient(server_url=url, formation_id=other_id, **keys) as formation:
        said["async"] = await every_call(formation)
    with FormationClient(url=url, admin_key="x" * 20, client_key="y" * 20) as stranger:
        said["stranger"] = await error_of(Awaited(stranger).get_status())
    for mode in ("live", "draft"):
        with FormationClient(server_url=url, formation_id=formation_id, mode=mode, **keys) as named:
            said[mode] = named.resolve_user("alice@email.com")
    print(json.dumps(said))


asyncio.run(main())
