"""The OpenAPI document: made from the operations, the models and the table of errors; nothing is written twice."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from muxi_identity.errors import MuxiError
from muxi_identity.refusals import MAX_SCOPE_CHARACTERS, MAX_SECRET_BYTES
from muxi_identity.server.call import Access
from muxi_identity.server.idempotency import MAX_KEY
from muxi_identity.server.operations import Operation, Routes
from muxi_identity.server.problems import status_of

_REF = "#/components/schemas/{name}"
_SECURITY: dict[str, dict[str, str]] = {
    "adminKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Muxi-Admin-Key",
        "description": "May do everything. For servers alone.",
    },
    "clientKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Muxi-Client-Key",
        "description": "Reads and writes what belongs to the one user that a request names. For servers alone.",
    },
    "userToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Signed and expiring: acts as one identifier alone. For browsers and mobile apps.",
    },
}
_ALLOWED: dict[Access, list[dict[str, list[str]]]] = {
    Access.PUBLIC: [],
    Access.USER: [{"clientKey": []}, {"adminKey": []}, {"userToken": []}],
    Access.ADMIN: [{"adminKey": []}],
}
_META = {
    "request": {
        "type": "object",
        "properties": {"id": {"type": "string"}, "idempotency_key": {"type": ["string", "null"]}},
        "required": ["id", "idempotency_key"],
    },
    "timestamp": {"type": "integer", "description": "Milliseconds since 1970."},
}
_ENVELOPES: dict[str, Any] = {
    "Envelope": {
        "type": "object",
        "description": "What every answer is wrapped in.",
        "properties": {
            "object": {"const": "response"},
            "type": {"type": "string", "description": "The operation."},
            "success": {"const": True},
            "error": {"type": "null"},
            **_META,
        },
        "required": ["object", "timestamp", "type", "request", "success", "error", "data"],
    },
    "Error": {
        "type": "object",
        "description": "`code` is stable; `details` holds what a program needs to go on.",
        "properties": {
            "object": {"const": "error"},
            "type": {"const": "error"},
            "success": {"const": False},
            "error": {
                "type": "object",
                "properties": {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "details": {"type": "object"},
                },
                "required": ["code", "message", "details"],
            },
            "data": {"type": "object", "maxProperties": 0},
            "code": {"type": "string"},
            "message": {"type": "string"},
            **_META,
        },
        "required": ["object", "timestamp", "type", "request", "success", "error", "data", "code", "message"],
    },
}
_USER_HEADERS = [
    (
        "X-Muxi-User-ID",
        MAX_SECRET_BYTES,
        "Whom the call is about: any identifier of the user, or the public id. A token says it itself.",
    ),
    ("X-Muxi-User-ID-Type", 64, "The identifier's type, such as `slack`."),
    ("X-Muxi-User-ID-Scope", MAX_SCOPE_CHARACTERS, "The identifier's scope, such as the Slack workspace."),
]


def responses_of(operation: Operation) -> dict[int | str, dict[str, Any]]:
    """Return every response of an operation, by status."""
    found: dict[int | str, dict[str, Any]] = {operation.status: _good(operation)}
    by_status: defaultdict[int, list[type[MuxiError]]] = defaultdict(list)
    for error in operation.errors:
        by_status[status_of(error)].append(error)
    for status, errors in sorted(by_status.items()):
        found[status] = _bad(operation, status, errors)
    if 422 in by_status:  # what takes parameters takes wrong ones, and a body that is no JSON
        content = {**_error_content(operation, {}), "text/plain": {}}
        found[400] = {"description": "The body is no JSON; in plain text: the request is no HTTP.", "content": content}
    found[500] = {
        "description": "`INTERNAL`: a mistake of the server's; `details.request_id` is what its log has.",
        "content": _error_content(operation, {}),
    }
    return found


def _good(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.data is not None:
        name = operation.data.__name__
        data = {"$ref": _REF.format(name=name)}
        content["application/json"] = {
            "schema": {
                "allOf": [
                    {"$ref": _REF.format(name="Envelope")},
                    {"type": "object", "properties": {"data": data}, "required": ["data"]},
                ]
            }
        }
        if operation.example is not None:
            content["application/json"]["example"] = {
                "object": "response",
                "timestamp": 1_767_225_600_000,
                "type": operation.name,
                "request": {"id": "req_5f0c1d2e3a4b5c6d7e8f", "idempotency_key": None},
                "success": True,
                "error": None,
                "data": operation.example,
            }
    if operation.media is not None:
        content[operation.media] = {}
    if operation.streams:
        content["text/event-stream"] = {}
    return {"description": operation.summary, "content": content}


def _bad(operation: Operation, status: int, errors: Sequence[type[MuxiError]]) -> dict[str, Any]:
    examples = {error.code: {"$ref": f"#/components/examples/{error.code}"} for error in errors}
    told = {
        "description": " ".join(f"`{error.code}`: {_first_line(error)}" for error in errors),
        "content": _error_content(operation, examples),
    }
    headers = {}
    if status == 429 or any(error.retryable for error in errors):
        headers["Retry-After"] = {"description": "Whole seconds to wait.", "schema": {"type": "integer"}}
    if status == 401:
        headers["WWW-Authenticate"] = {"description": "`Bearer`.", "schema": {"type": "string"}}
    return {**told, "headers": headers} if headers else told


def _error_content(operation: Operation, examples: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": _REF.format(name="Error")}}
    if examples:
        content["examples"] = examples
    return {"application/json": content, "text/event-stream": {}}


def _first_line(error: type[MuxiError]) -> str:
    return (error.__doc__ or "").partition("\n")[0]


def _example(error: type[MuxiError]) -> dict[str, Any]:
    message = _first_line(error)
    return {
        "object": "error",
        "timestamp": 1_767_225_600_000,
        "type": "error",
        "request": {"id": "req_5f0c1d2e3a4b5c6d7e8f", "idempotency_key": None},
        "success": False,
        "error": {"code": error.code, "message": message, "details": {}},
        "data": {},
        "code": error.code,
        "message": message,
    }


def extra_of(operation: Operation) -> dict[str, Any]:
    """Return what the framework does not know of an operation: security, headers, the example of a request."""
    extra: dict[str, Any] = {"security": _ALLOWED[operation.access]}
    parameters = []
    if operation.user:
        parameters += [_header(*each) for each in _USER_HEADERS]
    if operation.repetition is not None:
        parameters.append(
            _header(
                "X-Muxi-Idempotency-Key",
                MAX_KEY,
                "Sent again with the same key within a day, the request is answered from what it did the first time.",
            )
        )
    if parameters:
        extra["parameters"] = parameters
    if operation.takes_rows:
        rows = {"schema": {"type": "string"}, "example": json.dumps(operation.body)}
        extra["requestBody"] = {
            "description": "JSON lines, CSV, or pages of Slack's `users.list`; of whatever media type, packed or not.",
            "content": {"text/plain": rows, "application/octet-stream": {"schema": {"type": "string"}}},
        }
    elif operation.body is not None:
        extra["requestBody"] = {"content": {"application/json": {"example": operation.body}}}
    return extra


def _header(name: str, most: int, about: str) -> dict[str, Any]:
    schema = {"type": "string", "maxLength": most}
    return {"name": name, "in": "header", "required": False, "description": about, "schema": schema}


def complete(document: dict[str, Any], groups: Iterable[Routes]) -> dict[str, Any]:
    """Add to the framework's document the schemas of the models, the security schemes and both forms of address."""
    groups = list(groups)
    kinds = {
        operation.data.__name__: operation.data
        for group in groups
        for operation in group.operations
        if operation.data is not None
    }
    _, schemas = msgspec.json.schema_components(kinds.values(), ref_template=_REF)
    components = document.setdefault("components", {})
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    components.setdefault("schemas", {}).update({**schemas, **_ENVELOPES})
    components["securitySchemes"] = _SECURITY
    errors = {error.code: error for group in groups for operation in group.operations for error in operation.errors}
    components["examples"] = {
        code: {"summary": _first_line(error), "value": _example(error)} for code, error in sorted(errors.items())
    }
    document["tags"] = [{"name": group.tag, "description": group.about} for group in groups]
    named = {"formation_id": {"default": "default", "description": "The formation's id."}}
    document["servers"] = [
        {"url": "/", "description": "The first formation of the server."},
        {"url": "/api/{formation_id}", "description": "One formation of several.", "variables": named},
        {"url": "/draft/{formation_id}", "description": "The same, as some clients write it.", "variables": named},
    ]
    return document
