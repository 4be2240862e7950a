"""From an error to what the wire says of it: one table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from muxi_identity import errors

STATUS: Mapping[type[errors.MuxiError], int] = {
    errors.InvalidRequestError: 422,
    errors.TooLargeError: 413,
    errors.AmbiguousIdentifierError: 422,
    errors.UnauthorizedError: 401,
    errors.ForbiddenError: 403,
    errors.AccessError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.RequestTimeoutError: 408,
    errors.RateLimitedError: 429,
    errors.LinkCodeError: 422,
    # The data is there and none of the server's keys opens it: nothing that a repetition would mend.
    errors.CredentialUnreadableError: 409,
    errors.ModelError: 502,
    errors.ModelUnavailableError: 503,
    errors.ModelTimeoutError: 504,
    errors.StorageUnavailableError: 503,
    errors.ClientClosedError: 503,
    # Something that the request needs is not installed or configured here, such as the extra for phone numbers.
    errors.ConfigurationError: 501,
    errors.ServerUnavailableError: 503,
    errors.EmbeddedOnlyError: 501,
    errors.InternalError: 500,
    errors.MuxiError: 500,
}
"""An error that is not listed has the status of the nearest class above it that is."""

RETRY_SECONDS = 1
LONGEST_RETRY_SECONDS = 86_400
_DEPTH = 8  # of what is told: what holds itself has no end
_MOST_DIGITS = 1_000


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it is told: nothing in it is more than the caller may know."""

    status: int
    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def status_of(kind: type[errors.MuxiError]) -> int:
    """Return the status that an error of this class is answered with."""
    for each in kind.__mro__:
        if (status := STATUS.get(each)) is not None:
            return status
    raise AssertionError("every error descends from MuxiError")


def problem_of(error: errors.MuxiError, request_id: str, *, admin: bool) -> Problem:
    """Return what to tell of ``error``; ``admin``: the caller has the admin key.

    It never raises: an application's own responder may raise with anything in the details, and whoever asked must
    still be told which error it was.
    """
    status = status_of(type(error))
    if status == 500:
        return internal(request_id)
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 429 or error.retryable:
        headers["Retry-After"] = str(_seconds(error.details.get("retry_after")))
    message, details = error.message, _plain(error.details)
    if isinstance(error, errors.IdentifierConflictError) and not admin:
        # Whose it is would tell anybody with an application's key which people are the same.
        message = "Nothing was linked: some of the identifiers belong to others. The admin key tells to whom."
        conflicts = details.get("conflicts")
        details["conflicts"] = [
            {name: value for name, value in conflict.items() if name != "muxi_user_id"}
            for conflict in (conflicts if isinstance(conflicts, list) else [])
            if isinstance(conflict, dict)
        ]
    return Problem(status, error.code, _text(message), details, headers)


def internal(request_id: str) -> Problem:
    """Return what is told of a mistake of ours: where to look for it, and nothing else."""
    return Problem(
        500,
        errors.InternalError.code,
        f"The server made a mistake; its log has more under {request_id}.",
        {"request_id": request_id},
    )


def _seconds(told: object) -> int:
    """Return how long to wait: what the error says, where that is a number."""
    if isinstance(told, int | float) and told >= 1:
        return math.ceil(min(told, LONGEST_RETRY_SECONDS))
    return RETRY_SECONDS


def _plain(value: Any, depth: int = _DEPTH) -> Any:
    """Return ``value`` as JSON has it; what JSON does not have is told by the name of its type."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int) and abs(value) < 10**_MOST_DIGITS:
        return int(value)
    if depth and isinstance(value, Mapping):
        return {_text(str(_plain(name, 0))): _plain(each, depth - 1) for name, each in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth - 1) for each in value]
    return type(value).__name__


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()
