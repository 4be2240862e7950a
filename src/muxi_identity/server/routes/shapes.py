"""Parameters and schemas that several routes have in common."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool, WithJsonSchema

from muxi_identity.arguments import MAX_KEY, MAX_MESSAGE, MAX_NOTE, MAX_QUERY, MAX_SESSION_ID
from muxi_identity.context.memories.checks import MAX_CONTENT, MAX_TYPE, MAX_VALUE
from muxi_identity.context.tasks.task import MAX_TASK_MESSAGE
from muxi_identity.errors import AmbiguousIdentifierError, InvalidIdentifierError, MuxiError, UserNotFoundError
from muxi_identity.refusals import MAX_CHARACTERS, MAX_SECRET_BYTES, TYPE_PATTERN

_VALUE = {"type": "string", "minLength": 1, "maxLength": MAX_CHARACTERS, "examples": ["alice@email.com"]}
_TYPE = {"type": "string", "pattern": TYPE_PATTERN, "examples": ["slack"]}

IDENTIFIER_SCHEMA: dict[str, Any] = {
    "title": "Identifier",
    "description": "`value`, `[value, type]`, or an object with more. Typed it is exact, untyped a guess.",
    "anyOf": [
        _VALUE,
        {"type": "integer"},
        {
            "type": "array",
            "prefixItems": [{"anyOf": [_VALUE, {"type": "integer"}]}, {"anyOf": [_TYPE, {"type": "null"}]}],
            "minItems": 2,
            "maxItems": 2,
        },
        {
            "type": "object",
            "properties": {
                "identifier": {"anyOf": [{**_VALUE, "maxLength": MAX_SECRET_BYTES}, {"type": "integer"}]},
                "type": {"anyOf": [_TYPE, {"type": "null"}]},
                "scope": {"type": ["string", "null"], "maxLength": 255},
                "verified": {"type": "boolean"},
                "expires_at": {"type": ["string", "null"], "format": "date-time"},
                "metadata": {"type": ["object", "null"]},
            },
            "required": ["identifier"],
            "additionalProperties": False,
        },
    ],
}

# What it holds is for the one parser of identifiers to judge: the same here as in a process.
AnyIdentifier: TypeAlias = Annotated[Any, WithJsonSchema(IDENTIFIER_SCHEMA)]
"""An identifier in any of its forms."""


UserInBody: TypeAlias = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "Any identifier of the user, where no header names them; an empty text names nobody.",
            "anyOf": [*IDENTIFIER_SCHEMA["anyOf"], {"const": ""}, {"type": "null"}],
        }
    ),
]
"""Whom a call is about, as a field of its body."""


def _text(most: int, example: str, least: int = 1) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "minLength": least, "maxLength": most, "examples": [example]})


# The engine judges all of these as well: what it says of them is the same here as in a process.
MessageText: TypeAlias = Annotated[Any, _text(MAX_MESSAGE, "My budget is $5,000")]
SessionId: TypeAlias = Annotated[Any, _text(MAX_SESSION_ID, "thread-1")]
QueryText: TypeAlias = Annotated[Any, _text(MAX_QUERY, "budget")]
QueryOrNone: TypeAlias = Annotated[Any, _text(MAX_QUERY, "budget", least=0)]
MemoryText: TypeAlias = Annotated[Any, _text(MAX_CONTENT, "Allergic to peanuts")]
MemoryType: TypeAlias = Annotated[Any, _text(MAX_TYPE, "note")]
MemoryValue: TypeAlias = Annotated[Any, _text(MAX_VALUE, "$5,000")]
ShortText: TypeAlias = Annotated[Any, _text(300, "Planning a trip to Lisbon")]
TaskText: TypeAlias = Annotated[Any, _text(MAX_TASK_MESSAGE, "Remind me of my budget")]
Name: TypeAlias = Annotated[Any, _text(MAX_KEY, "github")]
Schedule: TypeAlias = Annotated[Any, _text(200, "0 9 * * 1")]
Zone: TypeAlias = Annotated[Any, _text(64, "Europe/Berlin")]
JsonObject: TypeAlias = Annotated[Any, WithJsonSchema({"type": "object"})]
Json: TypeAlias = Annotated[Any, WithJsonSchema({"description": "Any JSON value."})]
MessageGiven: TypeAlias = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "role": {"enum": ["user", "assistant", "system", "tool"]},
                "content": {"type": "string", "minLength": 1, "maxLength": MAX_MESSAGE},
                "created_at": {"type": ["string", "null"], "format": "date-time"},
            },
            "required": ["role", "content"],
        }
    ),
]
AudienceName: TypeAlias = Annotated[Any, WithJsonSchema({"enum": ["private", "shared"]})]

Note: TypeAlias = Annotated[str | None, Field(max_length=MAX_NOTE)]
"""A text for the history."""

Flag: TypeAlias = StrictBool

UserInPath: TypeAlias = Annotated[
    str,
    Path(
        description="Any identifier of the user, percent-encoded, the public id, or `me`: whom header or token name.",
        max_length=MAX_CHARACTERS,
        examples=["alice@email.com"],
    ),
]
UserInQuery: TypeAlias = Annotated[
    str | None,
    Query(description="The same as X-Muxi-User-ID, for clients that send it here too.", max_length=MAX_SECRET_BYTES),
]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Cursor: TypeAlias = Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")]


NAMING: tuple[type[MuxiError], ...] = (UserNotFoundError, AmbiguousIdentifierError, InvalidIdentifierError)
"""What can be wrong with the naming of a user."""


def or_me(user_id: str) -> str | None:
    """Return whom a path names, None where it leaves that to header or token."""
    return None if user_id == "me" else user_id


class Body(BaseModel):
    """A request's body. A key that nobody knows is refused: it is a slip of the pen, and its default would be used."""

    model_config = ConfigDict(extra="forbid", strict=True)


class OpenBody(BaseModel):
    """A request's body with more in it than is read: what clients of the whole product send is not all ours."""

    model_config = ConfigDict(extra="ignore", strict=True)
