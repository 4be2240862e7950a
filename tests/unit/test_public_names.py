"""The public names: pinned, handed on by ``muxi``, and the same for the synchronous and the asynchronous client."""

from __future__ import annotations

import inspect

import pytest

import muxi
import muxi_identity
from muxi_identity import AsyncChannel, AsyncFormationClient, Channel, FormationClient

PUBLIC = [
    "AccessError",
    "AmbiguousIdentifierError",
    "AsyncChannel",
    "AsyncChatStream",
    "AsyncFormationClient",
    "AsyncUserExport",
    "AudienceMismatchError",
    "Channel",
    "ChatReply",
    "ChatStream",
    "ClearResult",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "CredentialNotFoundError",
    "CredentialRecord",
    "CredentialRotation",
    "CredentialService",
    "CredentialUnreadableError",
    "DeadEvent",
    "DeadEventPage",
    "DeleteResult",
    "DeletedCredential",
    "DeletedMemory",
    "DeletedPreference",
    "DeletedTask",
    "DeliveryReport",
    "EmbeddedOnlyError",
    "EqualKey",
    "EventNotFoundError",
    "EventPayload",
    "ExplainedStep",
    "Explanation",
    "Fact",
    "ForbiddenError",
    "FormationClient",
    "FormationConfig",
    "FormationNotFoundError",
    "HistoryEvent",
    "HistoryPage",
    "IdentifierConflictError",
    "IdentifierHint",
    "IdentifierLimitError",
    "IdentifierName",
    "IdentifierNotFoundError",
    "IdentifierRecord",
    "IdentityChangedError",
    "ImportNote",
    "ImportProgress",
    "ImportReport",
    "InternalError",
    "InvalidIdentifierError",
    "InvalidRequestError",
    "InvalidScheduleError",
    "KeyedValue",
    "LastIdentifierError",
    "LinkCode",
    "LinkCodeError",
    "LinkCodeLimitError",
    "LinkRedemption",
    "LinkResult",
    "MemoryNotFoundError",
    "MemoryPage",
    "MemoryRanker",
    "MemoryRecord",
    "MergeConflictError",
    "MergeNotFoundError",
    "MergePreview",
    "MergeResult",
    "Message",
    "ModelError",
    "ModelResponder",
    "ModelTimeoutError",
    "ModelUnavailableError",
    "MuxiError",
    "NotFoundError",
    "OutcomeUnknownError",
    "PassedLimit",
    "PersonPage",
    "PersonRow",
    "PersonSummary",
    "PreferenceNotFoundError",
    "PreferenceRecord",
    "RateLimitedError",
    "RecordedTurn",
    "RefusedRow",
    "ReplaceResult",
    "RequestInProgressError",
    "RequestTimeoutError",
    "ResolvedUser",
    "Responder",
    "Response",
    "RestoreResult",
    "RetriedEvent",
    "Secret",
    "SecretRefusedError",
    "ServerUnavailableError",
    "SessionMessage",
    "SessionMessages",
    "SessionNotFoundError",
    "SessionPage",
    "SessionRecord",
    "SplitResult",
    "StorageUnavailableError",
    "StreamingResponder",
    "Synopsis",
    "TaskNotFoundError",
    "TaskPage",
    "TaskRecord",
    "TaskRun",
    "TaskRunPage",
    "TooLargeError",
    "Turn",
    "TurnTools",
    "UnauthorizedError",
    "UnlinkResult",
    "UnmergePreview",
    "UnmergeResult",
    "UserArchive",
    "UserContext",
    "UserExistsError",
    "UserExport",
    "UserNotFoundError",
    "UserPage",
    "UserRecord",
    "WorkingCleared",
    "WorkingItem",
    "__version__",
]

CLIENT = [
    "add_memory",
    "add_working_memory",
    "associate_user_identifiers",
    "cache_info",
    "channel",
    "chat",
    "chat_stream",
    "clear_session",
    "clear_sessions",
    "clear_working_memory",
    "close",
    "create_link_code",
    "create_user",
    "delete_credential",
    "delete_memory",
    "delete_preference",
    "delete_task",
    "delete_user",
    "deliver_events",
    "ephemeral",
    "explain",
    "export_user",
    "export_users",
    "find_user",
    "formation_id",
    "get_credential",
    "get_credential_secret",
    "get_memory",
    "get_preference",
    "get_preferences",
    "get_session",
    "get_session_messages",
    "get_synopsis",
    "get_task",
    "get_user",
    "get_user_context",
    "get_user_history",
    "get_user_identifiers",
    "get_working_memory",
    "import_users",
    "list_credential_services",
    "list_credentials",
    "list_dead_events",
    "list_memories",
    "list_sessions",
    "list_task_runs",
    "list_tasks",
    "list_users",
    "merge_users",
    "pause_task",
    "record_turn",
    "redeem_link_code",
    "replace_identifier",
    "resolve_user",
    "restore_session",
    "resume_task",
    "retry_dead_event",
    "rotate_credentials",
    "rotate_identifier",
    "run_due_tasks",
    "run_events",
    "run_tasks",
    "schedule_task",
    "search_memories",
    "set_credential",
    "set_preference",
    "set_session_context",
    "split_user",
    "unlink_user_identifier",
    "unmerge_users",
    "update_memory",
    "update_task",
]

