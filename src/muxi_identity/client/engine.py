"""What a client needs of a formation, whether it is open in this process or behind a server.

:class:`muxi_identity.formation.Formation` and :class:`muxi_identity.client.remote.RemoteFormation` both fit: the type
checker holds them together. ``R`` is what an engine's ``parse`` makes of a ``user_id``; nobody else looks into it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import EllipsisType
from typing import Any, Protocol, TypeVar

from muxi_identity.context.credentials.concealed import Concealed
from muxi_identity.conversation.shift import OnRun
from muxi_identity.identity.deciding import OnConflict
from muxi_identity.identity.listing import UserSearch
from muxi_identity.identity.running import Caller
from muxi_identity.importing.reading import Format
from muxi_identity.importing.rows import Options
from muxi_identity.importing.telling import Listeners
from muxi_identity.models import (
    Audience,
    ChatReply,
    ClearResult,
    CredentialRecord,
    CredentialRotation,
    CredentialService,
    DeadEventPage,
    DeletedCredential,
    DeletedMemory,
    DeletedPreference,
    DeleteResult,
    DeliveryReport,
    Explanation,
    HistoryPage,
    IdentifierRecord,
    ImportReport,
    LinkCode,
    LinkRedemption,
    LinkResult,
    MemoryPage,
    MemoryRecord,
    MergeResult,
    PersonPage,
    PreferenceRecord,
    RecordedTurn,
    ReplaceResult,
    ResolvedUser,
    RestoreResult,
    RetriedEvent,
    SessionMessages,
    SessionPage,
    SessionRecord,
    SplitResult,
    Synopsis,
    TaskPage,
    TaskRecord,
    TaskRun,
    TaskRunPage,
    UnlinkResult,
    UnmergeResult,
    UserArchive,
    UserContext,
    UserPage,
    UserRecord,
    WorkingCleared,
    WorkingItem,
)
from muxi_identity.secret import Secret

# ruff: noqa: D102 -- what each of these does stands with the embedded services
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)


class SessionEngine(Protocol[R_contra]):
    """Sessions."""

    async def list(self, reference: R_contra, limit: int, cursor: str | None) -> SessionPage: ...
    async def get(self, reference: R_contra, session_id: str) -> SessionRecord: ...
    async def messages(
        self, reference: R_contra, session_id: str, limit: int, cursor: str | None
    ) -> SessionMessages: ...
    async def restore(
        self, reference: R_contra, session_id: str, messages: object, audience: Audience, caller: Caller
    ) -> RestoreResult: ...
    async def clear(self, reference: R_contra, session_id: str, caller: Caller) -> ClearResult: ...
    async def clear_all(self, reference: R_contra, caller: Caller) -> ClearResult: ...
    async def set_context(
        self,
        reference: R_contra,
        session_id: str,
        values: Mapping[str, Any],
        audience: Audience | None,
        caller: Caller,
    ) -> dict[str, Any]: ...


class MemoryEngine(Protocol[R_contra]):
    """Persistent memory."""

    async def add(
        self,
        reference: R_contra,
        content: str,
        *,
        type: str,
        key: str | None,
        value: str | None,
        metadata: Any,
        shareable: bool,
        caller: Caller,
    ) -> MemoryRecord: ...
    async def page(self, reference: R_contra, *, type: str | None, limit: int, cursor: str | None) -> MemoryPage: ...
    async def search(self, reference: R_contra, query: str, *, type: str | None, limit: int) -> list[MemoryRecord]: ...
    async def get(self, reference: R_contra, memory_id: str) -> MemoryRecord: ...
    async def update(
        self,
        reference: R_contra,
        memory_id: str,
        *,
        content: str | EllipsisType,
        type: str | EllipsisType,
        value: str | EllipsisType | None,
        metadata: Any,
        shareable: bool | EllipsisType,
        caller: Caller,
    ) -> MemoryRecord: ...
    async def delete(self, reference: R_contra, memory_id: str, caller: Caller) -> DeletedMemory: ...


class WorkingEngine(Protocol[R_contra]):
    """Working memory."""

    async def get(self, reference: R_contra, limit: int) -> list[WorkingItem]: ...
    async def add(
        self, reference: R_contra, content: str, kind: str, ttl: float | None, shareable: bool, caller: Caller
    ) -> WorkingItem: ...
    async def clear(self, reference: R_contra, caller: Caller) -> WorkingCleared: ...


class PreferenceEngine(Protocol[R_contra]):
    """Preferences."""

    async def set(
        self, reference: R_contra, key: object, value: object, *, shareable: bool, caller: Caller
    ) -> PreferenceRecord: ...
    async def all(self, reference: R_contra) -> list[PreferenceRecord]: ...
    async def get(self, reference: R_contra, key: object) -> PreferenceRecord: ...
    async def delete(self, reference: R_contra, key: object, caller: Caller) -> DeletedPreference: ...


class CredentialEngine(Protocol[R_contra]):
    """Credentials."""

    async def set(
        self, reference: R_contra, service: object, credential: Concealed, *, name: object, caller: Caller
    ) -> CredentialRecord: ...
    async def all(self, reference: R_contra, service: object = None) -> list[CredentialRecord]: ...
    async def get(self, reference: R_contra, credential_id: object) -> CredentialRecord: ...
    async def secret(self, reference: R_contra, service: object, name: object) -> Secret: ...
    async def delete(self, reference: R_contra, credential_id: object, caller: Caller) -> DeletedCredential: ...
    async def services(self) -> list[CredentialService]: ...
    async def rotate(self, caller: Caller) -> CredentialRotation: ...


class TaskEngine(Protocol[R_contra]):
    """Scheduled tasks; a reference that is None stands for whoever has the task."""

    async def schedule(
        self, reference: R_contra, message: str, *, cron: object, at: object, timezone: object, caller: Caller
    ) -> TaskRecord: ...
    async def list(self, reference: R_contra, *, status: str | None, limit: int, cursor: str | None) -> TaskPage: ...
    async def get(self, task_id: str, reference: R_contra | None) -> TaskRecord: ...
    async def update(
        self,
        task_id: str,
        reference: R_contra | None,
        *,
        message: str | None,
        cron: str | None,
        at: str | datetime | None,
        timezone: str | None,
        caller: Caller,
    ) -> TaskRecord: ...
    async def pause(self, task_id: str, reference: R_contra | None, caller: Caller) -> TaskRecord: ...
    async def resume(self, task_id: str, reference: R_contra | None, caller: Caller) -> TaskRecord: ...
    async def delete(self, task_id: str, reference: R_contra | None, caller: Caller) -> None: ...
    async def runs(
        self, task_id: str, reference: R_contra | None, *, limit: int, cursor: str | None
    ) -> TaskRunPage: ...


class WorkerEngine(Protocol):
    """Running tasks."""

    async def run_due(self, limit: int, caller: Caller) -> list[TaskRun]: ...
    async def run(
        self, on_run: OnRun | None, concurrency: int, poll_seconds: float, lease_seconds: float, caller: Caller
    ) -> None: ...


class CuratorEngine(Protocol[R_contra]):
    """Joining people, taking them apart, and why."""

    async def merge(self, primary: R_contra, secondary: R_contra, *, dry_run: bool, caller: Caller) -> MergeResult: ...
    async def unmerge(self, merge_id: str, *, dry_run: bool, caller: Caller) -> UnmergeResult: ...
    async def split(self, person: R_contra, identifiers: object, *, dry_run: bool, caller: Caller) -> SplitResult: ...
    async def replace(
        self, old: object, new: object, *, secrets: bool, verified: bool, caller: Caller
    ) -> ReplaceResult: ...
    async def history(self, person: R_contra, limit: int, cursor: str | None) -> HistoryPage: ...
    async def explain(self, a: R_contra, b: R_contra) -> Explanation: ...


class LinkCodeEngine(Protocol[R_contra]):
    """Codes that join two channels of one person."""

    async def create(self, reference: R_contra, caller: Caller) -> LinkCode: ...
    async def redeem(self, reference: R_contra, code: object, *, confirm: bool, caller: Caller) -> LinkRedemption: ...


class ExportEngine(Protocol[R_contra]):
    """Archives of a person."""

    async def export(self, reference: R_contra) -> UserArchive: ...


class ImportEngine(Protocol):
    """Everybody at once."""

    async def run(
        self,
        source: Any,
        options: Options,
        *,
        format: Format | None,
        ignore_columns: Sequence[str],
        import_id: str | None,
        dry_run: bool,
        listeners: Listeners,
        caller: Caller,
        anew: bool = False,
    ) -> ImportReport: ...
    async def page(self, limit: int, cursor: str | None) -> PersonPage: ...


class EventEngine(Protocol):
    """Events, and what webhooks did not take."""

    async def deliver(self, limit: int) -> DeliveryReport: ...
    async def run(self, concurrency: int, poll_seconds: float) -> None: ...
    async def list_dead(self, limit: int, cursor: str | None) -> DeadEventPage: ...
    async def retry_dead(self, event_id: str, caller: Caller) -> RetriedEvent: ...


class SynopsisEngine(Protocol[R_contra]):
    """Synopses."""

    async def get(self, reference: R_contra, caller: Caller) -> Synopsis: ...


class LoadedContext(Protocol):
    """What a load brought."""

    @property
    def context(self) -> UserContext: ...


class LoaderEngine(Protocol[R_contra]):
    """The context of a person."""

    async def load(
        self,
        reference: R_contra,
        *,
        session_id: str | None,
        query: str | None,
        audience: Audience,
        memories: int,
        caller: Caller,
    ) -> LoadedContext: ...


class RecorderEngine(Protocol[R_contra]):
    """Turns of somebody's own agent loop."""

    async def record(
        self,
        reference: R_contra,
        messages: object,
        session_id: str | None,
        audience: Audience,
        memories: object,
        topics: object,
        idempotency_key: object,
        caller: Caller,
    ) -> RecordedTurn: ...


