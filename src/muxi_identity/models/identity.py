"""Users and identifiers."""

from __future__ import annotations

from typing import Any, TypedDict


class ResolvedUser(TypedDict):
    """Who an identifier means. ``created``: this call was the first contact that made the user."""

    identifier: str
    muxi_user_id: str
    created: bool


class IdentifierName(TypedDict):
    """An identifier with its type, None where it has none."""

    identifier: str
    type: str | None


class LinkResult(TypedDict):
    """What a link did.

    ``identifiers`` is what was asked for, in that order; of these, ``new_identifiers`` were linked now,
    ``existing_identifiers`` were the person's already or came with a merge, and ``skipped`` were left alone
    (anonymous identifiers that must not be taken over). ``merge_ids`` names the merges that the link made.
    """

    muxi_user_id: str
    created: bool
    identifiers: list[IdentifierName]
    new_identifiers: list[str]
    existing_identifiers: list[str]
    skipped: list[str]
    merge_ids: list[str]


class IdentifierRecord(TypedDict):
    """One identifier of a person. ``created_at`` is when it was linked."""

    identifier: str
    type: str | None
    scope: str | None
    verified: bool
    verified_at: str | None
    source: str | None
    expires_at: str | None
    created_at: str
    metadata: dict[str, Any] | None


class UserRecord(TypedDict):
    """One person.

    ``merged_into`` is set where the id that was asked for is a merged one: it names the root, which this record is
    about. ``merged_users`` are the public ids that the person also answers to. ``established``: somebody created,
    linked or verified the user on purpose; the others were made by first contact alone.
    """

    muxi_user_id: str
    merged_into: str | None
    merged_users: list[str]
    established: bool
    created_at: str
    identifier_count: int


class UserPage(TypedDict):
    """A page of people, oldest first. Pass ``next_cursor`` for the next one; None ends the list."""

    users: list[UserRecord]
    count: int
    next_cursor: str | None


class UnlinkResult(TypedDict):
    """Which identifier left which person."""

    identifier: str
    muxi_user_id: str
    message: str


class DeleteResult(TypedDict):
    """Who was deleted, with the public ids that had been merged into it, and the number of rows that went.

    ``counts`` says how many of each kind. ``dry_run``: nothing was deleted, and this is what would go.
    """

    muxi_user_id: str
    merged_users: list[str]
    rows_deleted: int
    counts: dict[str, int]
    dry_run: bool
