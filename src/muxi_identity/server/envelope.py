"""What every answer is wrapped in, good and bad."""

from __future__ import annotations

import time
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_SUCCESS = (
    b'{"object":"response","timestamp":%d,"type":"%b","request":{"id":"%b","idempotency_key":%b},'
    b'"success":true,"error":null,"data":%b}'
)


def success(kind: str, data: Any, request_id: str, idempotency_key: str | None) -> bytes:
    """Return the body of an answer; ``kind`` names the operation."""
    # The frame is put together by hand, in half the time; an id of a request needs no escaping.
    return _SUCCESS % (
        time.time_ns() // 1_000_000,
        kind.encode(),
        request_id.encode(),
        b"null" if idempotency_key is None else _encode(idempotency_key),
        _encode(data),
    )


def failure(code: str, message: str, details: Any, request_id: str, idempotency_key: str | None) -> bytes:
    """Return the body of an error. ``code`` and ``message`` stand on top as well, where the SDK looks for them."""
    return _encode(
        {
            "object": "error",
            "timestamp": time.time_ns() // 1_000_000,
            "type": "error",
            "request": {"id": request_id, "idempotency_key": idempotency_key},
            "success": False,
            "error": {"code": code, "message": message, "details": details},
            "data": {},
            "code": code,
            "message": message,
        }
    )
