"""From what a driver says to what went wrong. Internal to the library, but for the public errors that it returns."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError

from muxi_identity.errors import ClientClosedError, StorageUnavailableError

# Two transactions that write the same thing for the same member and identifier.
_OWN_KEYS = {
    "uq_sessions_key",
    "uq_memories_key",
    "uq_working_memory_key",
    "uq_preferences_key",
    "uq_credentials_key",
}
# SQLite names the columns of a broken unique key, PostgreSQL the constraint. These are the keys that somebody asks for.
_SQLITE_UNIQUE = {
    "muxi_identifiers.formation_id, muxi_identifiers.bucket, muxi_identifiers.slot": "uq_identifiers_bucket_slot",
    "muxi_users.formation_id, muxi_users.public_id": "uq_users_public_id",
    "muxi_idempotency.formation_id, muxi_idempotency.key": "pk_idempotency",
    "muxi_formations.formation_id": "pk_formations",
    "muxi_synopses.formation_id, muxi_synopses.user_pk": "uq_synopses_user",
    "muxi_imports.formation_id, muxi_imports.import_id": "pk_imports",
    "muxi_link_codes.formation_id, muxi_link_codes.code_hash": "uq_link_codes_hash",
    "muxi_link_codes.formation_id, muxi_link_codes.user_pk, muxi_link_codes.identifier_pk": "uq_link_codes_identifier",
    "muxi_link_attempts.formation_id, muxi_link_attempts.identifier_pk": "pk_link_attempts",
    **{f"index '{name}'": name for name in _OWN_KEYS},
}
# Somebody else was quicker, or two transactions waited for each other and the server chose this one to give way:
# the transaction is run again from its beginning.
_RACES = {
    "pk_formations",
    "pk_imports",
    "uq_identifiers_bucket_slot",
    "pk_idempotency",
    "uq_synopses_user",
    "uq_link_codes_hash",
    "uq_link_codes_identifier",
    "pk_link_attempts",
    *_OWN_KEYS,
}
_RACE_STATES = {"40001", "40P01", "55P03"}
# A statement that was prepared by name is not there, or another one of its name is.
_UNPREPARED_STATES = {"26000", "42P05"}
# The server goes, or ends a connection that lay idle, or a transaction in which nothing was asked, for too long.
_GOING_STATES = {"57P01", "57P02", "57P03", "57P05", "25P03"}
_SQLITE_BUSY = {"SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_LOCKED", "SQLITE_BUSY_RECOVERY"}


class RaceLost(Exception):
    """The transaction met another one and was rolled back; run it again."""


class GuardRefused(Exception):
    """A write named an identifier that is not, or no longer, the member's."""


class ConnectionLost(StorageUnavailableError):
    """The connection broke under a statement: what only reads can be sent again, over another one."""


class ServerIsReadOnly(StorageUnavailableError):
    """The server takes no writes: it was, or is just being, replaced by another one. Nothing was written."""

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message or "The database server takes no writes now; call again later.", **details)


class StatementsLost(StorageUnavailableError):
    """What was prepared on a connection is not there any more: a pooler lent it another server's. Nothing was done."""

    def __init__(self) -> None:
        super().__init__(
            "A pooler between this process and PostgreSQL loses prepared statements: leave "
            "memory.persistent.connections.prepared_statements out or set it to false, and start anew."
        )


class ConstraintViolated(Exception):
    """A named constraint refused the write; ``constraint`` is its name."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


def closed() -> ClientClosedError:
    """Return the error for a call that finds its database closed by another one."""
    return ClientClosedError("The client was closed while this call was under way; make another one.")


def translate(error: BaseException) -> BaseException:
    """Return the error to raise in place of ``error``: itself where it says that the program is wrong.

    A translated message holds no statement, parameter or address: those can carry people's data and secrets.
    """
    if isinstance(error, StorageUnavailableError | ClientClosedError):
        return error
    driver = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(driver, sqlite3.Error):
        return _translate_sqlite(driver)
    cause = driver.__cause__ if isinstance(error, DBAPIError) and driver is not None else driver
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str):
        return _translate_postgres(state, getattr(cause, "constraint_name", None), error)
    if isinstance(driver, OSError | asyncio.TimeoutError):
        return StorageUnavailableError("The database cannot be reached or did not answer in time; call again later.")
    if _is_lost_connection(cause):
        return ConnectionLost("The database connection was lost; call again later.")
    return error


# The last one: the server's farewell met a statement that was just being sent.
_LOST = {"InterfaceError", "ConnectionDoesNotExistError", "InternalClientError"}


def _is_lost_connection(error: object) -> bool:
    # asyncpg is an extra, so its classes are known by name: "connection is closed", "was closed in the middle ...".
    names = {kind.__name__ for kind in type(error).__mro__}
    return "asyncpg" in type(error).__module__ and bool(names & _LOST)


def _translate_sqlite(error: sqlite3.Error) -> BaseException:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_CONSTRAINT"):
        if name == "SQLITE_CONSTRAINT_FOREIGNKEY":
            return GuardRefused()
        columns = re.sub(r"^.*constraint failed: ", "", str(error))
        return _violated(_SQLITE_UNIQUE.get(columns, columns))
    if name in _SQLITE_BUSY:
        return StorageUnavailableError(
            "The database file is busy with another process's writes; call again later.", retry_after=1
        )
    if name == "SQLITE_FULL":
        return StorageUnavailableError("The disk of the database file is full; free some space and call again.")
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StorageUnavailableError(f"The database file cannot be used ({name}).")
    return error


def _translate_postgres(state: str, constraint: str | None, error: BaseException) -> BaseException:
    if state == "23505" and constraint:
        return _violated(constraint)
    if state == "23503":
        return GuardRefused()
    if state.startswith("23"):
        return ConstraintViolated(constraint or state)
    if state in _RACE_STATES:
        return RaceLost()
    if state in _UNPREPARED_STATES:
        return StatementsLost()
    if state[:2] == "08" or state in _GOING_STATES:
        return ConnectionLost(f"The database connection was lost (SQLSTATE {state}); call again later.")
    if state == "25006":
        return ServerIsReadOnly()
    if state[:2] in {"53", "57", "58"}:
        return StorageUnavailableError(f"The database is not available now (SQLSTATE {state}); call again later.")
    return error


def _violated(constraint: str) -> BaseException:
    return RaceLost() if constraint in _RACES else ConstraintViolated(constraint)
