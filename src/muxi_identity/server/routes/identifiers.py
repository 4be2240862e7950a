"""Identifiers: linking, listing, unlinking."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from fastapi import Path
from pydantic import WithJsonSchema

from muxi_identity.errors import (
    AmbiguousIdentifierError,
    IdentifierConflictError,
    IdentifierLimitError,
    IdentifierNotFoundError,
    IdentityChangedError,
    InvalidIdentifierError,
    LastIdentifierError,
    UserNotFoundError,
)
from muxi_identity.identity.associating import MAX_IDENTIFIERS
from muxi_identity.models import IdentifierName, IdentifierRecord, UnlinkResult
from muxi_identity.refusals import MAX_CHARACTERS
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import IDENTIFIER_SCHEMA, AnyIdentifier, Body, Flag, Note, UserInBody

routes = Routes("Identifiers", "What a person is known by. All of it takes the admin key.")

_NAME = {"identifier": "alice@email.com", "type": "email"}
_ALICE = "usr_1f2e3d4c5b6a79880f1e"


InPath = Annotated[
    str, Path(description="The rest of the path: a slash need not be encoded.", max_length=MAX_CHARACTERS)
]


class Linked(TypedDict):
    """What a link did; see :class:`muxi_identity.LinkResult`. ``count``: of ``identifiers``."""

    muxi_user_id: str
    created: bool
    identifiers: list[IdentifierName]
    new_identifiers: list[str]
    existing_identifiers: list[str]
    skipped: list[str]
    merge_ids: list[str]
    count: int


class IdentifierList(TypedDict):
    """A person's identifiers, in linking order."""

    muxi_user_id: str
    identifiers: list[IdentifierRecord]
    count: int


class LinkBody(Body):
    """What to link to whom."""

    identifiers: Annotated[
        Any,
        WithJsonSchema(
            {"type": "array", "items": IDENTIFIER_SCHEMA, "minItems": 1, "maxItems": MAX_IDENTIFIERS},
        ),
    ]
    muxi_user_id: UserInBody = None
    on_conflict: Literal["raise", "absorb", "merge"] = "raise"
    verified: Flag = False
    source: Note = None
    reason: Note = None


class UnlinkBody(Body):
    """Which identifier leaves its person."""

    identifier: AnyIdentifier
    force: Flag = False
    source: Note = None
    reason: Note = None


@routes.add(
    "POST",
    "/users/identifiers",
    access=Access.ADMIN,
    data=Linked,
    repetition="harmless",
    raises=(
        IdentifierConflictError,
        IdentifierLimitError,
        UserNotFoundError,
        AmbiguousIdentifierError,
        InvalidIdentifierError,
        IdentityChangedError,
    ),
    body={"identifiers": ["alice@email.com", ["U98765ABC", "slack"]], "muxi_user_id": None},
    example={
        "muxi_user_id": _ALICE,
        "created": True,
        "identifiers": [_NAME, {"identifier": "U98765ABC", "type": "slack"}],
        "new_identifiers": ["alice@email.com", "U98765ABC"],
        "existing_identifiers": [],
        "skipped": [],
        "merge_ids": [],
        "count": 2,
    },
)
async def link_user_identifiers(call: Calling, body: LinkBody) -> Linked:
    """Link identifiers to one user, all or none.

    With `muxi_user_id`, to that user. Without, to whoever has one of them already, or else to a new user.
    `on_conflict` says what to do where they belong to different users: `raise`, `absorb` users that only first contact
    made, or `merge` any.
    """
    linked = await call.client.associate_user_identifiers(
        body.identifiers,
        body.muxi_user_id or None,  # clients that always send the field send it empty for nobody
        on_conflict=body.on_conflict,
        verified=body.verified,
        source=body.source,
        reason=body.reason,
        idempotency_key=call.repetition_key,  # kept with what is done: exact even where a worker dies
    )
    call.shown_user = linked["muxi_user_id"]
    return {**linked, "count": len(linked["identifiers"])}


@routes.add(
    "GET",
    "/users/identifiers/{identifier:tail}",
    access=Access.ADMIN,
    data=IdentifierList,
    user=True,
    raises=(UserNotFoundError, AmbiguousIdentifierError, InvalidIdentifierError),
    example={
        "muxi_user_id": _ALICE,
        "identifiers": [
            {
                **_NAME,
                "scope": None,
                "verified": False,
                "verified_at": None,
                "source": None,
                "expires_at": None,
                "created_at": "2026-01-01T00:00:00.000000Z",
                "metadata": None,
            }
        ],
        "count": 1,
    },
)
async def get_user_identifiers(call: Calling, identifier: InPath) -> IdentifierList:
    """List a user's identifiers, in linking order. Secrets are shown by a hint.

    The path names the user by any of them, or by the public id.
    """
    record = await call.client.get_user(call.named(identifier))
    records: list[IdentifierRecord] = await call.client.get_user_identifiers(record["muxi_user_id"], detailed=True)
    return {"muxi_user_id": record["muxi_user_id"], "identifiers": records, "count": len(records)}


_UNLINK: dict[str, Any] = {
    "access": Access.ADMIN,
    "data": UnlinkResult,
    "typed": True,
    "raises": (
        IdentifierNotFoundError,
        AmbiguousIdentifierError,
        LastIdentifierError,
        InvalidIdentifierError,
        IdentityChangedError,
    ),
    "example": {
        "identifier": "alice@email.com",
        "muxi_user_id": _ALICE,
        "message": f"alice@email.com is no longer linked to {_ALICE}.",
    },
}


@routes.add("DELETE", "/users/identifiers/{identifier:tail}", **_UNLINK)
async def delete_user_identifier(
    call: Calling,
    identifier: InPath,
    force: bool = False,
) -> UnlinkResult:
    """Unlink an identifier that is no secret.

    The path of a request lands in logs: a key is unlinked by `POST /users/identifiers/unlink`.
    """
    return await call.client.unlink_user_identifier(call.typed(identifier), force=force)


@routes.add(
    "POST",
    "/users/identifiers/unlink",
    repetition="once",
    body={"identifier": ["key_abc123", "api_key"], "reason": "leaked"},
    **_UNLINK,
)
async def unlink_user_identifier(call: Calling, body: UnlinkBody) -> UnlinkResult:
    """Unlink an identifier from whoever has it. What was recorded through it stays with the person.

    The person's last one is unlinked with `force` alone. A secret that was unlinked is revoked for ever.
    """
    return await call.client.unlink_user_identifier(
        call.typed(body.identifier), force=body.force, source=body.source, reason=body.reason
    )
