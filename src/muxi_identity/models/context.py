"""What follows the person, and what stays with its session."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from muxi_identity.models.rendering import render

Audience = Literal["private", "shared"]
"""Who reads a conversation: the person alone, or others too. In the second, only what is marked shareable is used."""


class SessionRecord(TypedDict):
    """One session of one identifier.

    ``active``: a call without a session id would go on with it. ``channel`` is the type of the identifier that it was
    held under, None where that has no type or the session was held under the public id. ``context`` holds the keys
    and values of this conversation.
    """

    session_id: str
    channel: str | None
    audience: Audience
    active: bool
    message_count: int
    context: dict[str, Any]
    created_at: str
    last_activity: str


class SessionPage(TypedDict):
    """A page of sessions, the last active first. Pass ``next_cursor`` for the next one; None ends the list."""

    sessions: list[SessionRecord]
    count: int
    next_cursor: str | None


class SessionMessage(TypedDict):
    """One message: ``role`` is ``"user"``, ``"assistant"``, ``"system"`` or ``"tool"``."""

    role: str
    content: str
    created_at: str


class SessionMessages(TypedDict):
    """A page of one session's messages, oldest first.

    ``has_more`` is true where older ones were left out; ``next_cursor`` brings them.
    """

    session_id: str
    messages: list[SessionMessage]
    count: int
    has_more: bool
    next_cursor: str | None


class RestoreResult(TypedDict):
    """How many messages a session was given back, and how many were dropped because it keeps no more."""

    session_id: str
    messages_loaded: int
    messages_dropped: int
    message: str


class ClearResult(TypedDict):
    """What was cleared."""

    messages_cleared: int
    sessions_cleared: int


class MemoryRecord(TypedDict):
    """One memory of a person.

    ``key`` is the attribute that it is about, None where it is about none. ``score`` is set in search results: from
    0 to 1, relevance and recency together.
    """

    memory_id: str
    type: str
    key: str | None
    content: str
    value: str | None
    metadata: dict[str, Any]
    shareable: bool
    created_at: str
    updated_at: str
    score: float | None


class MemoryPage(TypedDict):
    """A page of memories, the last changed first. Pass ``next_cursor`` for the next one; None ends the list."""

    memories: list[MemoryRecord]
    count: int
    next_cursor: str | None


class DeletedMemory(TypedDict):
    """What was deleted. ``memory_id`` is the one that was asked for."""

    deleted: bool
    memory_id: str


class WorkingItem(TypedDict):
    """Something that went on lately: ``kind`` is ``"fact"``, ``"topic"`` or ``"summary"``."""

    kind: str
    content: str
    shareable: bool
    created_at: str
    expires_at: str


class WorkingCleared(TypedDict):
    """How many items of working memory were cleared, equal ones of several channels counted each."""

    items_cleared: int


class Synopsis(TypedDict):
    """A short description of a person. ``built_at`` is None where nothing is known yet."""

    muxi_user_id: str
    text: str
    built_at: str | None


class PreferenceRecord(TypedDict):
    """One preference. ``channel`` is the type of the identifier that it was set through, None where that has none."""

    key: str
    value: Any
    shareable: bool
    channel: str | None
    created_at: str
    updated_at: str


class DeletedPreference(TypedDict):
    """Which preference was deleted."""

    deleted: bool
    key: str


class CredentialRecord(TypedDict):
    """A credential without its secret: ``preview`` shows enough to tell one from another."""

    credential_id: str
    service: str
    name: str
    preview: str
    created_at: str
    updated_at: str


class DeletedCredential(TypedDict):
    """Which credential was deleted."""

    deleted: bool
    credential_id: str


class CredentialService(TypedDict):
    """A service that people of this formation have credentials for, and how many."""

    service: str
    count: int


class CredentialRotation(TypedDict):
    """What a rotation did: ``rotated`` are now encrypted with the newest key (``key_id``), ``kept`` were already.

    ``unreadable`` could not be decrypted and are as they were; ``missing_key_ids`` names the keys that they want. One
    whose key is there was changed in the database.
    """

    rotated: int
    kept: int
    unreadable: int
    key_id: str
    missing_key_ids: list[str]


class TaskRecord(TypedDict):
    """A scheduled task.

    ``kind`` is ``"cron"`` or ``"once"``, ``status`` ``"active"``, ``"paused"`` or ``"finished"``.
    """

    task_id: str
    muxi_user_id: str
    kind: str
    schedule: str
    timezone: str
    message: str
    status: str
    next_run_at: str | None
    created_at: str
    updated_at: str


class TaskPage(TypedDict):
    """A page of tasks, newest first. Pass ``next_cursor`` for the next one; None ends the list."""

    tasks: list[TaskRecord]
    count: int
    next_cursor: str | None


class DeletedTask(TypedDict):
    """Which task was deleted."""

    deleted: bool
    task_id: str


class TaskRun(TypedDict):
    """One run of a task.

    ``status`` is ``"running"``, ``"succeeded"``, ``"failed"`` (``error`` holds the code) or ``"lost"``: the worker
    died or was stopped, and another run followed. ``missed`` is how many earlier runs it stands for, which came due
    while nobody worked, counted up to 1,000. ``attempt`` counts from 1.
    """

    run_id: str
    task_id: str
    muxi_user_id: str
    due_at: str
    started_at: str
    finished_at: str | None
    status: str
    attempt: int
    missed: int
    session_id: str | None
    request_id: str | None
    reply: str | None
    error: str | None


class TaskRunPage(TypedDict):
    """A page of runs, newest first. Pass ``next_cursor`` for the next one; None ends the list."""

    runs: list[TaskRun]
    count: int
    next_cursor: str | None


class RecordedTurn(TypedDict):
    """What :meth:`record_turn` kept of a turn."""

    muxi_user_id: str
    session_id: str
    messages_recorded: int
    memory_ids: list[str]


class UserContext(dict[str, Any]):
    """What is known of a person, as a conversation may use it. A dict that prints as text for a prompt.

    ``{"muxi_user_id", "session_id", "audience", "synopsis": str, "preferences": {key: value},
    "memories": [MemoryRecord], "working_memory": [WorkingItem], "credentials": [{"service", "name"}],
    "tasks": [TaskRecord], "session_context": {key: value}, "messages": [SessionMessage]}``

    ``session_id`` is None where none was named and the identifier has none to go on with: :meth:`record_turn` takes
    it as it is. ``messages`` are those of this session alone, oldest first. For a shared audience, ``memories``,
    ``preferences`` and ``working_memory`` hold only what is marked shareable, the synopsis is made from that alone,
    and ``credentials`` and ``tasks`` are empty.

    As text it has everything but the messages. What people have said stands on one line for each piece, so that it
    cannot look like another section.
    """

    def __str__(self) -> str:
        return render(self)
