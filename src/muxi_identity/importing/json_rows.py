"""JSON as a source: lines of it, or whole documents (pages of Slack's users.list, an array of rows)."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from muxi_identity.errors import InvalidRequestError
from muxi_identity.importing.entries import Entry
from muxi_identity.importing.lines import MAX_LINE, Line, Text
from muxi_identity.importing.slack import entry_of, members_of

MAX_DOCUMENT = 64 << 20
"""Bytes of one value of a document: a page of a thousand members takes some two million."""
_BETWEEN = re.compile(r"[\s,]*")
_decoder = json.JSONDecoder()


def too_long(line: Line) -> Entry:
    """Return the entry of a line that was read over."""
    return Entry(line.number, b"", fault=f"The line is longer than {MAX_LINE} bytes.")


def read_lines(text: Text) -> Iterator[Entry]:
    """Yield a row a line; blank lines are none. Rows may be members of a Slack workspace."""
    for line in text.lines():
        if line.text is None:
            yield too_long(line)
        elif line.text.strip():
            yield Entry(line.number, line.text)


def read_documents(text: Text, *, scoped: bool) -> Iterator[Entry]:
    """Yield the rows of whole documents: one after the other, in an array, or the members of pages.

    Raises:
        InvalidRequestError: The text is no JSON from some place on. What came before has been yielded.
    """
    number = 0
    for value in _values(text):
        for row in members_of(value):
            number += 1
            yield entry_of(number, row, scoped=scoped)


def _values(text: Text) -> Iterator[Mapping[str, Any]]:
    """Yield the objects at the top, or in arrays at the top."""
    pieces = _decoded(text)
    buffer, depth, ended = "", 0, False
    wanted = 1
    while True:
        while len(buffer) < wanted and not ended:
            piece = next(pieces, None)
            ended = piece is None
            buffer += piece or ""
        start = _skipped(buffer)
        if start == len(buffer):
            if ended:
                break
            buffer, wanted = "", 1
            continue
        if buffer[start] in "[]":
            depth += 1 if buffer[start] == "[" else -1
            buffer, wanted = buffer[start + 1 :], 1
            if depth not in (0, 1):
                raise _broken("it has arrays in arrays")
            continue
        try:
            value, end = _decoder.raw_decode(buffer, start)
        except (ValueError, RecursionError) as error:
            if ended:
                raise _broken(str(error)) from None
            # Twice as much before it is tried again, so that a value is gone through a few times and no more.
            wanted = max(len(buffer) * 2, 1 << 16)
            if wanted > MAX_DOCUMENT:
                raise _broken(f"a value takes more than {MAX_DOCUMENT >> 21} MiB; save page by page") from None
            continue
        if not isinstance(value, dict):
            raise _broken("an object was expected: a page, a member, or a row")
        yield value
        buffer, wanted = buffer[end:], 1
    if depth:
        raise _broken("an array does not end")


def _skipped(buffer: str) -> int:
    found = _BETWEEN.match(buffer)
    return found.end() if found else 0


def _decoded(text: Text) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in text.pieces():
            yield decoder.decode(piece)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise InvalidRequestError("The file is no UTF-8; save it as UTF-8.") from None


def _broken(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"The file is no JSON that can be imported: {why}. What came before it is imported.")
