"""From whatever a caller gives to entries: files, open files, rows, pages."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from muxi_identity.errors import InvalidRequestError
from muxi_identity.identifiers import IdentifierRules
from muxi_identity.importing.csv_rows import CsvRows
from muxi_identity.importing.entries import Entry
from muxi_identity.importing.json_rows import read_documents, read_lines
from muxi_identity.importing.lines import PEEK, Text
from muxi_identity.importing.slack import entry_of, members_of

Format = Literal["jsonl", "csv", "json"]
FORMATS: Final[tuple[Format, ...]] = ("jsonl", "csv", "json")
Source: TypeAlias = Any
"""A path, an open file, a page of Slack's users.list, or an iterable, asynchronous too, of rows or of such pages."""
_PAGE = re.compile(rb'"members"\s*:')


class Reading:
    """A source that is being read, one entry after the other: by one thread, a piece at a time.

    Without ``rules`` the columns of CSV are taken as they come, for who wants to see rows and not what they mean.
    """

    def __init__(
        self,
        source: Source,
        format: Format | None,
        rules: IdentifierRules | None,
        *,
        scoped: bool,
        ignore: Sequence[str],
    ) -> None:
        if format is not None and format not in FORMATS:
            raise InvalidRequestError('format must be "jsonl", "csv" or "json".')
        self._scoped = scoped
        self._text: Text | None = None
        self.header = b""
        """The line that a file of refused rows must begin with."""
        self.numbered_by: Literal["line", "row"] = "row"
        """What the lines of its entries count."""
        self._number = 0
        self._broken: InvalidRequestError | None = None
        if isinstance(source, str | os.PathLike):
            self._text = Text(Path(source))
        elif hasattr(source, "read") and not isinstance(source, Mapping):
            self._text = Text(source)
        self._entries: Iterator[Entry]
        try:
            if self._text is not None:
                self._entries = self._of_text(self._text, format, rules, ignore)
            else:
                self._entries = self._of_rows(_rows(source))
        except BaseException:
            self.close()
            raise

    def _of_text(
        self, text: Text, format: Format | None, rules: IdentifierRules | None, ignore: Sequence[str]
    ) -> Iterator[Entry]:
        kind = format or guess(text.head)
        if kind == "csv":
            rows = CsvRows(text, rules, ignore)
            self.header, self.numbered_by = rows.header, "line"
            return iter(rows)
        if kind == "jsonl":
            self.numbered_by = "line"
            return read_lines(text)
        return read_documents(text, scoped=self._scoped)

    @property
    def is_text(self) -> bool:
        """Whether it is a file, or like one: what is wrong with it is told of it, and by nobody else."""
        return self._text is not None

    @property
    def size(self) -> int | None:
        """How many bytes the file has, as far as that is known."""
        return None if self._text is None else self._text.size

    @property
    def taken(self) -> int | None:
        """How many of them were read."""
        return None if self._text is None else self._text.taken

    def some(self, number: int) -> list[Entry]:
        """Return the next entries, at most ``number``; none at the end.

        Raises:
            InvalidRequestError: It cannot be read on. All that came before was returned.
        """
        found: list[Entry] = []
        if self._broken is not None:
            raise self._broken
        try:
            for entry in islice(self._entries, number):
                found.append(entry)
        except InvalidRequestError as error:
            self._broken = error
            if not found:
                raise
        return found

    def _of_rows(self, rows: Iterator[Any]) -> Iterator[Entry]:
        for each in rows:
            yield from self.take(each)

    def take(self, given: Any) -> Iterator[Entry]:
        """Yield the entries of one row or page that was given."""
        for row in members_of(given):
            self._number += 1
            yield entry_of(self._number, row, scoped=self._scoped)

    def close(self) -> None:
        """Close what was opened here."""
        if self._text is not None:
            self._text.close()


def asynchronous(source: Source) -> AsyncIterator[Any] | None:
    """Return the iteration of a source that is to be awaited, None of another."""
    return aiter(source) if isinstance(source, AsyncIterable) else None


def _rows(source: Source) -> Iterator[Any]:
    if isinstance(source, AsyncIterable):
        return iter(())  # whoever awaits them hands them to take()
    if isinstance(source, Mapping):
        return iter([source])
    if isinstance(source, Iterable) and not isinstance(source, bytes | bytearray | memoryview):
        return iter(source)
    raise InvalidRequestError("An import takes a path, an open file, or an iterable of rows.")


def guess(head: bytes) -> Format:
    """Tell a format by how the text begins."""
    text = head.lstrip()
    if not text.startswith((b"{", b"[")):
        return "csv"
    line, newline, _ = text.partition(b"\n")
    if text.startswith(b"[") or (_PAGE.search(line[:PEEK]) and b'"identifiers"' not in line):
        return "json"
    # An object that does not end where its line ends is a document for people to read.
    return "jsonl" if not newline or line.rstrip().endswith(b"}") else "json"


def name_import(source: Source, how: str) -> str:
    """Return the id of an import that was given none: a file's is that of its content and of how it is imported.

    Raises:
        InvalidRequestError: The file cannot be read.
    """
    if not isinstance(source, str | os.PathLike) or Path(source).is_fifo():  # a pipe can be read once alone
        return f"imp_{secrets.token_hex(12)}"
    path = Path(source)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        digest.update(b"\0" + how.encode())
    except OSError as error:
        raise InvalidRequestError(f"{path} cannot be read ({error.strerror}).") from None
    return f"imp_{digest.hexdigest()[:24]}"


def describe(**how: Any) -> str:
    """Return how an import is to be done, as the text that its fingerprint is made of."""
    return json.dumps(how, sort_keys=True, default=str)