CHANNEL = [
    "add_memory",
    "add_working_memory",
    "chat",
    "chat_stream",
    "clear_session",
    "clear_sessions",
    "clear_working_memory",
    "create_link_code",
    "delete_credential",
    "delete_memory",
    "delete_preference",
    "delete_task",
    "find_user",
    "get_credential",
    "get_credential_secret",
    "get_memory",
    "get_preference",
    "get_preferences",
    "get_session",
    "get_session_messages",
    "get_synopsis",
    "get_task",
    "get_user",
    "get_user_context",
    "get_user_identifiers",
    "get_working_memory",
    "list_credentials",
    "list_memories",
    "list_sessions",
    "list_task_runs",
    "list_tasks",
    "pause_task",
    "record_turn",
    "redeem_link_code",
    "resolve_user",
    "restore_session",
    "resume_task",
    "schedule_task",
    "search_memories",
    "set_credential",
    "set_preference",
    "set_session_context",
    "unlink_user_identifier",
    "update_memory",
    "update_task",
]

PAIRS = [(FormationClient, AsyncFormationClient), (Channel, AsyncChannel)]


def public(kind: type) -> list[str]:
    return sorted(name for name in dir(kind) if not name.startswith("_"))


def test_the_public_names_are_these() -> None:
    assert muxi_identity.__all__ == PUBLIC
    assert all(hasattr(muxi_identity, name) for name in PUBLIC)


def test_muxi_hands_on_exactly_these() -> None:
    handed_on: dict[str, object] = {}
    exec("from muxi import *", handed_on)  # noqa: S102 (a star import is for modules alone)
    del handed_on["__builtins__"]

    assert muxi.__all__ == PUBLIC
    assert sorted(handed_on) == sorted(PUBLIC)
    assert all(value is getattr(muxi_identity, name) for name, value in handed_on.items())


def test_every_public_error_is_exported() -> None:
    def below(kind: type[BaseException]) -> set[str]:
        return {kind.__name__}.union(*map(below, kind.__subclasses__()))

    ours = {name for name in below(muxi_identity.MuxiError) if hasattr(muxi_identity.errors, name)}
    assert ours == {name for name in PUBLIC if name.endswith("Error")}


@pytest.mark.parametrize(("kind", "names"), [(FormationClient, CLIENT), (Channel, CHANNEL)])
def test_the_calls_are_these(kind: type, names: list[str]) -> None:
    assert public(kind) == names


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_both_clients_have_the_same_calls(blocking: type, awaited: type) -> None:
    assert public(blocking) == public(awaited)
    for name in public(blocking):
        one, other = inspect.getattr_static(blocking, name), inspect.getattr_static(awaited, name)
        assert isinstance(one, property) == isinstance(other, property), name
        assert isinstance(one, classmethod) == isinstance(other, classmethod), name
        if not isinstance(one, property):
            assert signature(blocking, name) == signature(awaited, name)


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_both_clients_are_made_alike(blocking: type, awaited: type) -> None:
    assert signature(blocking, "__init__") == signature(awaited, "__init__")


def test_what_blocks_is_no_coroutine_and_the_other_way_round() -> None:
    at_once = {"channel", "chat_stream", "export_users", "ephemeral", "cache_info", "formation_id"}
    for blocking, awaited in PAIRS:
        for name in set(public(blocking)) - at_once:
            assert not inspect.iscoroutinefunction(getattr(blocking, name)), name
            assert inspect.iscoroutinefunction(getattr(awaited, name)), name


def signature(kind: type, name: str) -> str:
    """What a caller passes and gets, with the asynchronous names read as the synchronous ones."""
    return str(inspect.signature(getattr(kind, name))).replace("Async", "").replace("BlockingClient", "FormationClient")
