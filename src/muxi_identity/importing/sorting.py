"""Sorting the rows of a batch: plainly new, plainly known, and the rest, which takes the ordinary way one by one.

Nothing is decided here that a link decides: a row is *new* where nobody has any of its identifiers, and *known* where
a link of it would do nothing, and neither has an identifier in common with another row of the batch. Such rows may be
settled before the others of the batch: none of these can change what they are, nor the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select

from muxi_identity.errors import AmbiguousIdentifierError
from muxi_identity.identifiers import PublicId
from muxi_identity.identity.associating import plain_items
from muxi_identity.identity.deciding import ANONYMOUS, Item
from muxi_identity.identity.linking import adds_nothing
from muxi_identity.identity.matching import same_identifier
from muxi_identity.identity.transaction import Transaction
from muxi_identity.importing.rows import Options, Row
from muxi_identity.models import microseconds
from muxi_identity.storage.rows import BucketRow
from muxi_identity.storage.tables import users

_AT_ONCE = 1_000
_MARGIN = 1_000_000  # microseconds


@dataclass(slots=True)
class NewPerson:
    """A row that makes a user: the identifiers in linking order, without what it says twice."""

    row: Row
    items: list[Item]
    user_id: str | None


@dataclass(slots=True)
class Sorted:
    """The rows of a batch that carry no note."""

    new: list[NewPerson] = field(default_factory=list)
    known: list[Row] = field(default_factory=list)
    ordinary: list[Row] = field(default_factory=list)


def sort_rows(tx: Transaction, rows: Sequence[Row], options: Options) -> Sorted:
    """Sort the rows of a batch by what the transaction sees. It has read something before."""
    rows = [row for row in rows if row.note is None]
    named = Counter(bucket for row in rows for bucket in _buckets(row))
    users_named = Counter(row.user.user_id for row in rows if isinstance(row.user, PublicId))
    found: dict[bytes, list[BucketRow]] = {}
    for each in tx.database.read_buckets(tx.connection, tx.formation_id, list(named)):
        found.setdefault(each.bucket, []).append(each)
    roots = _roots_of(tx, users_named)
    made = Sorted()
    candidates: list[tuple[Row, int]] = []
    for row in rows:
        apart = row.user_bucket is None and all(named[bucket] == 1 for bucket in row.buckets)
        root = _known_to(tx, row, found, options) if apart else None
        if root is not None:
            candidates.append((row, root))
        elif apart and _may_be_made(row, users_named, roots, options) and found.keys().isdisjoint(row.buckets):
            items = None if _expires_too_soon(row, tx.now) else plain_items(row.identifiers, row.buckets, tx.rules)
            if items is None:
                made.ordinary.append(row)
            else:
                made.new.append(NewPerson(row, items, _user_id(row)))
        else:
            made.ordinary.append(row)
    established = _established(tx, {root for _, root in candidates})
    for row, root in candidates:
        user_id = _user_id(row)
        same = user_id is None or roots.get(user_id) == root
        (made.known if same and root in established else made.ordinary).append(row)
    made.ordinary.sort(key=lambda row: row.position)
    return made


def _buckets(row: Row) -> Iterator[bytes]:
    yield from set(row.buckets)
    if row.user_bucket is not None and row.user_bucket not in row.buckets:
        yield row.user_bucket


def _user_id(row: Row) -> str | None:
    return row.user.user_id if isinstance(row.user, PublicId) else None


def _may_be_made(row: Row, named: Counter[str], roots: Mapping[str, int], options: Options) -> bool:
    """Tell whether a new user is what the row asks for: without a name, or under one that nobody else has or names."""
    user_id = _user_id(row)
    return user_id is None or (options.create_users and user_id not in roots and named[user_id] == 1)


def _expires_too_soon(row: Row, now: int) -> bool:
    # With a margin: the rows of a batch go by times that follow each other.
    ends = [microseconds(each.expires_at) for each in row.identifiers if each.expires_at is not None]
    return min(ends, default=now + _MARGIN) < now + _MARGIN


def _known_to(tx: Transaction, row: Row, found: dict[bytes, list[BucketRow]], options: Options) -> int | None:
    """Return the one root that has all identifiers of a row, where a link surely would add nothing to any."""
    if tx.match != "any" and row.user is None and options.on_conflict != "merge":
        return None  # then a known identifier does not by itself decide
    root: int | None = None
    for position, (identifier, bucket) in enumerate(zip(row.identifiers, row.buckets, strict=True)):
        if identifier.secret or identifier.type == ANONYMOUS or bucket not in found:
            return None
        try:
            same = same_identifier(found[bucket], identifier, tx.now)
        except AmbiguousIdentifierError:
            return None
        if len(same) != 1 or same[0].root_pk is None or root not in (None, same[0].root_pk):
            return None
        if same[0].secret or not adds_nothing(Item(position, identifier, bucket, same), row.verified):
            return None
        root = same[0].root_pk
    return root


def _roots_of(tx: Transaction, user_ids: Collection[str]) -> dict[str, int]:
    """Return the roots of those of these users who exist."""
    roots: dict[str, int] = {}
    wanted = sorted(user_ids)
    for start in range(0, len(wanted), _AT_ONCE):
        part = users.c.public_id.in_(wanted[start : start + _AT_ONCE])
        for row in tx.connection.execute(select(users.c.public_id, users.c.root_pk).where(tx.users_where(part))):
            roots[row.public_id] = row.root_pk
    return roots


def _established(tx: Transaction, roots: Collection[int]) -> set[int]:
    """Return those of these roots who are established."""
    found: set[int] = set()
    wanted = sorted(roots)
    for start in range(0, len(wanted), _AT_ONCE):
        part = users.c.root_pk.in_(wanted[start : start + _AT_ONCE])
        statement = select(users.c.root_pk).where(tx.users_where(part, users.c.established_at.is_not(None)))
        found.update(tx.connection.execute(statement).scalars())
    return found
