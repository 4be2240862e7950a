"""Which web pages may call a formation: those that its configuration names, and none unless it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.responses import Response

# What a page with a user token sends. No key is among them: what a page holds, everybody who opens it has.
_ALLOWED_HEADERS = (
    "authorization, content-type, last-event-id, x-muxi-user-id, x-muxi-user-id-type, x-muxi-user-id-scope, "
    "x-muxi-idempotency-key, x-request-id"
)
_MAX_AGE_SECONDS = "600"


def allow_origin(origins: Sequence[str], origin: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the headers by which a browser lets a page of ``origin`` read the answer."""
    if not origins:
        return []
    vary = (b"vary", b"Origin")  # also for others: a cache must not hand them what was meant for this one
    if origin is None or origin.decode("latin-1") not in origins:
        return [vary]
    exposed = (b"access-control-expose-headers", b"x-request-id, retry-after")
    return [vary, (b"access-control-allow-origin", origin), exposed]


def preflight(origins: Sequence[str], headers: Mapping[bytes, bytes], method: str) -> Response | None:
    """Return the answer to a browser that asks before it sends a request; None where this is no such question."""
    if method != "OPTIONS" or b"access-control-request-method" not in headers:
        return None
    if headers.get(b"origin", b"").decode("latin-1") not in origins:
        return None
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Max-Age": _MAX_AGE_SECONDS,
        },
    )
