"""Lines of a file, each with its number: bounded in memory, whatever the file holds."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from muxi_identity.errors import InvalidRequestError

MAX_LINE = 1 << 20
"""Bytes. A person with a hundred identifiers takes some ten thousand."""
PEEK = 1 << 16
_GZIP = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ENDS_IN_CR = re.compile(rb"[^\r\n]+\r+[^\r\n]")


class Line(NamedTuple):
    """A line without its end; ``None`` where it is longer than MAX_LINE, which is read over and not kept.

    ``pieces`` are those of one that is not kept, until the next line is asked for: CSV must know whether a quote is
    open at its end.
    """

    number: int
    text: bytes | None
    pieces: Iterable[bytes] = ()


class Text:
    """A source of bytes that can be looked into before it is read.

    Takes an open file, binary or text, and unpacks gzip by itself. Closes what it opened itself.
    """

    def __init__(self, source: IO[Any] | Path) -> None:
        self._own: IO[Any] | None = None
        if isinstance(source, Path):
            try:
                source = self._own = source.open("rb")
            except OSError as error:
                raise InvalidRequestError(f"{source} cannot be read ({error.strerror}).") from None
        file: Any = getattr(source, "buffer", source)  # a text file's own bytes
        self.size = size_of(file)
        """Bytes that there are to be read, as far as that is known."""
        self.taken = 0
        """Bytes that were read so far."""
        # Of a pipe what is there, without waiting for more.
        read = getattr(file, "read1", file.read)
        self._piece = partial(self._count, partial(_read_text if isinstance(file.read(0), str) else _read_bytes, read))
        self.head = self._begin()
        if self.head.startswith(_GZIP):
            packed = io.BufferedReader(_Rest(self.head, self._piece), PEEK)
            self._piece = partial(_read_bytes, gzip.GzipFile(fileobj=packed).read1)
            self.head = self._begin()
        if self.head.startswith(_WIDE_MARKS) or b"\0" in self.head[:4]:
            self.close()
            raise InvalidRequestError("The file is UTF-16 or binary; save it as UTF-8.")
        self.head = self.head.removeprefix(_UTF8_MARK)
        if _ENDS_IN_CR.match(self.head.lstrip()):  # as of spreadsheets of old Macs, and of "CSV (Macintosh)" today
            self._piece = partial(_with_newlines, self._piece)
            self.head = self.head.replace(b"\r", b"\n")
        self._file = io.BufferedReader(_Rest(self.head, self._piece), PEEK)

    def _count(self, read: Callable[[int], bytes], size: int) -> bytes:
        piece = read(size)
        self.taken += len(piece)
        return piece

    def _begin(self) -> bytes:
        found = b""
        try:
            while len(found) < PEEK and (piece := self._piece(PEEK - len(found))):
                found += piece
        except InvalidRequestError as error:
            if not found:
                raise
            self._piece = partial(_fail, error)  # when its turn comes: what stands before it can be read
        return found

    def lines(self) -> Iterator[Line]:
        """Yield the lines."""
        number = 0
        while text := self._file.readline(MAX_LINE + 2):
            number += 1
            if text.endswith(b"\n"):
                text = text[:-1].removesuffix(b"\r")
            elif len(text) > MAX_LINE:
                pieces = self._pieces_of_line(text)
                yield Line(number, None, pieces)
                for _ in pieces:  # what nobody had a use for
                    pass
                continue
            yield Line(number, text)

    def _pieces_of_line(self, first: bytes) -> Iterator[bytes]:
        piece = first
        while piece:
            yield piece
            piece = b"" if piece.endswith(b"\n") else self._file.readline(PEEK)

    def pieces(self) -> Iterator[bytes]:
        """Yield everything, piece by piece."""
        while piece := self._file.read(PEEK):
            yield piece

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._own is not None:
            self._own.close()


def size_of(file: Any) -> int | None:
    """Return how many bytes of an open file are still to be read; None where nobody can know."""
    try:
        status = os.fstat(file.fileno())
        return status.st_size - int(file.tell()) if stat.S_ISREG(status.st_mode) else None
    except (AttributeError, OSError, ValueError):  # it is in memory, a pipe, or no file at all
        return None


def _read_bytes(read: Callable[[int], bytes | None], size: int) -> bytes:
    """Read at most ``size`` bytes, none at the end."""
    try:
        return read(size) or b""
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InvalidRequestError("The gzip file is damaged, or was cut off; pack it again.") from None


def _read_text(read: Callable[[int], str], size: int) -> bytes:
    """Do the same with a file of text, of which a character takes up to four bytes."""
    try:
        return read(max(size // 4, 1)).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise InvalidRequestError("The file is no UTF-8; open it in binary, or save it as UTF-8.") from None


def _fail(error: InvalidRequestError, _size: int) -> bytes:
    raise error


def _with_newlines(read: Callable[[int], bytes], size: int) -> bytes:
    """Read at most ``size`` bytes, with line ends as everybody else has them."""
    return read(size).replace(b"\r", b"\n")


class _Rest(io.RawIOBase):
    """A file whose beginning was read already: that first, and then what ``read`` gives."""

    def __init__(self, head: bytes, read: Callable[[int], bytes]) -> None:
        self._head = head
        self._read = read

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into ``buffer``."""
        piece = self._head[: len(buffer)] or self._read(len(buffer))
        self._head = self._head[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)
