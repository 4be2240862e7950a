"""Files that a command makes: new, private, and under their name only when they are whole."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import typer


class NewFile:
    """A file that is ``path`` when it is whole, and ``path`` with ``.part`` until then.

    So a command that was killed can be given again as it was: what it had written is made anew. A file that is there
    is never written over: somebody may be working on it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f"{path.name}.part")
        self._written = False
        if os.path.lexists(path):
            raise _unwritable(path, "it is there already")
        try:
            self._part.unlink(missing_ok=True)
            descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise _unwritable(path, error.strerror) from None
        self._file = os.fdopen(descriptor, "wb")

    def __enter__(self) -> Self:
        """Return it, to be written."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        """Give it its name; what a command that failed has written stays a part."""
        if kind is None:
            self._finish()
        else:
            self._leave()

    def write(self, text: bytes) -> None:
        """Write more."""
        try:
            self._file.write(text)
        except OSError as error:
            raise _unwritable(self.path, error.strerror) from None
        self._written = True

    def _finish(self) -> None:
        try:
            with self._file:
                self._file.flush()
                # The same command, begun again meanwhile, has one of its own there.
                if not os.path.samestat(os.fstat(self._file.fileno()), self._part.stat()):
                    raise _unwritable(self.path, "another command writes it")
            os.link(self._part, self.path)  # fails where there is one by now
            self._part.unlink()
        except OSError as error:
            raise _unwritable(self.path, error.strerror) from None

    def _leave(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise _unwritable(self.path, error.strerror) from None
        if self._written:
            typer.echo(f"{self._part} is what was written of {self.path} so far.", err=True)
        else:
            self._part.unlink(missing_ok=True)


def _unwritable(path: Path, why: str | None) -> typer.Exit:
    typer.echo(f"{path} cannot be written ({why}); name a file that is not there yet.", err=True)
    return typer.Exit(2)
