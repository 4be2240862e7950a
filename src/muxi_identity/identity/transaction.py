"""What an operation has in hand while it runs: the connection, the formation, who asks, and the fence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, or_, select, update
from sqlalchemy.sql import ColumnElement

from muxi_identity.identifiers import IdentifierRules
from muxi_identity.identity.cache import Fence
from muxi_identity.identity.coherence.notices import CHANNEL, write_notice
from muxi_identity.identity.keys import BucketKey
from muxi_identity.identity.subscriptions import NOBODY, Subscriptions
from muxi_identity.models import EventPayload
from muxi_identity.storage.database import Database
from muxi_identity.storage.errors import RaceLost
from muxi_identity.storage.rows import BucketRow, Change
from muxi_identity.storage.tables import formations, identifiers, users

_KEYS_AT_ONCE = 8
_root = users.alias("root")
_member = users.alias("member")


class Member(NamedTuple):
    """A user with the root that answers for it."""

    pk: int
    root_pk: int


@dataclass(slots=True)
class Person:
    """A root as a transaction has read it: with its members and what it may be judged by."""

    root_pk: int
    public_id: str
    created_at: int
    established: bool
    verified: bool
    member_pks: list[int]


@dataclass(slots=True)
class Transaction:
    """One running transaction of one formation."""

    database: Database
    connection: Connection
    formation_id: str
    change: Change
    fence: Fence
    bucket: BucketKey
    rules: IdentifierRules
    match: str
    events: list[dict[str, Any]] = field(default_factory=list)
    subscriptions: Subscriptions = NOBODY
    outgoing: list[EventPayload] = field(default_factory=list)
    """What others are told once this is committed; see :mod:`muxi_identity.identity.outbox`."""
    erased: bool = False
    """Something was erased that must not be found in what the database keeps of older states either."""
    _next_slots: dict[bytes, int] = field(default_factory=dict)
    _keys: list[int] = field(default_factory=list)

    @property
    def now(self) -> int:
        """When the operation began, in microseconds."""
        return self.change.at

    def new_keys(self, number: int) -> list[int]:
        """Draw keys that no row ever had.

        A few more than asked for are drawn at once: a turn writes to several tables.
        """
        if len(self._keys) < number:
            self._keys += self.database.new_keys(self.connection, self.formation_id, max(number, _KEYS_AT_ONCE))
        drawn, self._keys = self._keys[:number], self._keys[number:]
        return drawn

    def bucket_rows(self, buckets: Iterable[bytes]) -> dict[bytes, list[BucketRow]]:
        """Read the rows of these buckets that are live or tombstones of secrets, by slot.

        The same statement reads which slot is free. Read by a later one, it would lie after a row that was committed
        between the two, and that whatever was decided on these rows knows nothing of.
        """
        wanted = sorted(set(buckets))
        statement = (
            select(
                *(identifiers.c[name] for name in BucketRow._fields[:11]),
                _member.c.root_pk,
                _root.c.public_id,
                identifiers.c.slot,
            )
            .select_from(
                identifiers.outerjoin(
                    _member,
                    and_(_member.c.formation_id == identifiers.c.formation_id, _member.c.pk == identifiers.c.user_pk),
                ).outerjoin(
                    _root, and_(_root.c.formation_id == _member.c.formation_id, _root.c.pk == _member.c.root_pk)
                )
            )
            .where(identifiers.c.formation_id == self.formation_id, identifiers.c.bucket.in_(wanted))
            .order_by(identifiers.c.bucket, identifiers.c.slot)
        )
        rows: dict[bytes, list[BucketRow]] = {bucket: [] for bucket in wanted}
        self._next_slots.update(dict.fromkeys(wanted, 0))
        for *found, slot in self.connection.execute(statement):
            row = BucketRow._make(found)
            self._next_slots[row.bucket] = slot + 1
            if row.unlinked_at is None or row.secret:
                rows[row.bucket].append(row)
        return rows

    def take_slots(self, buckets: Sequence[bytes]) -> list[int]:
        """Return a free slot of each of these buckets, as of when :meth:`bucket_rows` last read it.

        Raises:
            RaceLost: A row that was read then is gone.
        """
        used = {bucket: slot - 1 for bucket in buckets if (slot := self._next_slots[bucket]) > 0}
        if used and self.database.lock_rows:
            # A delete that emptied the bucket would let somebody else begin it anew, below our slot.
            last = [(identifiers.c.bucket == bucket) & (identifiers.c.slot == slot) for bucket, slot in used.items()]
            held = self.connection.execute(
                select(identifiers.c.pk)
                .where(identifiers.c.formation_id == self.formation_id, or_(*last))
                .order_by(identifiers.c.pk)
                .with_for_update(read=True, key_share=True)
            ).all()
            if len(held) < len(used):
                raise RaceLost
        self.fence.buckets(used)  # a plain new spelling makes no cached answer wrong; one that joins others can
        taken = []
        for bucket in buckets:
            taken.append(self._next_slots[bucket])
            self._next_slots[bucket] += 1
        return taken

    def find_member(self, public_id: str) -> Member | None:
        """Return the member of this public id with its root, None where nobody has it."""
        row = self.connection.execute(
            select(users.c.pk, users.c.root_pk).where(self.users_where(users.c.public_id == public_id))
        ).one_or_none()
        return None if row is None else Member(row.pk, row.root_pk)

    def public_id_of(self, pk: int) -> str | None:
        """Return a user's own public id, None where it is gone."""
        return self.connection.execute(select(users.c.public_id).where(self.users_where(users.c.pk == pk))).scalar()

    def lock_people(self, root_pks: Iterable[int]) -> dict[int, Person]:
        """Lock these roots, in key order so that no two operations wait for each other, and read their people.

        Until the transaction ends nobody else changes who belongs to them.

        Raises:
            RaceLost: One of them is no root any more, or is gone.
        """
        wanted = sorted(set(root_pks))
        if not wanted:
            return {}
        roots = select(users.c.pk).where(self.users_where(users.c.pk.in_(wanted))).order_by(users.c.pk)
        if self.database.lock_rows:
            self.connection.execute(roots.with_for_update(key_share=True))
        # A statement of its own: it sees what was committed while the locks were waited for.
        return self.read_people(wanted)

    def read_people(self, root_pks: Iterable[int]) -> dict[int, Person]:
        """Read the people of these roots, without locking them.

        Raises:
            RaceLost: One of them is no root any more, or is gone.
        """
        wanted = sorted(set(root_pks))
        people: dict[int, Person] = {}
        members = (
            select(users.c.pk, users.c.root_pk, users.c.public_id, users.c.created_at, users.c.established_at)
            .where(self.users_where(users.c.root_pk.in_(wanted)))
            .order_by(users.c.pk)
        )
        rows = self.connection.execute(members).all()
        for row in rows:
            if row.pk == row.root_pk:
                people[row.pk] = Person(
                    row.pk, row.public_id, row.created_at, established=False, verified=False, member_pks=[]
                )
        if set(people) != set(wanted):
            raise RaceLost
        for row in rows:
            person = people[row.root_pk]
            person.member_pks.append(row.pk)
            person.established |= row.established_at is not None
        for root_pk in self.connection.execute(self._roots_with_proof(wanted)).scalars():
            people[root_pk].verified = True
        return people

    def _roots_with_proof(self, root_pks: Sequence[int]) -> Select[int]:
        return (
            select(users.c.root_pk)
            .join(
                identifiers,
                and_(identifiers.c.formation_id == users.c.formation_id, identifiers.c.user_pk == users.c.pk),
            )
            .where(
                self.users_where(users.c.root_pk.in_(root_pks)),
                identifiers.c.verified_at.is_not(None),
                identifiers.c.unlinked_at.is_(None),
            )
            .distinct()
        )

    def users_where(self, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        """Return ``conditions`` on users, in this formation."""
        return and_(users.c.formation_id == self.formation_id, *conditions)

    def touch(self, root_pks: Sequence[int], *, establish: int | None = None) -> None:
        """Raise the version of these roots; the one in ``establish`` is established from now on at the latest."""
        self.connection.execute(
            update(users).where(self.users_where(users.c.pk.in_(root_pks))).values(version=users.c.version + 1)
        )
        if establish is not None:
            self.connection.execute(
                update(users)
                .where(self.users_where(users.c.pk == establish, users.c.established_at.is_(None)))
                .values(established_at=self.now)
            )

    def tell_other_processes(self) -> int | None:
        """Tell other processes what this transaction makes wrong in their caches, if it commits.

        Nothing where nothing was fenced: a plain first contact and a plain link make no cached answer wrong. Returns
        the formation's new identity epoch on SQLite, where the others ask for it; on PostgreSQL they are notified.
        """
        if not self.fence:
            return None
        if self.database.dialect != "sqlite":
            notice = write_notice(self.fence.origin, self.formation_id, self.fence.keys, self.fence.member_pks)
            self.database.tell(self.connection, CHANNEL, notice)
            return None
        epoch: int = self.connection.execute(
            update(formations)
            .where(formations.c.formation_id == self.formation_id)
            .values(epoch=formations.c.epoch + 1)
            .returning(formations.c.epoch)
        ).scalar_one()
        return epoch
