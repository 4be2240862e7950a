"""One person or two: merging, undoing, splitting, succession, and why it is as it is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field, WithJsonSchema

from muxi_identity.errors import (
    IdentifierConflictError,
    IdentifierLimitError,
    IdentifierNotFoundError,
    IdentityChangedError,
    LastIdentifierError,
    MergeConflictError,
    MergeNotFoundError,
)
from muxi_identity.identity.associating import MAX_IDENTIFIERS
from muxi_identity.models import Explanation, HistoryPage, MergeResult, ReplaceResult, SplitResult, UnmergeResult
from muxi_identity.refusals import MAX_CHARACTERS
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import (
    IDENTIFIER_SCHEMA,
    NAMING,
    AnyIdentifier,
    Body,
    Cursor,
    Flag,
    Limit,
    Note,
    UserInPath,
)

routes = Routes(
    "One person or two", "Merging, undoing, splitting, and why it is as it is. All of it takes the admin key."
)

_AT = "2026-01-01T00:00:00.000000Z"
_ALICE, _BOB, _MERGE = "usr_1f2e3d4c5b6a79880f1e", "usr_0a1b2c3d4e5f60718293", "mrg_7c6b5a49382716f5e4d3"


class MergeBody(Body):
    """Who stays, and who becomes a part of them. ``dry_run``: only say what would be brought together."""

    primary: AnyIdentifier
    secondary: AnyIdentifier
    dry_run: Flag = False
    source: Note = None
    reason: Note = None


class UndoBody(Body):
    """``dry_run``: only say who there would be."""

    dry_run: Flag = False
    source: Note = None
    reason: Note = None


class SplitBody(Body):
    """Which identifiers leave. ``dry_run``: only say what would go with them."""

    identifiers: Annotated[
        Any,
        WithJsonSchema(
            {"type": "array", "items": IDENTIFIER_SCHEMA, "minItems": 1, "maxItems": MAX_IDENTIFIERS},
        ),
    ]
    dry_run: Flag = False
    source: Note = None
    reason: Note = None


class ReplaceBody(Body):
    """Which identifier takes the place of which. ``verified``: there is proof that the new one is the person's."""

    old: AnyIdentifier
    new: AnyIdentifier
    verified: Flag = False
    source: Note = None
    reason: Note = None


class ExplainBody(Body):
    """The two that are asked about."""

    a: AnyIdentifier
    b: AnyIdentifier


class RotateBody(Body):
    """Which secret takes the place of which."""

    old: AnyIdentifier
    new: AnyIdentifier
    source: Note = None
    reason: Note = None


@routes.add(
    "POST",
    "/users/merge",
    access=Access.ADMIN,
    data=MergeResult,
    repetition="harmless",
    raises=(*NAMING, MergeConflictError, IdentifierLimitError, IdentityChangedError),
    body={"primary": "alice@email.com", "secondary": ["U98765ABC", "slack"], "reason": "the same person"},
    example={
        "merge_id": _MERGE,
        "muxi_user_id": _ALICE,
        "merged_user_id": _BOB,
        "already_merged": False,
        "merged_at": _AT,
        "separated_at": None,
        "dry_run": False,
        "preview": None,
    },
)
async def merge_users(call: Calling, body: MergeBody) -> MergeResult:
    """Make two users one person, at once and whatever the amount of data. Nothing is moved, and it can be undone."""
    return await call.client.merge_users(
        body.primary, body.secondary, dry_run=body.dry_run, reason=body.reason, source=body.source
    )


@routes.add(
    "POST",
    "/users/merges/{merge_id:segment}/undo",
    access=Access.ADMIN,
    data=UnmergeResult,
    repetition="harmless",
    raises=(MergeNotFoundError, IdentityChangedError),
    body={"reason": "not the same person"},
    example={
        "merge_id": _MERGE,
        "muxi_user_id": _ALICE,
        "separated_user_id": _BOB,
        "already_undone": False,
        "undone_at": _AT,
        "dry_run": False,
        "preview": None,
    },
)
async def unmerge_users(
    call: Calling, merge_id: Annotated[str, Field(max_length=256)], body: UndoBody
) -> UnmergeResult:
    """Undo a merge, in any order. What was written since is on the right side, and no rule merges the two again."""
    return await call.client.unmerge_users(merge_id, dry_run=body.dry_run, reason=body.reason, source=body.source)


