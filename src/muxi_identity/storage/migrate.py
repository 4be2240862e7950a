"""Bring a database's schema up to date."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.util import await_only

from muxi_identity.errors import ConfigurationError

logger = logging.getLogger("muxi_identity.storage")

VERSION_TABLE = "muxi_schema_version"
_LINE = 1
_NAME = re.compile(r"((?P<line>[2-9][0-9]?)\.)?[0-9]{4}")
# Any number will do, as long as no other program on the same database uses it for another purpose.
_ADVISORY_LOCK = 0x6D75_7869_6964
# A migration that cannot have its lock soon gives up, rather than stop everybody who queues behind it.
_LOCK_TIMEOUT = "10s"
_STATEMENT_TIMEOUT = "300s"
# Waiting for another process's migration is different: it ends.
_WAIT_FOR_OTHERS = "600s"
_LOOK_AGAIN = 0.01  # seconds

_POSTGRES_HAS = sa.text("SELECT to_regclass(:name)")
_SQLITE_HAS = sa.text("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name")
_REVISION: sa.Select[str] = sa.select(sa.column("version_num", sa.Text)).select_from(sa.table(VERSION_TABLE))


def newest() -> str:
    """Return the revision that this code's tables are written for."""
    return _revisions()[-1]


def current(connection: Connection) -> str | None:
    """Return the revision of the database; None where it has no schema yet.

    Not by SQLAlchemy's reflection: its queries are kept for ever, and with them the dialect of every engine that asked.
    A process that opens and closes formations would grow by half a megabyte each time.
    """
    there = _POSTGRES_HAS if connection.dialect.name == "postgresql" else _SQLITE_HAS
    if connection.execute(there, {"name": VERSION_TABLE}).scalar() is None:
        return None
    return connection.execute(_REVISION).scalar()


def upgrade(connection: Connection, *, told_at: int = logging.INFO) -> None:
    """Upgrade the schema to :func:`newest`, in one transaction that only one process runs at a time.

    ``connection`` is in no transaction. Does nothing, and takes no lock, where the schema is up to date; a database
    that newer code has upgraded is left alone, since within its line a schema keeps serving the code before it.
    ``told_at`` is the level at which the log is told of an upgrade.

    Raises:
        ConfigurationError: The schema is of a later line, or of another program.
    """
    connection.execution_options(muxi_begin="DEFERRED")  # SQLite: looking takes no write lock
    with connection.begin():
        found = current(connection)
    connection.execution_options(muxi_begin="IMMEDIATE")
    if found == newest() or not _known(found):
        return
    with _only_one_here(connection), connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text(f"SET LOCAL statement_timeout = '{_WAIT_FOR_OTHERS}'"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
            connection.execute(sa.text(f"SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT}'"))
        # Whoever had the lock before may have done it all.
        found = current(connection)
        if found == newest() or not _known(found):
            return
        logger.log(told_at, "upgrading the schema from %s to %s", found, newest())
        # Alembic takes a tenth of all there is to load, and most processes find a schema that is up to date.
        from muxi_identity.storage.migrations import steps  # noqa: PLC0415

        steps.take_all(connection)


@contextmanager
def _only_one_here(connection: Connection) -> Iterator[None]:
    """Wait until no other database is upgraded by this process.

    Migrations reach their connection through a global of Alembic's: of two at once, one would run on the other's.
    """
    lock = _upgrading
    if connection.dialect.is_async:
        while not lock.acquire(blocking=False):
            await_only(asyncio.sleep(_LOOK_AGAIN))  # whoever has it may be waiting on this event loop
    else:
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _after_fork() -> None:
    global _upgrading
    _upgrading = threading.Lock()  # whoever held it is the parent's


_upgrading = threading.Lock()
os.register_at_fork(after_in_child=_after_fork)


def is_behind(revision: str | None) -> bool:
    """Tell whether :func:`upgrade` has anything to do for a database of this revision."""
    return revision is None or (revision != newest() and revision in _revisions())


def check_serves(revision: str) -> None:
    """Check that this code can work with a schema of ``revision``, which it does not know.

    Revisions only add, and so serve older code too, until one must take something away: that begins a new line, which
    its name says (``2.0001``; what has no line in its name is of the first).

    Raises:
        ConfigurationError: It is of a later line, or none of ours.
    """
    named = _NAME.fullmatch(revision)
    if named is None:
        raise ConfigurationError(
            f"The table {VERSION_TABLE} of the database names a schema revision that no version of this program has "
            "made; name another database, or restore this one."
        )
    if int(named["line"] or 1) > _LINE:
        raise ConfigurationError(
            f"The database has schema revision {revision}, which this version is too old for: install the version that "
            "upgraded it, or a newer one. Nothing was changed."
        )


@functools.cache
def _revisions() -> list[str]:
    """Return every revision that there is, the newest last: the names of their files begin with them."""
    versions = Path(__file__).parent / "migrations" / "versions"
    names = (_NAME.match(file.name) for file in versions.glob("*_*.py"))
    found = [(int(name["line"] or 1), name[0]) for name in names if name is not None]
    return [revision for _line, revision in sorted(found)]


def _known(revision: str | None) -> bool:
    known = revision is None or revision in _revisions()
    if not known:
        assert revision is not None
        check_serves(revision)
        logger.warning("the database has schema revision %s, which is newer than this code", revision)
    return known
