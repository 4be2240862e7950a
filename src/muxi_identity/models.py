"""What the public calls return: plain typed dicts, the same embedded and on the wire.

Every ``muxi_user_id`` is a public id (``usr_...``) and names the root. Times are ISO 8601 in UTC. An identifier of a
secret type is shown by its hint and never by its value.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(at: int) -> str:
    """Return microseconds since 1970 as ISO 8601 in UTC, always with six decimals."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def iso_or_none(at: int | None) -> str | None:
    """Return :func:`iso` of ``at``, None where there is none."""
    return None if at is None else iso(at)


def microseconds(at: datetime) -> int:
    """Return an aware time as microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


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
    """Who was deleted, with the public ids that had been merged into it, and the number of rows that went."""

    muxi_user_id: str
    merged_users: list[str]
    rows_deleted: int


class SessionMessage(TypedDict):
    """One message: ``role`` is ``"user"`` or ``"assistant"``."""

    role: str
    content: str
    created_at: str


class SessionMessages(TypedDict):
    """What one session holds, oldest message first. ``has_more`` is true where there is more than this."""

    session_id: str
    messages: list[SessionMessage]
    count: int
    has_more: bool


class ChatReply(dict[str, Any]):
    """The answer to one message: ``{"message": {"role", "content"}, "user_id", "session_id", "request_id"}``.

    A dict, as it is on the wire, that prints as the text of the reply.
    """

    @property
    def text(self) -> str:
        """The reply's text."""
        content: str = self["message"]["content"]
        return content

    @property
    def user_id(self) -> str:
        """The public id of the person who was answered."""
        user_id: str = self["user_id"]
        return user_id

    @property
    def session_id(self) -> str:
        """The session that the turn belongs to."""
        session_id: str = self["session_id"]
        return session_id

    @property
    def request_id(self) -> str:
        """The id of this turn."""
        request_id: str = self["request_id"]
        return request_id

    def __str__(self) -> str:
        return self.text