class StreamedTurn(Protocol):
    """One turn whose reply comes piece by piece."""

    @property
    def task(self) -> asyncio.Future[Any]: ...
    @property
    def reply(self) -> ChatReply | None: ...
    async def next(self) -> str | None: ...
    async def close(self) -> None: ...
    def abandon(self) -> None: ...


class ConversationEngine(Protocol[R_contra]):
    """Chat."""

    async def chat(
        self,
        message: str,
        reference: R_contra,
        session_id: str | None,
        caller: Caller,
        *,
        audience: Audience,
        timeout: float | None,
    ) -> ChatReply: ...
    def chat_stream(
        self,
        message: str,
        reference: R_contra,
        session_id: str | None,
        caller: Caller,
        *,
        audience: Audience,
        timeout: float | None,
    ) -> StreamedTurn: ...


class Engine(Protocol[R]):
    """One open formation."""

    @property
    def sessions(self) -> SessionEngine[R]: ...
    @property
    def memories(self) -> MemoryEngine[R]: ...
    @property
    def working(self) -> WorkingEngine[R]: ...
    @property
    def preferences(self) -> PreferenceEngine[R]: ...
    @property
    def credentials(self) -> CredentialEngine[R]: ...
    @property
    def tasks(self) -> TaskEngine[R]: ...
    @property
    def worker(self) -> WorkerEngine: ...
    @property
    def synopses(self) -> SynopsisEngine[R]: ...
    @property
    def loader(self) -> LoaderEngine[R]: ...
    @property
    def recorder(self) -> RecorderEngine[R]: ...
    @property
    def curator(self) -> CuratorEngine[R]: ...
    @property
    def link_codes(self) -> LinkCodeEngine[R]: ...
    @property
    def exports(self) -> ExportEngine[R]: ...
    @property
    def imports(self) -> ImportEngine: ...
    @property
    def events(self) -> EventEngine: ...
    @property
    def conversation(self) -> ConversationEngine[R]: ...

    def parse(self, given: object) -> R: ...
    async def resolve(self, reference: R, *, create: bool, caller: Caller) -> ResolvedUser: ...
    async def find(self, reference: R) -> ResolvedUser | None: ...
    async def create_user(self, user_id: str | None, caller: Caller) -> UserRecord: ...
    async def get_user(self, reference: R) -> UserRecord: ...
    async def list_users(self, search: UserSearch, limit: int, cursor: str | None) -> UserPage: ...
    async def delete_user(
        self, reference: R, *, include_merged: bool, dry_run: bool, caller: Caller
    ) -> DeleteResult: ...
    async def identifiers_of(self, reference: R) -> list[IdentifierRecord]: ...
    async def associate(
        self,
        given: Sequence[object],
        user_id: object,
        *,
        on_conflict: OnConflict,
        verified: bool,
        idempotency_key: str | None,
        caller: Caller,
    ) -> LinkResult: ...
    async def unlink(self, identifier: object, *, force: bool, caller: Caller) -> UnlinkResult: ...
    async def close(self) -> None: ...
