"""The OpenAPI document: made from the operations, the models and the table of errors; nothing is written twice."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from muxi_identity.errors import InternalError, MuxiError
from muxi_identity.server.call import Access
from muxi_identity.server.event_shapes import REFUSED, STREAMS, Stream
from muxi_identity.server.examples import NOT_JSON, REQUEST_ID, TIMESTAMP, example_of
from muxi_identity.server.headers import parameters_of
from muxi_identity.server.links import LINKS
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


def responses_of(operation: Operation) -> dict[int | str, dict[str, Any]]:
    """Return every response of an operation, by status."""
    found: dict[int | str, dict[str, Any]] = {operation.status: _good(operation)}
    by_status: defaultdict[int, list[type[MuxiError]]] = defaultdict(list)
    for error in operation.errors:
        by_status[status_of(error)].append(error)
    for status, errors in sorted(by_status.items()):
        found[status] = _bad(operation, status, errors)
    if 422 in by_status:  # what takes parameters takes wrong ones, and a body that is no JSON
        content = {**_error_content(operation, {NOT_JSON: _example_ref(NOT_JSON)}), "text/plain": {}}
        found[400] = {"description": "The body is no JSON; in plain text: the request is no HTTP.", "content": content}
    found[500] = {
        "description": "`INTERNAL`: a mistake of the server's; `details.request_id` is what its log has.",
        "content": _error_content(operation, {InternalError.code: _example_ref(InternalError.code)}),
    }
    return found


def _good(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    data = {} if operation.data is None else {"$ref": _REF.format(name=operation.data.__name__)}
    if operation.media is not None:
        content[operation.media] = {"schema": data, "example": operation.example} if data else {}
    elif data:
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
                "timestamp": TIMESTAMP,
                "type": operation.name,
                "request": {"id": REQUEST_ID, "idempotency_key": None},
                "success": True,
                "error": None,
                "data": operation.example,
            }
    if operation.streams:
        content["text/event-stream"] = _stream(STREAMS[operation.name])
    good = {"description": operation.summary, "content": content}
    links = dict(described for link in LINKS.get(operation.name, ()) for described in link.described())
    return {**good, "links": links} if links else good


def _bad(operation: Operation, status: int, errors: Sequence[type[MuxiError]]) -> dict[str, Any]:
    examples = {error.code: _example_ref(error.code) for error in errors}
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
    return {"application/json": content, "text/event-stream": _stream(REFUSED)}


def _example_ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/examples/{name}"}


def _first_line(error: type[MuxiError]) -> str:
    return (error.__doc__ or "").partition("\n")[0]


def _stream(stream: Stream) -> dict[str, Any]:
    """Return the content of an event stream. Its schema is that of one event, as tools for OpenAPI 3.1 read it."""
    events = [
        {
            "type": "object",
            "properties": {
                "event": {"const": name},
                "data": {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "contentSchema": {"$ref": _REF.format(name=shape.__name__)},
                },
            },
            "required": ["event", "data"],
        }
        for name, shape in stream.events.items()
    ]
    return {"schema": {"oneOf": events}, "example": stream.example.decode()}


def extra_of(operation: Operation) -> dict[str, Any]:
    """Return what the framework does not know of an operation: security, headers, the example of a request."""
    extra: dict[str, Any] = {"security": _ALLOWED[operation.access]}
    parameters = parameters_of(operation)
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


def complete(document: dict[str, Any], groups: Iterable[Routes]) -> dict[str, Any]:
    """Add to the framework's document the schemas of the models, the security schemes and both forms of address."""
    groups = list(groups)
    kinds = {
        operation.data.__name__: operation.data
        for group in groups
        for operation in group.operations
        if operation.data is not None
    }
    told = {shape for stream in STREAMS.values() for shape in stream.events.values()}
    _, schemas = msgspec.json.schema_components([*kinds.values(), *told], ref_template=_REF)
    components = document.setdefault("components", {})
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    components.setdefault("schemas", {}).update({**schemas, **_ENVELOPES})
    components["securitySchemes"] = _SECURITY
    errors = {error.code: error for group in groups for operation in group.operations for error in operation.errors}
    errors[InternalError.code] = InternalError
    components["examples"] = {
        **{code: {"summary": _first_line(error), "value": example_of(error)} for code, error in sorted(errors.items())},
        NOT_JSON: {"summary": "The body is no JSON.", "value": example_of(NOT_JSON)},
    }
    document["tags"] = [{"name": group.tag, "description": group.about} for group in groups]
    named = {"formation_id": {"default": "default", "description": "The formation's id."}}
    document["servers"] = [
        {"url": "/", "description": "The first formation of the server."},
        {"url": "/api/{formation_id}", "description": "One formation of several.", "variables": named},
        {"url": "/draft/{formation_id}", "description": "The same, as some clients write it.", "variables": named},
    ]
    return document
