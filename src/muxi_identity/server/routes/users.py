"""Users: making, finding, listing, erasing."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from fastapi import Query
from pydantic import Field, WithJsonSchema

from muxi_identity.errors import (
    AmbiguousIdentifierError,
    IdentityChangedError,
    InvalidIdentifierError,
    MergeConflictError,
    UserExistsError,
    UserNotFoundError,
)
from muxi_identity.models import DeleteResult, UserArchive, UserPage, UserRecord
from muxi_identity.refusals import MAX_CHARACTERS
from muxi_identity.server.call import REASON, SOURCE, Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import Body, Cursor, Limit, Note, UserInPath

routes = Routes("Users", "People. All of it takes the admin key.")

_ALICE: dict[str, Any] = {
    "muxi_user_id": "usr_1f2e3d4c5b6a79880f1e",
    "merged_into": None,
    "merged_users": [],
    "established": True,
    "created_at": "2026-01-01T00:00:00.000000Z",
    "identifier_count": 2,
}


_PARTS = ("identifiers", "sessions", "memories", "working_memory", "preferences", "credentials", "tasks", "synopses")
_ARCHIVE: dict[str, Any] = {
    "format": "muxi-identity/person",
    "version": 1,
    "exported_at": "2026-01-01T00:00:00.000000Z",
    "formation_id": "default",
    "person": _ALICE,
    "users": [{"muxi_user_id": "usr_1f2e3d4c5b6a79880f1e"}],
    **{part: [] for part in (*_PARTS, "link_codes", "merges", "history")},
}


Beginning: TypeAlias = Annotated[
    str | None,
    Query(description="How an identifier of theirs begins.", max_length=MAX_CHARACTERS, examples=["alice@"]),
]
TypeInQuery: TypeAlias = Annotated[
    str | None, Query(description="Of which type that identifier is.", max_length=64, examples=["email"])
]
TimeInQuery: TypeAlias = Annotated[
    str | None,
    Query(description="A time in ISO 8601: made at it or later, or before it.", max_length=64),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
]


class NewUser(Body):
    """A user to be made."""

    muxi_user_id: Annotated[str | None, Field(pattern=r"^usr_[A-Za-z0-9_-]{1,64}$", examples=["usr_alice"])] = None
    source: Note = None
    reason: Note = None


@routes.add(
    "GET",
    "/users",
    access=Access.ADMIN,
    data=UserPage,
    raises=(InvalidIdentifierError,),
    example={"users": [_ALICE], "count": 1, "next_cursor": None},
)
async def list_users(
    call: Calling,
    identifier: Beginning = None,
    type: TypeInQuery = None,
    created_from: TimeInQuery = None,
    created_before: TimeInQuery = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> UserPage:
    """List people, oldest first, a page at a time: all of them, or those that a search finds."""
    return await call.client.list_users(
        identifier=identifier,
        type=type,
        created_from=created_from,
        created_before=created_before,
        limit=limit,
        cursor=cursor,
    )


@routes.add(
    "POST",
    "/users",
    access=Access.ADMIN,
    data=UserRecord,
    status=201,
    raises=(UserExistsError,),
    repetition="once",
    body={"muxi_user_id": "usr_alice"},
    example=_ALICE,
)
async def create_user(call: Calling, body: NewUser) -> UserRecord:
    """Make a user without identifiers, whom no automatic rule will merge away."""
    return await call.client.create_user(body.muxi_user_id, source=body.source, reason=body.reason)


@routes.add(
    "GET",
    "/users/{user_id:user}",
    access=Access.ADMIN,
    data=UserRecord,
    user=True,
    raises=(UserNotFoundError, AmbiguousIdentifierError, InvalidIdentifierError),
    example=_ALICE,
)
async def get_user(call: Calling, user_id: UserInPath) -> UserRecord:
    """Read the record of a user.

    Asked for by the id of a user who was merged, it is the record of whom they were merged into, and says so.
    """
    return await call.client.get_user(call.named(user_id))


@routes.add(
    "DELETE",
    "/users/{user_id:user}",
    access=Access.ADMIN,
    data=DeleteResult,
    noted=True,
    user=True,
    raises=(
        UserNotFoundError,
        AmbiguousIdentifierError,
        InvalidIdentifierError,
        MergeConflictError,
        IdentityChangedError,
    ),
    example={
        "muxi_user_id": "usr_1f2e3d4c5b6a79880f1e",
        "merged_users": [],
        "rows_deleted": 12,
        "counts": {"memories": 3},
        "dry_run": False,
    },
)
async def delete_user(
    call: Calling, user_id: UserInPath, include_merged: bool = False, dry_run: bool = False
) -> DeleteResult:
    """Erase a person with everything that is theirs.

    Where others were merged into them, `include_merged` must say that all of them go. `dry_run` only says what would.
    """
    return await call.client.delete_user(
        call.named(user_id),
        include_merged=include_merged,
        dry_run=dry_run,
        source=call.note(SOURCE),
        reason=call.note(REASON),
    )


@routes.add(
    "GET",
    "/users/{user_id:user}/export",
    access=Access.ADMIN,
    data=UserArchive,
    user=True,
    raises=(UserNotFoundError, AmbiguousIdentifierError, InvalidIdentifierError),
    example=_ARCHIVE,
)
async def export_user(call: Calling, user_id: UserInPath) -> UserArchive:
    """Export everything that is kept of a person, as plain JSON. Keys and credentials are shown by a hint."""
    return await call.client.export_user(call.named(user_id))
