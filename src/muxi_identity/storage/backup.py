"""Copies of a SQLite database: whole, as of one moment, and for nobody else to read."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from muxi_identity.errors import ConfigurationError


def copy_database(source: Path, target: Path) -> None:
    """Copy the database file ``source``, which may be in use, to the new file ``target``.

    The copy is one snapshot, without a log beside it and without what was erased. Writers go on meanwhile. Where it
    fails, there is no ``target``.

    Raises:
        ConfigurationError: There is no source, the target is there already, or it cannot be written.
    """
    if not source.is_file():
        raise ConfigurationError(f"There is no database file {source}.")
    with _draft(target) as draft:
        try:
            with contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                connection.execute("VACUUM INTO ?", (str(draft),))
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "an error")
            raise ConfigurationError(f"{source} could not be copied to {target} ({name}).") from None


def copy_private(source: Path, target: Path) -> None:
    """Copy a small file to the new file ``target``, for its owner alone to read.

    Raises:
        ConfigurationError: The target is there already, or one of them cannot be read or written.
    """
    with _draft(target) as draft:
        draft.write_bytes(source.read_bytes())


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """Give an empty private file; when it was filled, it is on the disk and becomes ``target``."""
    draft = target.with_name(f"{target.name}.{secrets.token_hex(8)}")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield draft
        for path in (draft, target.parent):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        os.link(draft, target)  # fails where there is one
    except FileExistsError:
        raise ConfigurationError(f"{target} is there already; name another file, or move it away.") from None
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written ({error.strerror}).") from None
    finally:
        draft.unlink(missing_ok=True)
