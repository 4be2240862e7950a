"""One person, many identifiers, one memory: the multi-identity user layer for AI assistants."""

from muxi_identity.client.asynchronous import AsyncChannel, AsyncFormationClient
from muxi_identity.client.synchronous import Channel, FormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.context.facts import Fact
from muxi_identity.context.message import Message
from muxi_identity.conversation.responder import Responder, Response, Turn
from muxi_identity.errors import (
    AmbiguousIdentifierError,
    ClientClosedError,
    ConfigurationError,
    ConflictError,
    IdentifierConflictError,
    IdentifierLimitError,
    IdentifierNotFoundError,
    IdentityChangedError,
    InvalidIdentifierError,
    InvalidRequestError,
    LastIdentifierError,
    MergeConflictError,
    MuxiError,
    NotFoundError,
    SessionNotFoundError,
    StorageUnavailableError,
    UserExistsError,
    UserNotFoundError,
)
from muxi_identity.models import (
    ChatReply,
    DeleteResult,
    IdentifierName,
    IdentifierRecord,
    LinkResult,
    ResolvedUser,
    SessionMessage,
    SessionMessages,
    UnlinkResult,
    UserPage,
    UserRecord,
)

__version__ = "0.1.0"

__all__ = [
    "AmbiguousIdentifierError",
    "AsyncChannel",
    "AsyncFormationClient",
    "Channel",
    "ChatReply",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "DeleteResult",
    "Fact",
    "FormationClient",
    "FormationConfig",
    "IdentifierConflictError",
    "IdentifierLimitError",
    "IdentifierName",
    "IdentifierNotFoundError",
    "IdentifierRecord",
    "IdentityChangedError",
    "InvalidIdentifierError",
    "InvalidRequestError",
    "LastIdentifierError",
    "LinkResult",
    "MergeConflictError",
    "Message",
    "MuxiError",
    "NotFoundError",
    "ResolvedUser",
    "Responder",
    "Response",
    "SessionMessage",
    "SessionMessages",
    "SessionNotFoundError",
    "StorageUnavailableError",
    "Turn",
    "UnlinkResult",
    "UserExistsError",
    "UserNotFoundError",
    "UserPage",
    "UserRecord",
    "__version__",
]
