"""The records of CSV: which lines are one row, and its cells.

A quote that is opened holds all that follows until it is closed, however much that is. What stands in it may be a text
that somebody wrote, with lines that look like rows: none of them is ever read as one, also where the row is refused.
A quote opens where a cell begins; behind other text, and behind one that was closed, it is a character.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import NamedTuple

from muxi_identity.importing.lines import MAX_LINE, Line

_INSIDE = rb'(?:[^"]++|"")*+'
_QUOTED = re.compile(rb'"%b("?+)\Z' % _INSIDE)


class Record(NamedTuple):
    """A row as it stands from ``line`` on; ``fault`` says why it has no cells.

    ``raw`` is its text, empty where it takes more than MAX_LINE bytes: it is read over then, and not kept.
    """

    line: int
    raw: bytes
    cells: list[str]
    fault: str


class CsvRecords:
    """The records that ``lines`` hold."""

    def __init__(self, lines: Iterator[Line], delimiter: str) -> None:
        end = delimiter.encode()
        self._lines = lines
        self._delimiter = delimiter
        # A CR ends a cell too: where lines end in it, what follows is the first one of a row.
        self._whole = re.compile(rb'(?:(?:"%b"[^%b\r]*+|[^"%b\r][^%b\r]*+)?[%b\r])*+' % (_INSIDE, end, end, end, end))

    def __iter__(self) -> Iterator[Record]:
        """Yield the records."""
        for line in self._lines:
            yield self._plain(line) or self._record(line)

    def _plain(self, line: Line) -> Record | None:
        """Return the record of a line that has nothing but cells and delimiters, as most have."""
        if line.text is None or b'"' in line.text or b"\r" in line.text:
            return None
        try:
            return Record(line.number, line.text, line.text.decode("utf-8").split(self._delimiter), "")
        except UnicodeDecodeError:
            return None

    def _record(self, line: Line) -> Record:
        first, size = line.number, 0
        taken: list[Line] = []
        opened = quoted = 0
        while True:
            size += MAX_LINE + 2 if line.text is None else len(line.text) + 1
            taken.append(line)
            if size > MAX_LINE + 1:
                taken.clear()
            opened = self._opened(line, opened)
            quoted = opened or quoted
            following = next(self._lines, None) if opened else None
            if following is None:
                break
            line = following
        cells, fault = self._read(taken) if taken and not opened else ([], f"longer than {MAX_LINE} bytes")
        if opened:
            fault = _never_closed(first, line.number, opened)
        elif fault:
            fault = _refused(first, line.number, quoted, fault)
        return Record(first, b"\n".join(each.text or b"" for each in taken), cells, fault)

    def _opened(self, line: Line, opened: int) -> int:
        """Return in which line the quote was opened that is open at the end of ``line``; 0 where none is.

        ``opened`` is the same of the line before.
        """
        cell = b'"' if opened else b""
        same = opened > 0
        for piece in line.pieces if line.text is None else (line.text,):
            text = cell + piece
            end = self._whole.match(text).end()  # type: ignore[union-attr]
            same = same and end == 0
            cell = _shortened(text, end)
        if cell != b'"':
            return 0
        return opened if same else line.number

    def _read(self, lines: list[Line]) -> tuple[list[str], str]:
        texts = []
        for line in lines:
            assert line.text is not None
            try:
                texts.append(line.text.decode("utf-8") + "\n")
            except UnicodeDecodeError as error:
                where = f"byte {error.start + 1}" + (f" of line {line.number}" if len(lines) > 1 else "")
                return [], f"no UTF-8 ({where}); save the file as UTF-8"
        try:
            cells, *more = csv.reader(texts, delimiter=self._delimiter, strict=True)
        except csv.Error as error:
            if str(error).startswith("new-line"):  # what Python says of that is for programmers
                return [], "no CSV (a CR is in it, another kind of line end); save it with one kind of line ends"
            return [], f"no CSV ({error})"
        return ([], "no CSV") if more else (cells, "")


def _shortened(text: bytes, begin: int) -> bytes:
    """Return a cell that goes on as the one that begins at ``begin``, and is not yet at its end, would."""
    quoted = _QUOTED.match(text, begin)
    if quoted is not None:
        return b'"' + quoted[1]  # a second quote may be the first half of a doubled one
    return text[begin : begin + 1] and b"x"


def _refused(first: int, last: int, quoted: int, why: str) -> str:
    if first == last:
        return f"The line is {why}."
    return f"A quote is opened in line {quoted}: lines {first} to {last} are one row, and that is {why}."


def _never_closed(first: int, last: int, opened: int) -> str:
    if first == last:
        return "A quote is opened in the line and never closed."
    return f"A quote is opened in line {opened} and never closed: lines {first} to {last}, the last one, are one row."
