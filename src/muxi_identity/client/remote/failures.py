"""From what the wire says of an error back to the exception that the engine raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from muxi_identity import errors

_FALLBACKS: Mapping[int, type[errors.MuxiError]] = {
    401: errors.UnauthorizedError,
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    408: errors.RequestTimeoutError,
    409: errors.ConflictError,
    413: errors.TooLargeError,
    429: errors.RateLimitedError,
}


def _below(kind: type[errors.MuxiError]) -> Iterator[type[errors.MuxiError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _below(each)


# This client was not closed because a server was: that code means something else here than there.
_KINDS: Mapping[str, type[errors.MuxiError]] = {
    **{kind.code: kind for kind in _below(errors.MuxiError) if kind.__module__ == errors.__name__},
    errors.ClientClosedError.code: errors.ServerUnavailableError,
}


def rebuild(status: int, code: str, message: str, details: Mapping[str, Any]) -> errors.MuxiError:
    """Return the error that a server told of.

    One that only a newer server knows becomes the nearest class that the status stands for; its code is in
    ``details["server_code"]``.
    """
    kind = _KINDS.get(code)
    if kind is None:
        fallback = errors.InvalidRequestError if 400 <= status < 500 else errors.InternalError
        kind = _FALLBACKS.get(status, fallback)
        details = {**details, "server_code": code}
    error = kind(message)
    error.details = dict(details)  # not as keywords: a newer server may name one like an argument
    return error
