"""What the rest of the library asks of a database, whichever it is.

Operations are written once, as ordinary functions over a SQLAlchemy connection. PostgreSQL runs them on the event
loop (asyncpg under a greenlet), SQLite in a thread of its own, so that waiting for its one writer never stops the
loop.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Table

from muxi_identity.storage.gathering import Found, Gathering
from muxi_identity.storage.rows import BucketRow, Change, CreatedPerson, MemberRow, NewPerson

T = TypeVar("T")
Work = Callable[[Connection], T]


class Ears(Protocol):
    """A connection that listens for what other sessions of the database tell."""

    async def close(self) -> None:
        """Say farewell and close."""

    def cut(self) -> None:
        """End the connection without a word, and without waiting."""


class Database(abc.ABC):
    """One open database. All methods but :meth:`look_up_now` belong to the event loop that opened it."""

    dialect: str
    identity: str
    """Names the database itself, whatever address it was reached by. Known once it is open."""
    inline: bool
    """Whether a look-up is answered in place (:meth:`look_up_now`), without awaiting."""
    most_waiting = 10_000
    """How many look-ups may wait for another one to end."""

    @abc.abstractmethod
    async def open(self, *, upgrade: bool = True) -> None:
        """Connect and bring the schema up to date. Safe when several processes do it at once.

        Without ``upgrade`` nothing is changed or made: for whoever only looks, at a schema of whatever revision.

        Raises:
            StorageUnavailableError: It cannot be reached.
            ConfigurationError: It is there but cannot be used as configured.
        """

    @abc.abstractmethod
    async def close(self) -> None:
        """Close every connection. Closing twice is harmless."""

    @abc.abstractmethod
    def abandon(self, *, forked: bool) -> None:
        """Let go of every connection, without its event loop.

        After a fork (``forked``) they are the parent's, and are not touched. Else the loop has ended, and they are
        closed at once.
        """

    @abc.abstractmethod
    async def transact(self, work: Work[T]) -> T:
        """Run ``work`` in one writing transaction and commit it.

        ``work`` may be run in another thread. On SQLite the write lock is taken before it begins.

        Raises:
            RaceLost: Another transaction was quicker; nothing was written.
            GuardRefused: A row named an identifier that is not its user's; nothing was written.
            StorageUnavailableError: The database did not answer. If the connection was lost while committing,
                the transaction may have been committed all the same.
        """

    async def scrub(self) -> None:
        """Overwrite, as far as the database can, what it still keeps of rows that were erased. Best effort.

        PostgreSQL does this when it vacuums.
        """
        return

    @abc.abstractmethod
    async def read(self, work: Work[T]) -> T:
        """Run ``work``, which only reads, in one transaction."""

    @abc.abstractmethod
    async def gather(self, gathering: Gathering, parameters: Mapping[str, Any]) -> Found:
        """Read the parts of ``gathering`` in one snapshot: one round trip, on SQLite one thread hop."""

    @abc.abstractmethod
    async def look_up(self, formation_id: str, buckets: Sequence[bytes]) -> list[BucketRow]:
        """Return the rows of ``buckets`` that identify somebody or are tombstones of secrets, by bucket and slot."""

    @abc.abstractmethod
    async def find_members(self, formation_id: str, public_ids: Sequence[str]) -> list[MemberRow]:
        """Return the users of these public ids, in no order; unknown ones are left out."""

    @abc.abstractmethod
    async def create_person(self, formation_id: str, person: NewPerson, change: Change) -> CreatedPerson | None:
        """Create a user with its identifiers, if none of their buckets is in use; else do nothing.

        One round trip and one transaction.

        Raises:
            RaceLost: Somebody took one of the buckets meanwhile; nothing was written.
        """

    async def find_or_create(self, formation_id: str, person: NewPerson, change: Change) -> list[BucketRow] | None:
        """Look up the bucket of a person's one identifier; if it was never used, create the person.

        Returns the rows, of a created person too. None where that cannot be done in one round trip at once: look up
        first then.

        Raises:
            RaceLost: Somebody took the bucket meanwhile; nothing was written.
        """
        return None

    async def extend_person(
        self,
        formation_id: str,
        person: NewPerson,
        change: Change,
        *,
        limit: int,
        caps: Sequence[tuple[str, int]],
    ) -> tuple[CreatedPerson, str] | None:
        """Link identifiers, whose buckets are free, to the person of ``person.public_id``, or do nothing.

        ``limit`` is the most identifiers that the person may have, ``caps`` the most it may have of a type before
        this. Returns the keys and the public id of the root; None where the ordinary transaction must decide. One
        round trip where the database can do it in one.
        """
        return None

    def look_up_now(self, formation_id: str, bucket: bytes) -> list[BucketRow]:
        """Look one bucket up in place, from any thread. Only where :attr:`inline` is true."""
        raise AssertionError("look_up_now is for databases that look up inline")

    async def listen(
        self, channels: Sequence[str], heard: Callable[[str, str], None], lost: Callable[[], None]
    ) -> Ears:
        """Listen on a connection of its own: ``heard`` gets the channel and the payload of each notification, in order.

        ``lost`` is called when the connection has ended. Only on PostgreSQL.

        Raises:
            StorageUnavailableError: The database cannot be reached, or does not let this user listen.
        """
        raise AssertionError("listen is for databases that notify")

    def tell(self, connection: Connection, channel: str, payload: str) -> None:
        """Notify whoever listens, once the transaction of ``connection`` has committed. Only on PostgreSQL."""
        raise AssertionError("tell is for databases that notify")

    async def notify(self, channel: str, payload: str) -> None:
        """:meth:`tell` in a transaction of its own, by a connection that transactions use.

        Raises:
            StorageUnavailableError: It may not have been told.
        """
        raise AssertionError("notify is for databases that notify")

    @property
    @abc.abstractmethod
    def lock_rows(self) -> bool:
        """Whether a transaction must lock the rows that it decides on (one that locks the file need not)."""

    @abc.abstractmethod
    def new_keys(self, connection: Connection, formation_id: str, number: int) -> list[int]:
        """Draw ``number`` keys that no row of the formation ever had."""

    @abc.abstractmethod
    def read_buckets(self, connection: Connection, formation_id: str, buckets: Sequence[bytes]) -> list[BucketRow]:
        """Return every row of ``buckets``, tombstones too, as the transaction of ``connection`` sees them.

        For thousands of them at once. The transaction has read or written something before.
        """

    @abc.abstractmethod
    def insert_rows(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Insert thousands of rows in the transaction of ``connection``: by COPY where the database has it.

        The transaction has read or written something before.
        """

    async def analyze(self, tables: Sequence[Table]) -> None:
        """Let the database count what lies in ``tables``, where it plans by such counts."""
        return

    def new_positions(self, connection: Connection, formation_id: str, number: int) -> list[int]:
        """Draw ``number`` places in the outbox, each after every one that was drawn before, by whatever connection."""
        return self.new_keys(connection, formation_id, number)
