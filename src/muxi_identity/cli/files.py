"""Files that a command makes: new, private, and under their name only when they are whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import typer

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class NewFile:
    """A file that is ``path`` when it is whole, and ``path`` with ``.part`` until then.

    So a command that was killed can be given again as it was: what it had written is made anew, under a part of its
    own. A file that is there is never written over, a part neither: somebody may be working on it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written = False
        if os.path.lexists(path):
            raise _unwritable(path, "it is there already")
        try:
            self._part, descriptor = _new_part(path)
        except OSError as error:
            raise _unwritable(path, error.strerror) from None
        self._file = os.fdopen(descriptor, "wb")

    def __enter__(self) -> Self:
        """Return it, to be written."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        """Give it its name; what a command that failed has written stays a part."""
        named = False
        try:
            self._file.close()
            if kind is None:
                _rename(self._part, self.path)
                named = True
        except OSError as error:
            raise _unwritable(self.path, error.strerror) from None
        finally:
            if not named:
                self._leave()

    def write(self, text: bytes) -> None:
        """Write more."""
        try:
            self._file.write(text)
        except OSError as error:
            raise _unwritable(self.path, error.strerror) from None
        self._written = True

    def _leave(self) -> None:
        if self._written:
            typer.echo(f"{self._part} is what was written of {self.path} so far.", err=True)
        else:
            self._part.unlink(missing_ok=True)


def _new_part(path: Path) -> tuple[Path, int]:
    """Make the first part of ``path`` that is not there, and return it with its descriptor."""
    part, number = path.with_name(f"{path.name}.part"), 1
    while True:
        try:
            return part, os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            typer.echo(f"{part} is of another run, and stays as it is.", err=True)
        number += 1
        part = path.with_name(f"{path.name}.part{number}")


def _rename(part: Path, path: Path) -> None:
    """Give a file its name, where nothing has it by now."""
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:  # exFAT and shares of other machines have none
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        part.replace(path)
    else:
        part.unlink()


def _unwritable(path: Path, why: str | None) -> typer.Exit:
    typer.echo(f"{path} cannot be written ({why}); name a file that is not there yet.", err=True)
    return typer.Exit(2)
