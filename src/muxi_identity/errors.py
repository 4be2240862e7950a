"""Every error that the library raises on purpose.

::

    MuxiError
    ├── ConfigurationError              CONFIGURATION
    ├── InvalidRequestError             INVALID_REQUEST
    │   ├── InvalidIdentifierError      INVALID_IDENTIFIER
    │   ├── InvalidScheduleError        INVALID_SCHEDULE
    │   ├── SecretRefusedError          SECRET_REFUSED
    │   └── TooLargeError               TOO_LARGE
    ├── AmbiguousIdentifierError        AMBIGUOUS_IDENTIFIER
    ├── NotFoundError
    │   ├── UserNotFoundError           USER_NOT_FOUND
    │   ├── IdentifierNotFoundError     IDENTIFIER_NOT_FOUND
    │   ├── SessionNotFoundError        SESSION_NOT_FOUND
    │   ├── MemoryNotFoundError         MEMORY_NOT_FOUND
    │   ├── PreferenceNotFoundError     PREFERENCE_NOT_FOUND
    │   ├── CredentialNotFoundError     CREDENTIAL_NOT_FOUND
    │   ├── TaskNotFoundError           TASK_NOT_FOUND
    │   ├── EventNotFoundError          EVENT_NOT_FOUND
    │   ├── MergeNotFoundError          MERGE_NOT_FOUND
    │   └── FormationNotFoundError      FORMATION_NOT_FOUND
    ├── ConflictError
    │   ├── IdentifierConflictError     IDENTIFIER_CONFLICT
    │   ├── IdentifierLimitError        IDENTIFIER_LIMIT
    │   ├── LastIdentifierError         LAST_IDENTIFIER
    │   ├── MergeConflictError          MERGE_CONFLICT
    │   ├── UserExistsError             USER_EXISTS
    │   ├── AudienceMismatchError       AUDIENCE_MISMATCH
    │   ├── IdentityChangedError        IDENTITY_CHANGED   (retryable)
    │   ├── RequestInProgressError      REQUEST_IN_PROGRESS (retryable)
    │   └── OutcomeUnknownError         OUTCOME_UNKNOWN
    ├── AccessError
    │   ├── UnauthorizedError           UNAUTHORIZED
    │   └── ForbiddenError              FORBIDDEN
    ├── RequestTimeoutError             REQUEST_TIMEOUT    (retryable)
    ├── RateLimitedError                RATE_LIMITED       (retryable)
    │   └── LinkCodeLimitError          LINK_CODE_LIMITED  (retryable)
    ├── LinkCodeError                   LINK_CODE_INVALID
    ├── CredentialUnreadableError       CREDENTIAL_UNREADABLE
    ├── ModelError                      MODEL_FAILED
    │   └── ModelUnavailableError       MODEL_UNAVAILABLE  (retryable)
    │       └── ModelTimeoutError       MODEL_TIMEOUT      (retryable)
    ├── StorageUnavailableError         STORAGE_UNAVAILABLE (retryable)
    ├── ServerUnavailableError          SERVER_UNAVAILABLE (retryable)
    ├── InternalError                   INTERNAL
    ├── EmbeddedOnlyError               EMBEDDED_ONLY
    └── ClientClosedError               CLIENT_CLOSED

``code`` is stable and is what travels on the wire; ``details`` holds the keyword attributes in the shape of
the wire. A message never carries a secret, an internal key or another person's identifier that the caller
did not name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class MuxiError(Exception):
    """The root of the tree; catch it to catch everything that this library raises on purpose."""

    code: ClassVar[str] = "ERROR"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details

    def __getattr__(self, name: str) -> Any:
        # Only called for names that are not ordinary attributes: details read as attributes.
        details = self.__dict__.get("details", {})
        if name in details:
            return details[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, dict(self.details)))


def _rebuild(kind: type[MuxiError], message: str, details: dict[str, Any]) -> MuxiError:
    return kind(message, **details)


class ConfigurationError(MuxiError):
    """What is needed here is not configured or not installed; the message names it, and the mend."""

    code = "CONFIGURATION"


class InvalidRequestError(MuxiError):
    """An argument has the wrong shape or value; nothing was read or written."""

    code = "INVALID_REQUEST"


class InvalidIdentifierError(InvalidRequestError):
    """The value cannot be anybody's identifier (``reason`` says why); nothing was written."""

    code = "INVALID_IDENTIFIER"


class InvalidScheduleError(InvalidRequestError):
    """A task's cron expression, time or time zone cannot be read, or no run lies ahead; nothing was written."""

    code = "INVALID_SCHEDULE"


class SecretRefusedError(InvalidRequestError):
    """What was to be remembered looks like a key or a password; keep it as a credential instead."""

    code = "SECRET_REFUSED"


class TooLargeError(InvalidRequestError):
    """Something is longer than what is taken; ``limit`` says how long it may be. Nothing was written."""

    code = "TOO_LARGE"
    limit: int


class AmbiguousIdentifierError(MuxiError):
    """Several people are known by that untyped spelling; ``types`` names the types to choose from."""

    code = "AMBIGUOUS_IDENTIFIER"
    types: Sequence[str]


class NotFoundError(MuxiError):
    """What was named does not exist in this formation."""

    code = "NOT_FOUND"


class UserNotFoundError(NotFoundError):
    """No user has that public id or identifier, and the call was not allowed to create one."""

    code = "USER_NOT_FOUND"


class IdentifierNotFoundError(NotFoundError):
    """That identifier is not linked to anybody."""

    code = "IDENTIFIER_NOT_FOUND"


class SessionNotFoundError(NotFoundError):
    """The identifier that was named has no such session; another identifier's is none of its."""

    code = "SESSION_NOT_FOUND"


