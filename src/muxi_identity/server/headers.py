"""The headers that a request may have beside its key, as the OpenAPI document has them."""

from __future__ import annotations

from typing import Any

from muxi_identity.arguments import MAX_NOTE
from muxi_identity.refusals import MAX_SCOPE_CHARACTERS, MAX_SECRET_BYTES, TYPE_PATTERN
from muxi_identity.server.call import Access
from muxi_identity.server.idempotency import MAX_KEY
from muxi_identity.server.operations import Operation


def _header(name: str, about: str, **schema: Any) -> dict[str, Any]:
    described = {"type": "string", **schema}
    return {"name": name, "in": "header", "required": False, "description": about, "schema": described}


_TYPE = (
    _header(
        "X-Muxi-User-ID-Type",
        "The type of an identifier that stands bare, such as `slack`.",
        pattern=TYPE_PATTERN,
        examples=["slack"],
    ),
    _header(
        "X-Muxi-User-ID-Scope",
        "Its scope, such as the Slack workspace; only with a type.",
        maxLength=MAX_SCOPE_CHARACTERS,
    ),
    _header(
        "X-Muxi-User-ID-Form",
        "`pair`: value and type are one identifier as they stand. Else a bare `usr_...` is a public id.",
    ),
)
_USER = _header(
    "X-Muxi-User-ID",
    "Whom the call is about: any identifier of the user, or the public id. A token says it itself.",
    maxLength=MAX_SECRET_BYTES,
    examples=["alice@email.com"],
)
_NOTES = (
    _header("X-Muxi-Source", "By what way it came, for the history.", maxLength=MAX_NOTE),
    _header("X-Muxi-Reason", "Why, for the history.", maxLength=MAX_NOTE),
)
_ACTOR = _header(
    "X-Muxi-Actor",
    f"In whose name it is done, for the history, in at most {MAX_NOTE} characters; else the kind of key. Of no effect "
    "beside a token.",
)
_ONCE = _header(
    "X-Muxi-Idempotency-Key",
    "Sent again with the same key within a day, the request is answered from what it did the first time.",
    maxLength=MAX_KEY,
)
_IMPORT = _header(
    "X-Muxi-Idempotency-Key",
    "Stands for an `import_id`, if none is given: sent again with the same key, the import goes on where it stood.",
)


def parameters_of(operation: Operation) -> list[dict[str, Any]]:
    """Return the headers that an operation reads."""
    found: list[dict[str, Any]] = []
    if operation.user:
        found.append(_USER)
    if operation.user or operation.typed:
        found += _TYPE
    if operation.noted:
        found += _NOTES
    if operation.access is not Access.PUBLIC and operation.method != "GET":
        found.append(_ACTOR)
    if operation.repetition is not None:
        found.append(_ONCE)
    if operation.takes_rows:
        found.append(_IMPORT)
    return found
