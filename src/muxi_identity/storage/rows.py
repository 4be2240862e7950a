"""The plain records that pass between the operations and the hot statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class BucketRow(NamedTuple):
    """A row of a bucket: a live identifier with the person that has it, or the tombstone of a secret."""

    bucket: bytes
    pk: int
    user_pk: int | None
    type: str | None
    scope: str | None
    value: str
    spelling: str
    secret: bool
    unlinked_at: int | None
    expires_at: int | None
    verified_at: int | None
    root_pk: int | None
    public_id: str | None

    def live(self, now: int) -> bool:
        """Tell whether the row still identifies anybody at ``now`` (microseconds)."""
        return self.unlinked_at is None and (self.expires_at is None or self.expires_at > now)


class MemberRow(NamedTuple):
    """A user named by public id, with the root that answers for it."""

    public_id: str
    pk: int
    root_pk: int
    root_public_id: str


class NewIdentifier(NamedTuple):
    """A row to be inserted, in linking order."""

    bucket: bytes
    type: str | None
    scope: str | None
    value: str
    spelling: str
    secret: bool
    metadata: str | None
    verified_at: int | None
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes something, from where, why and when (microseconds): what the history records."""

    actor: str
    source: str | None
    reason: str | None
    at: int


@dataclass(frozen=True, slots=True)
class NewPerson:
    """A new user with its first identifiers, none of whose buckets is in use."""

    public_id: str
    established: bool
    identifiers: Sequence[NewIdentifier]


class CreatedPerson(NamedTuple):
    """The keys that a new person was given; ``identifier_pks`` in linking order."""

    user_pk: int
    identifier_pks: Sequence[int]
