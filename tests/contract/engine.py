"""The engine's operations under the names of the client's calls: what stands below the embedded client."""

from __future__ import annotations

from typing import Any

from muxi_identity.client.exports import AsyncUserExport
from muxi_identity.client.operations import checked_channel, checked_flag, checked_mode, given_by_channel
from muxi_identity.client.streams import AsyncChatStream
from muxi_identity.context.credentials.concealed import conceal
from muxi_identity.formation import Formation
from muxi_identity.identity.listing import UserSearch
from muxi_identity.identity.running import Caller
from muxi_identity.importing.rows import Options
from muxi_identity.importing.telling import Listeners

CALLER = Caller("embedded", "set_preference")


def by(source: str | None = None, reason: str | None = None) -> Caller:
    return Caller("embedded", source, reason)


class EngineCalls:
    """Calls the engine itself; a channel is its type and scope."""

    def __init__(self, formation: Formation, type: str | None = None, scope: str | None = None) -> None:
        self._f = formation
        self._type, self._scope = type, scope

    def channel(self, type: str, *, scope: str | None = None) -> EngineCalls:
        type, scope = checked_channel(type, scope)
        return EngineCalls(self._f, type, scope)

    def _given(self, given: Any) -> Any:
        if self._type is None:
            return given
        secret = self._f.config.identity.rules.rule(self._type).secret
        return given_by_channel(given, self._type, self._scope, secret=secret)

    def _who(self, given: Any) -> Any:
        return self._f.parse(self._given(given))

    def _whose(self, given: Any) -> Any:
        return None if given is None else self._who(given)

    async def resolve_user(self, identifier: Any, create_user: bool = False) -> Any:
        checked_flag("create_user", create_user)
        return await self._f.resolve(self._who(identifier), create=create_user, caller=by("resolve_user"))

    async def find_user(self, identifier: Any) -> Any:
        return await self._f.find(self._who(identifier))

    async def create_user(self, user_id: Any = None, **notes: Any) -> Any:
        return await self._f.create_user(user_id, by(**notes))

    async def get_user(self, user_id: Any) -> Any:
        return await self._f.get_user(self._who(user_id))

    async def list_users(
        self, *, identifier: Any = None, type: Any = None, created_from: Any = None, created_before: Any = None,
        limit: int = 50, cursor: str | None = None,
    ) -> Any:  # fmt: skip
        search = UserSearch.read(identifier, type, created_from, created_before)
        return await self._f.list_users(search, limit, cursor)

    async def delete_user(
        self, user_id: Any, *, include_merged: bool = False, dry_run: bool = False, **notes: Any
    ) -> Any:
        checked_flag("include_merged", include_merged)
        checked_flag("dry_run", dry_run)
        return await self._f.delete_user(
            self._f.parse(user_id), include_merged=include_merged, dry_run=dry_run, caller=by(**notes)
        )

    async def get_user_identifiers(self, user_id: Any, *, detailed: bool = False) -> Any:
        records = await self._f.identifiers_of(self._who(user_id))
        return records if detailed else [each["identifier"] for each in records]

    async def associate_user_identifiers(
        self,
        identifiers: Any,
        user_id: Any = None,
        *,
        on_conflict: Any = "raise",
        verified: bool = False,
        idempotency_key: str | None = None,
        source: str | None = None,
        reason: str | None = None,
    ) -> Any:
        checked_mode(on_conflict)
        checked_flag("verified", verified)
        return await self._f.associate(
            identifiers,
            user_id,
            on_conflict=on_conflict,
            verified=verified,
            idempotency_key=idempotency_key,
            caller=by(source, reason),
        )

    async def unlink_user_identifier(self, identifier: Any, *, force: bool = False, **notes: Any) -> Any:
        checked_flag("force", force)
        return await self._f.unlink(self._given(identifier), force=force, caller=by(**notes))

    async def chat(
        self, message: Any, user_id: Any, *, session_id: Any = None, audience: Any = "private", timeout: Any = None
    ) -> Any:
        who = self._who(user_id)
        return await self._f.conversation.chat(message, who, session_id, CALLER, audience=audience, timeout=timeout)

    def chat_stream(
        self, message: Any, user_id: Any, *, session_id: Any = None, audience: Any = "private", timeout: Any = None
    ) -> Any:
        async def begin() -> Any:
            who = self._who(user_id)
            return self._f.conversation.chat_stream(
                message, who, session_id, CALLER, audience=audience, timeout=timeout
            )

        return AsyncChatStream(begin)

    async def get_user_context(
        self, user_id: Any, session_id: Any = None, query: Any = None, *, audience: Any = "private",
        memory_limit: Any = 20,
    ) -> Any:  # fmt: skip
        loaded = await self._f.loader.load(
            self._who(user_id),
            session_id=session_id,
            query=query,
            audience=audience,
            memories=memory_limit,
            caller=CALLER,
        )
        return loaded.context

    async def record_turn(
        self, user_id: Any, messages: Any, *, session_id: Any = None, audience: Any = "private", memories: Any = (),
        topics: Any = (), idempotency_key: Any = None,
    ) -> Any:  # fmt: skip
        who = self._who(user_id)
        return await self._f.recorder.record(
            who, messages, session_id, audience, memories, topics, idempotency_key, CALLER
        )

    async def list_sessions(self, user_id: Any, *, limit: int = 50, cursor: Any = None) -> Any:
        return await self._f.sessions.list(self._who(user_id), limit, cursor)

    async def get_session(self, session_id: Any, user_id: Any) -> Any:
        return await self._f.sessions.get(self._who(user_id), session_id)

    async def get_session_messages(self, session_id: Any, user_id: Any, *, limit: int = 100, cursor: Any = None) -> Any:
        return await self._f.sessions.messages(self._who(user_id), session_id, limit, cursor)

    async def restore_session(self, session_id: Any, user_id: Any, messages: Any, *, audience: Any = "private") -> Any:
        return await self._f.sessions.restore(self._who(user_id), session_id, messages, audience, CALLER)

    async def clear_session(self, session_id: Any, user_id: Any) -> Any:
        return await self._f.sessions.clear(self._who(user_id), session_id, CALLER)

    async def clear_sessions(self, user_id: Any) -> Any:
        return await self._f.sessions.clear_all(self._who(user_id), CALLER)

    async def set_session_context(self, session_id: Any, user_id: Any, values: Any, *, audience: Any = None) -> Any:
        return await self._f.sessions.set_context(self._who(user_id), session_id, values, audience, CALLER)

    async def add_memory(self, user_id: Any, content: Any, **given: Any) -> Any:
        all_of_it = {"type": "note", "key": None, "value": None, "metadata": None, "shareable": False, **given}
        return await self._f.memories.add(self._who(user_id), content, **all_of_it, caller=CALLER)

    async def list_memories(self, user_id: Any, *, type: Any = None, limit: int = 50, cursor: Any = None) -> Any:
        return await self._f.memories.page(self._who(user_id), type=type, limit=limit, cursor=cursor)

    async def search_memories(self, user_id: Any, query: Any, *, type: Any = None, limit: int = 10) -> Any:
        return await self._f.memories.search(self._who(user_id), query, type=type, limit=limit)

    async def get_memory(self, memory_id: Any, user_id: Any) -> Any:
        return await self._f.memories.get(self._who(user_id), memory_id)

    async def update_memory(self, memory_id: Any, user_id: Any, **given: Any) -> Any:
        changes = dict.fromkeys(("content", "type", "value", "metadata", "shareable"), ...) | given
        return await self._f.memories.update(self._who(user_id), memory_id, **changes, caller=CALLER)  # type: ignore[arg-type]

    async def delete_memory(self, memory_id: Any, user_id: Any) -> Any:
        return await self._f.memories.delete(self._who(user_id), memory_id, CALLER)

    async def get_synopsis(self, user_id: Any) -> Any:
        return await self._f.synopses.get(self._who(user_id), CALLER)

    async def get_working_memory(self, user_id: Any, *, limit: int = 50) -> Any:
        return await self._f.working.get(self._who(user_id), limit)

    async def add_working_memory(
        self, user_id: Any, content: Any, *, kind: Any = "fact", ttl: Any = None, shareable: Any = False
    ) -> Any:
        return await self._f.working.add(self._who(user_id), content, kind, ttl, shareable, CALLER)

    async def clear_working_memory(self, user_id: Any) -> Any:
        return await self._f.working.clear(self._who(user_id), CALLER)

    async def set_preference(self, user_id: Any, key: Any, value: Any, *, shareable: Any = False) -> Any:
        return await self._f.preferences.set(self._who(user_id), key, value, shareable=shareable, caller=CALLER)

    async def get_preferences(self, user_id: Any, *, detailed: bool = False) -> Any:
        checked_flag("detailed", detailed)
        records = await self._f.preferences.all(self._who(user_id))
        return records if detailed else {each["key"]: each["value"] for each in records}

    async def get_preference(self, user_id: Any, key: Any) -> Any:
        return await self._f.preferences.get(self._who(user_id), key)

    async def delete_preference(self, user_id: Any, key: Any) -> Any:
        return await self._f.preferences.delete(self._who(user_id), key, CALLER)

    async def set_credential(self, user_id: Any, service: Any, credential: Any, *, name: Any = "default") -> Any:
        who = self._who(user_id)
        return await self._f.credentials.set(who, service, conceal(credential), name=name, caller=CALLER)

    async def list_credentials(self, user_id: Any, *, service: Any = None) -> Any:
        return await self._f.credentials.all(self._who(user_id), service)

    async def get_credential(self, credential_id: Any, user_id: Any) -> Any:
        return await self._f.credentials.get(self._who(user_id), credential_id)

    async def delete_credential(self, credential_id: Any, user_id: Any) -> Any:
        return await self._f.credentials.delete(self._who(user_id), credential_id, CALLER)

    async def list_credential_services(self) -> Any:
        return await self._f.credentials.services()

    async def rotate_credentials(self) -> Any:
        return await self._f.credentials.rotate(CALLER)

    async def schedule_task(
        self, user_id: Any, message: Any, *, cron: Any = None, at: Any = None, timezone: Any = "UTC"
    ) -> Any:
        who = self._who(user_id)
        return await self._f.tasks.schedule(who, message, cron=cron, at=at, timezone=timezone, caller=CALLER)

    async def list_tasks(self, user_id: Any, *, status: Any = None, limit: int = 50, cursor: Any = None) -> Any:
        return await self._f.tasks.list(self._who(user_id), status=status, limit=limit, cursor=cursor)

    async def get_task(self, task_id: Any, user_id: Any = None) -> Any:
        return await self._f.tasks.get(task_id, self._whose(user_id))

    async def update_task(self, task_id: Any, user_id: Any = None, **given: Any) -> Any:
        changes = dict.fromkeys(("message", "cron", "at", "timezone")) | given
        return await self._f.tasks.update(task_id, self._whose(user_id), **changes, caller=CALLER)

    async def pause_task(self, task_id: Any, user_id: Any = None) -> Any:
        return await self._f.tasks.pause(task_id, self._whose(user_id), CALLER)

    async def resume_task(self, task_id: Any, user_id: Any = None) -> Any:
        return await self._f.tasks.resume(task_id, self._whose(user_id), CALLER)

    async def delete_task(self, task_id: Any, user_id: Any = None) -> Any:
        await self._f.tasks.delete(task_id, self._whose(user_id), CALLER)
        return {"deleted": True, "task_id": task_id}

    async def list_task_runs(self, task_id: Any, user_id: Any = None, *, limit: int = 50, cursor: Any = None) -> Any:
        return await self._f.tasks.runs(task_id, self._whose(user_id), limit=limit, cursor=cursor)

    async def merge_users(self, primary: Any, secondary: Any, *, dry_run: bool = False, **notes: Any) -> Any:
        checked_flag("dry_run", dry_run)
        both = self._who(primary), self._who(secondary)
        return await self._f.curator.merge(*both, dry_run=dry_run, caller=by(**notes))

    async def unmerge_users(self, merge_id: Any, *, dry_run: bool = False, **notes: Any) -> Any:
        checked_flag("dry_run", dry_run)
        return await self._f.curator.unmerge(merge_id, dry_run=dry_run, caller=by(**notes))

    async def split_user(self, user_id: Any, identifiers: Any, *, dry_run: bool = False, **notes: Any) -> Any:
        checked_flag("dry_run", dry_run)
        return await self._f.curator.split(self._who(user_id), identifiers, dry_run=dry_run, caller=by(**notes))

    async def replace_identifier(self, old: Any, new: Any, *, verified: bool = False, **notes: Any) -> Any:
        checked_flag("verified", verified)
        return await self._f.curator.replace(old, new, secrets=False, verified=verified, caller=by(**notes))

    async def rotate_identifier(self, old: Any, new: Any, **notes: Any) -> Any:
        return await self._f.curator.replace(old, new, secrets=True, verified=False, caller=by(**notes))

    async def get_user_history(self, user_id: Any, *, limit: int = 50, cursor: Any = None) -> Any:
        return await self._f.curator.history(self._who(user_id), limit, cursor)

    async def explain(self, a: Any, b: Any) -> Any:
        return await self._f.curator.explain(self._who(a), self._who(b))

    async def export_user(self, user_id: Any) -> Any:
        return await self._f.exports.export(self._who(user_id))

    async def import_users(
        self, people: Any, *, on_conflict: Any = "raise", verified: Any = False, create_users: Any = False,
        scoped: Any = True, format: Any = None, ignore_columns: Any = (), dry_run: Any = False, import_id: Any = None,
        on_refused: Any = None, **notes: Any,
    ) -> Any:  # fmt: skip
        options = Options(
            checked_mode(on_conflict),
            checked_flag("verified", verified),
            checked_flag("create_users", create_users),
            checked_flag("scoped", scoped),
        )
        return await self._f.imports.run(
            people, options, format=format, ignore_columns=ignore_columns, import_id=import_id, dry_run=dry_run,
            listeners=Listeners(on_refused=on_refused), caller=by(**{"source": "import_users", **notes}),
        )  # fmt: skip

    def export_users(self) -> AsyncUserExport:
        return AsyncUserExport(lambda cursor: self._f.imports.page(500, cursor))

    async def create_link_code(self, user_id: Any) -> Any:
        return await self._f.link_codes.create(self._who(user_id), by("link_code"))

    async def redeem_link_code(self, code: Any, user_id: Any, *, confirm: bool = False) -> Any:
        who = self._who(user_id)
        checked_flag("confirm", confirm)
        return await self._f.link_codes.redeem(who, code, confirm=confirm, caller=by("link_code"))

    async def list_dead_events(self, *, limit: int = 50, cursor: Any = None) -> Any:
        return await self._f.events.list_dead(limit, cursor)

    async def retry_dead_event(self, event_id: Any) -> Any:
        return await self._f.events.retry_dead(event_id, by())
