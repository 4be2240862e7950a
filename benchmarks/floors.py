"""What the database itself takes: the same rows by the barest means, written by somebody who checks nothing."""

from __future__ import annotations

import abc
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass

from muxi_identity.identity.people import new_public_id

FORMATION = "bench-floor"
"""The floor writes to the same tables under another formation: no row of it is ever in our way."""
AT = 1_700_000_000_000_000
SOURCE = "bench"
_keys = itertools.count(1 << 40)


@dataclass(frozen=True)
class Rows:
    """What one bare insert writes: a user, unless it is there already, and identifiers; and the history of both.

    Made before the time is taken, keys included.
    """

    user_pk: int
    user_id: str
    new_user: bool
    identifiers: list[tuple[int, bytes, str, str]]
    """Key, bucket, value and spelling."""
    events: list[tuple[int, str, int | None]]
    """Key, event and the identifier's key."""


def rows(identifiers: int, user_pk: int | None = None) -> Rows:
    """Make up the rows of a new user, or more of the user of ``user_pk``."""
    pk = next(_keys) if user_pk is None else user_pk
    names = [(each, os.urandom(16), f"floor{each}@example.com") for each in itertools.islice(_keys, identifiers)]
    events: list[tuple[int, str, int | None]] = [(next(_keys), "identifier:link", each) for each, *_ in names]
    if user_pk is None:
        events.insert(0, (next(_keys), "user:create", None))
    return Rows(pk, new_public_id(), user_pk is None, [(*name, name[2]) for name in names], events)


@dataclass(frozen=True)
class Talk:
    """A session that the floor writes messages to."""

    user_pk: int
    identifier_pk: int
    session_pk: int


def message_keys() -> tuple[int, int]:
    """Return keys for a message and its reply."""
    return next(_keys), next(_keys)


def talk_of(rows: Rows) -> Talk:
    """Return a session of the user of ``rows``, not yet made."""
    return Talk(rows.user_pk, rows.identifiers[0][0], next(_keys))


class Floor(abc.ABC):
    """The bare statements. Every method is one call that is measured."""

    @abc.abstractmethod
    async def look_up(self, bucket: bytes) -> None:
        """Read the row of a bucket with the person that has it."""

    @abc.abstractmethod
    async def look_up_all(self, buckets: Sequence[bytes]) -> None:
        """Look all of them up at once, each in a statement of its own."""

    @abc.abstractmethod
    async def insert(self, rows: Rows) -> None:
        """Insert the rows and commit."""

    @abc.abstractmethod
    async def newest_memories(self, user_pk: int, limit: int) -> None:
        """Read the newest memories of one member."""

    @abc.abstractmethod
    async def begin_session(self, rows: Rows) -> Talk:
        """Make a session of a user that :meth:`insert` made."""

    @abc.abstractmethod
    async def say(self, talk: Talk) -> None:
        """Insert a message and its reply and commit."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the connections."""