@routes.add(
    "POST",
    "/users/{user_id:user}/split",
    access=Access.ADMIN,
    data=SplitResult,
    user=True,
    repetition="once",
    raises=(
        *NAMING,
        IdentifierNotFoundError,
        IdentifierConflictError,
        LastIdentifierError,
        IdentityChangedError,
    ),
    body={"identifiers": [["U98765ABC", "slack"]], "reason": "linked to the wrong person"},
    example={
        "muxi_user_id": _ALICE,
        "new_user_id": _BOB,
        "identifiers": [{"identifier": "U98765ABC", "type": "slack"}],
        "rows": {"memories": 3, "sessions": 1, "messages": 6},
        "dry_run": False,
    },
)
async def split_user(call: Calling, user_id: UserInPath, body: SplitBody) -> SplitResult:
    """Let identifiers leave for a new user, with all that was recorded through them."""
    return await call.client.split_user(
        call.named(user_id), body.identifiers, dry_run=body.dry_run, reason=body.reason, source=body.source
    )


_REPLACED: dict[str, Any] = {
    "access": Access.ADMIN,
    "data": ReplaceResult,
    "repetition": "harmless",
    "raises": (
        *NAMING,
        IdentifierNotFoundError,
        IdentifierConflictError,
        IdentifierLimitError,
        IdentityChangedError,
    ),
}


@routes.add(
    "POST",
    "/users/identifiers/replace",
    body={"old": ["+442079460958", "phone"], "new": ["+442079460959", "phone"]},
    example={
        "muxi_user_id": _ALICE,
        "old": {"identifier": "+442079460958", "type": "phone"},
        "new": {"identifier": "+442079460959", "type": "phone"},
        "already_replaced": False,
    },
    **_REPLACED,
)
async def replace_identifier(call: Calling, body: ReplaceBody) -> ReplaceResult:
    """Let one identifier succeed another: a changed phone number, a migrated Slack id."""
    return await call.client.replace_identifier(
        body.old, body.new, verified=body.verified, reason=body.reason, source=body.source
    )


@routes.add(
    "POST",
    "/users/identifiers/rotate",
    body={"old": ["key_0123456789abcdef", "api_key"], "new": ["key_fedcba9876543210", "api_key"]},
    example={
        "muxi_user_id": _ALICE,
        "old": {"identifier": "key_...cdef", "type": "api_key"},
        "new": {"identifier": "key_...3210", "type": "api_key"},
        "already_replaced": False,
    },
    **_REPLACED,
)
async def rotate_identifier(call: Calling, body: RotateBody) -> ReplaceResult:
    """Let one secret succeed another; the old one is revoked for ever."""
    return await call.client.rotate_identifier(body.old, body.new, reason=body.reason, source=body.source)


@routes.add(
    "GET",
    "/users/{user_id:user}/history",
    access=Access.ADMIN,
    data=HistoryPage,
    user=True,
    raises=NAMING,
    example={
        "events": [
            {
                "event": "identifier:link",
                "at": _AT,
                "muxi_user_id": _ALICE,
                "other_user_id": None,
                "identifier": {"identifier": "U98765ABC", "type": "slack"},
                "merge_id": None,
                "actor": "admin",
                "source": None,
                "reason": None,
            }
        ],
        "count": 1,
        "next_cursor": None,
    },
)
async def get_user_history(call: Calling, user_id: UserInPath, limit: Limit = 50, cursor: Cursor = None) -> HistoryPage:
    """List what was done to the identities of one person, the last first."""
    return await call.client.get_user_history(call.named(user_id), limit=limit, cursor=cursor)


_EXPLAINED = {
    "same": True,
    "were_same": False,
    "a": _ALICE,
    "b": _ALICE,
    "steps": [],
    "text": "They are one person.",
}


@routes.add(
    "POST",
    "/users/explain",
    access=Access.ADMIN,
    data=Explanation,
    raises=NAMING,
    body={"a": "alice@email.com", "b": ["U98765ABC", "slack"]},
    example=_EXPLAINED,
)
async def explain_pair(call: Calling, body: ExplainBody) -> Explanation:
    """Explain the same of two identifiers in the body: an address lands in logs."""
    return await call.client.explain(body.a, body.b)


@routes.add(
    "GET",
    "/users/{user_id:user}/explain",
    access=Access.ADMIN,
    data=Explanation,
    user=True,
    raises=NAMING,
    example=_EXPLAINED,
)
async def explain(
    call: Calling,
    user_id: UserInPath,
    other: Annotated[
        str,
        Query(min_length=1, max_length=MAX_CHARACTERS, description="The other identifier.", examples=["U98765ABC"]),
    ],
    other_type: Annotated[str | None, Query(max_length=64, description="Its type.", examples=["slack"])] = None,
) -> Explanation:
    """Explain why two identifiers mean one person, or why they do not, in dated steps and as a text."""
    return await call.client.explain(call.named(user_id), other if other_type is None else (other, other_type))
