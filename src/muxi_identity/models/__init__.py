"""What the public calls return: plain typed dicts, the same embedded and on the wire.

Every ``muxi_user_id`` is a public id (``usr_...``) and names the root. Times are ISO 8601 in UTC. An identifier of a
secret type is shown by its hint and never by its value.
"""

from muxi_identity.models.chat import ChatReply
from muxi_identity.models.context import (
    Audience,
    ClearResult,
    CredentialRecord,
    CredentialService,
    MemoryPage,
    MemoryRecord,
    PreferenceRecord,
    RecordedTurn,
    RestoreResult,
    SessionMessage,
    SessionMessages,
    SessionPage,
    SessionRecord,
    Synopsis,
    TaskPage,
    TaskRecord,
    TaskRun,
    TaskRunPage,
    UserContext,
    WorkingItem,
)
from muxi_identity.models.events import (
    EVENT_TYPES,
    TASK_RUN_FINISH,
    DeadEvent,
    DeadEventPage,
    DeliveryReport,
    EventPayload,
    RetriedEvent,
)
from muxi_identity.models.export import UserArchive
from muxi_identity.models.identity import (
    DeleteResult,
    IdentifierName,
    IdentifierRecord,
    LinkResult,
    ResolvedUser,
    UnlinkResult,
    UserPage,
    UserRecord,
)
from muxi_identity.models.proof import IdentifierHint, LinkCode, LinkRedemption
from muxi_identity.models.times import iso, iso_or_none, microseconds

__all__ = [
    "EVENT_TYPES",
    "TASK_RUN_FINISH",
    "Audience",
    "ChatReply",
    "ClearResult",
    "CredentialRecord",
    "CredentialService",
    "DeadEvent",
    "DeadEventPage",
    "DeleteResult",
    "DeliveryReport",
    "EventPayload",
    "IdentifierHint",
    "IdentifierName",
    "IdentifierRecord",
    "LinkCode",
    "LinkRedemption",
    "LinkResult",
    "MemoryPage",
    "MemoryRecord",
    "PreferenceRecord",
    "RecordedTurn",
    "ResolvedUser",
    "RestoreResult",
    "RetriedEvent",
    "SessionMessage",
    "SessionMessages",
    "SessionPage",
    "SessionRecord",
    "Synopsis",
    "TaskPage",
    "TaskRecord",
    "TaskRun",
    "TaskRunPage",
    "UnlinkResult",
    "UserArchive",
    "UserContext",
    "UserPage",
    "UserRecord",
    "WorkingItem",
    "iso",
    "iso_or_none",
    "microseconds",
]