class MemoryNotFoundError(NotFoundError):
    """That person has no such memory."""

    code = "MEMORY_NOT_FOUND"


class PreferenceNotFoundError(NotFoundError):
    """That person has set no such preference."""

    code = "PREFERENCE_NOT_FOUND"


class CredentialNotFoundError(NotFoundError):
    """That person has no such credential."""

    code = "CREDENTIAL_NOT_FOUND"


class TaskNotFoundError(NotFoundError):
    """There is no such task, or it is another person's."""

    code = "TASK_NOT_FOUND"


class EventNotFoundError(NotFoundError):
    """No webhook has given that event up."""

    code = "EVENT_NOT_FOUND"


class MergeNotFoundError(NotFoundError):
    """No merge has that id, or one of the users that it joined was deleted."""

    code = "MERGE_NOT_FOUND"


class FormationNotFoundError(NotFoundError):
    """The server has no formation of the id that the address names."""

    code = "FORMATION_NOT_FOUND"


class ConflictError(MuxiError):
    """The request contradicts what is stored; nothing was written."""

    code = "CONFLICT"


class IdentifierConflictError(ConflictError):
    """Identifiers belong to other users.

    ``conflicts`` is a list of ``{"identifier", "type", "muxi_user_id"}``, one for each identifier in conflict,
    with its owner's public id. Secrets are named by their hint.
    """

    code = "IDENTIFIER_CONFLICT"
    conflicts: Sequence[Mapping[str, Any]]


class IdentifierLimitError(ConflictError):
    """The person would hold more identifiers than allowed; ``limit`` and, for one type, ``type`` say which."""

    code = "IDENTIFIER_LIMIT"
    limit: int


class LastIdentifierError(ConflictError):
    """The person would be left without any identifier; pass ``force=True`` to do it all the same."""

    code = "LAST_IDENTIFIER"


class MergeConflictError(ConflictError):
    """These two users cannot be merged, or a person made of several users would be deleted unasked."""

    code = "MERGE_CONFLICT"


class UserExistsError(ConflictError):
    """``create_user`` was given a public id that is taken."""

    code = "USER_EXISTS"


class AudienceMismatchError(ConflictError):
    """The session is private and the call is for others to read, or the other way round; use another session."""

    code = "AUDIENCE_MISMATCH"


class IdentityChangedError(ConflictError):
    """Who the identifier belongs to changed while the call was under way; nothing was written. Call again."""

    code = "IDENTITY_CHANGED"
    retryable = True


class RequestInProgressError(ConflictError):
    """The server is still doing what an earlier request with this idempotency key asked for. Ask again later."""

    code = "REQUEST_IN_PROGRESS"
    retryable = True


class OutcomeUnknownError(ConflictError):
    """A server went down while it did what an earlier request with this idempotency key asked for.

    Doing it again could do it twice. Look whether it was done; if not, ask again with another key.
    """

    code = "OUTCOME_UNKNOWN"


class AccessError(MuxiError):
    """A server did not let the caller do this; nothing was read or written."""

    code = "ACCESS"


class UnauthorizedError(AccessError):
    """The request has no key or token that the formation knows, or an expired one."""

    code = "UNAUTHORIZED"


class ForbiddenError(AccessError):
    """The key or token is good, and does not allow this: it takes another one."""

    code = "FORBIDDEN"


class RequestTimeoutError(MuxiError):
    """The request took too long to reach the server. Nothing was done, but for rows of an import. Send it again."""

    code = "REQUEST_TIMEOUT"
    retryable = True


class RateLimitedError(MuxiError):
    """The key or token has asked too often. Ask again after ``retry_after`` seconds."""

    code = "RATE_LIMITED"
    retryable = True
    retry_after: int


class LinkCodeLimitError(RateLimitedError):
    """Too many wrong link codes were typed; ``retry_after`` says for how many seconds none is taken."""

    code = "LINK_CODE_LIMITED"


class LinkCodeError(MuxiError):
    """The link code joins nothing: unknown, expired, used or void; which, is not told. Ask for a new one."""

    code = "LINK_CODE_INVALID"


class CredentialUnreadableError(MuxiError):
    """None of the configured keys opens the credential; the message says which key is missing."""

    code = "CREDENTIAL_UNREADABLE"


class ModelError(MuxiError):
    """The language model answered with an error or with nonsense; nothing of the turn was recorded."""

    code = "MODEL_FAILED"


class ModelUnavailableError(ModelError):
    """The language model cannot be reached or is overloaded. Nothing of the turn was recorded; call again later.

    Where the provider says for how many seconds it wants to be left alone, ``retry_after`` says so too.
    """

    code = "MODEL_UNAVAILABLE"
    retryable = True


class ModelTimeoutError(ModelUnavailableError):
    """The language model did not answer in time. Nothing of the turn was recorded; call again later."""

    code = "MODEL_TIMEOUT"


class StorageUnavailableError(MuxiError):
    """The database cannot be reached or did not answer in time. Call again later."""

    code = "STORAGE_UNAVAILABLE"
    retryable = True


class ServerUnavailableError(MuxiError):
    """The formation server cannot be reached, or gave no answer that makes sense. Call again later.

    What was to be written may have been written all the same, where the connection broke after it was sent.
    """

    code = "SERVER_UNAVAILABLE"
    retryable = True


class InternalError(MuxiError):
    """A server made a mistake; its log has more under ``request_id``."""

    code = "INTERNAL"
    request_id: str


class EmbeddedOnlyError(MuxiError):
    """This call works only in the process that has the formation open, not over HTTP; the message says why."""

    code = "EMBEDDED_ONLY"


class ClientClosedError(MuxiError):
    """The client was closed before this call; make another one."""

    code = "CLIENT_CLOSED"
