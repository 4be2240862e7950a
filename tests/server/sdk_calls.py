"""Runs every call of the published SDK against a server. A program of its own: the SDK has our import name.

Arguments: the server's address, the formation's id, both keys. Prints one JSON object: what each call answered.
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


def sync_calls(formation: FormationClient) -> dict:
    said = {}
    said["health"] = formation.health()
    said["unknown"] = error_of(lambda: formation.resolve_user("alice@email.com"))
    said["resolve"] = formation.resolve_user("alice@email.com", create_user=True)
    person = said["resolve"]["muxi_user_id"]
    said["link"] = formation.link_user_identifier(
        person, [{"identifier": "U98765ABC", "type": "slack"}, ["user_123", "internal"], "a/b c", "key=1&x"]
    )
    said["link_nobody"] = formation.link_user_identifier("", ["bob@email.com"])
    said["conflict"] = error_of(lambda: formation.link_user_identifier(person, ["bob@email.com"]))
    said["identifiers"] = formation.get_user_identifiers_for_user(person)
    said["unlink"] = formation.unlink_user_identifier("a/b c")
    said["identifiers_after"] = formation.get_user_identifiers_for_user("alice@email.com")
    said["chat"] = formation.chat({"message": "My budget is $5,000"}, user_id="user_123")
    said["asked"] = formation.chat({"message": "What's my budget?"}, user_id="U98765ABC")
    said["stream"] = list(formation.chat_stream({"message": "What is my budget?"}, user_id="alice@email.com"))
    said["stream_refused"] = error_of(lambda: list(formation.chat_stream({"message": ""}, user_id="user_123")))
    said["sessions"] = formation.get_sessions("user_123", limit=5)
    session = said["chat"]["session_id"]
    said["session"] = formation.get_session(session, "user_123")
    said["messages"] = formation.get_session_messages(session, "user_123")
    said["foreign_session"] = error_of(lambda: formation.get_session(session, "U98765ABC"))
    said["restore"] = formation.restore_session("restored", "user_123", [{"role": "user", "content": "Hello"}])
    said["restored"] = formation.get_session_messages("restored", "user_123")
    said["memory"] = formation.add_memory("user_123", "note", "Allergic to peanuts")
    said["memories"] = formation.get_memories("U98765ABC", limit=10)
    said["delete_memory"] = formation.delete_memory("user_123", said["memory"]["id"])
    said["memories_after"] = formation.get_memories("user_123")
    said["buffer"] = formation.get_user_buffer("user_123")
    said["clear_session"] = formation.clear_session_buffer("user_123", "restored")
    said["clear_user"] = formation.clear_user_buffer("user_123")
    said["stats"] = formation.get_buffer_stats()
    said["clear_all"] = formation.clear_all_buffers()
    said["memory_config"] = formation.get_memory_config()
    credential = {"service": "github", "credential": "ghp_0123456789abcdefghijklmnopqrstuvwxyz"}
    said["credential"] = formation.create_credential("user_123", credential)
    said["credentials"] = formation.list_credentials("U98765ABC")
    said["one_credential"] = formation.get_credential(said["credential"]["id"], "user_123")
    said["services"] = formation.list_credential_services()
    said["delete_credential"] = formation.delete_credential(said["credential"]["id"], "user_123")
    said["job"] = formation.create_scheduler_job("recurring", "0 9 * * 1", "Remind me", "user_123")
    said["once"] = formation.create_scheduler_job("one_time", "2100-01-01T00:00:00Z", "Happy new century", "user_123")
    said["prompt"] = formation.create_scheduler_job("prompt", "0 9 * * *", "Good morning", "bob@email.com")
    job = said["job"]["id"]
    said["jobs"] = formation.get_scheduler_jobs("U98765ABC")
    said["one_job"] = formation.get_scheduler_job(job)
    said["changed_job"] = formation.update_scheduler_job(job, message="Remind me again", schedule="0 8 * * 1")
    said["paused"] = formation.pause_scheduler_job(job)
    said["resumed"] = formation.resume_scheduler_job(job)
    said["deleted_job"] = formation.delete_scheduler_job(job)
    events = formation.stream_events("user_123")
    said["event"] = next(events)
    said["told"] = formation.chat({"message": "Hello!"}, user_id="U98765ABC")
    said["turn"] = next(events)
    events.close()
    said["audit"] = formation.get_audit_log()
    said["status"] = formation.get_status()
    said["config"] = formation.get_config()
    for name in (
        "get_agents",
        "get_mcp_tools",
        "get_triggers",
        "get_sops",
        "get_overlord_config",
        "get_formation_info",
        "get_scheduler_config",
    ):
        said[name] = error_of(getattr(formation, name))
    said["request"] = list(formation.stream_request("user_123", session, "req_1"))
    said["audio"] = error_of(lambda: formation.audio_chat({"message": "x"}, user_id="user_123"))
    return said


async def async_calls(formation: AsyncFormationClient) -> dict:
    said = {}
    said["chat"] = await formation.chat({"message": "What's my budget?"}, user_id="user_123")
    said["stream"] = [
        event async for event in await formation.chat_stream({"message": "What is my budget?"}, user_id="user_123")
    ]
    said["resolve"] = await formation.resolve_user("alice@email.com")
    return said


def error_of(call) -> dict:
    try:
        call()
    except MuxiError as error:
        kinds = (NotFoundError, ConflictError, AuthenticationError, AuthorizationError, ValidationError)
        kind = next((kind.__name__ for kind in kinds if isinstance(error, kind)), type(error).__name__)
        return {"kind": kind, "code": error.code, "message": error.message, "status": error.status_code}
    return {"kind": None}


def main() -> None:
    url, formation_id, admin_key, client_key = sys.argv[1:]
    keys = {"admin_key": admin_key, "client_key": client_key}
    with FormationClient(url=url, **keys) as formation:
        said = {"sync": sync_calls(formation)}
    with FormationClient(url=url, admin_key="x" * 20, client_key="y" * 20) as stranger:
        said["stranger"] = error_of(lambda: stranger.get_status())
    with FormationClient(server_url=url, formation_id=formation_id, **keys) as named:
        said["named"] = named.resolve_user("alice@email.com")
    with FormationClient(server_url=url, formation_id=formation_id, mode="draft", **keys) as draft:
        said["draft"] = draft.resolve_user("alice@email.com")

    async def run() -> None:
        async with AsyncFormationClient(url=url, **keys) as formation:
            said["async"] = await async_calls(formation)

    asyncio.run(run())
    print(json.dumps(said))


main()
