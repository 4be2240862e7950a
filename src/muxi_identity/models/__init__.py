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
from muxi_identity.models.times import iso, iso_or_none, microseconds

__all__ = [
    "Audience",
    "ChatReply",
    "ClearResult",
    "CredentialRecord",
    "CredentialService",
    "DeleteResult",
    "IdentifierName",
    "IdentifierRecord",
    "LinkResult",
    "MemoryPage",
    "MemoryRecord",
    "PreferenceRecord",
    "RecordedTurn",
    "ResolvedUser",
    "RestoreResult",
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
    "UserContext",
    "UserPage",
    "UserRecord",
    "WorkingItem",
    "iso",
    "iso_or_none",
    "microseconds",
]
