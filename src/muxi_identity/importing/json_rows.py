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
from muxi_identity.importing.slack import entry_of, is_page, members_of

MAX_DOCUMENT = 64 << 20
"""Bytes of one value of a document: a page of a thousand members takes some two million."""
_BETWEEN = re.compile(r"[\s,]*")
_COLON = re.compile(r"\s*:\s*")
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
    for value, lines in _values(text):
        for row, line in zip(members_of(value), lines, strict=True):
            number += 1
            yield entry_of(number, row, scoped=scoped, begins=line)


def _values(text: Text) -> Iterator[tuple[Mapping[str, Any], list[int]]]:
    """Yield the objects at the top, or in arrays at the top; and in which line each begins, or each of its members."""
    pieces = _decoded(text)
    buffer, depth, ended = "", 0, False
    wanted = line = 1
    while True:
        while len(buffer) < wanted and not ended:
            piece = next(pieces, None)
            ended = piece is None
            buffer += piece or ""
        start = _after(_BETWEEN, buffer, 0)
        line += buffer.count("\n", 0, start)
        buffer, wanted = buffer[start:], 1
        if not buffer:
            if ended:
                break
            continue
        if buffer[0] in "[]":
            depth += 1 if buffer[0] == "[" else -1
            buffer = buffer[1:]
            if depth not in (0, 1):
                raise _broken(line, "it has arrays in arrays")
            continue
        try:
            value, end = _decoder.raw_decode(buffer)
        except (ValueError, RecursionError) as error:
            if ended:
                raise _fault(line, buffer, error) from None
            # Twice as much before it is tried again, so that a value is gone through a few times and no more.
            wanted = max(len(buffer) * 2, 1 << 16)
            if wanted > MAX_DOCUMENT:
                raise _broken(line, f"a value takes more than {MAX_DOCUMENT >> 21} MiB; save page by page") from None
            continue
        if not isinstance(value, dict):
            raise _broken(line, "an object was expected: a page, a member, or a row")
        if is_page(value):
            starts = _members(buffer)
            lines = (
                [line + buffer.count("\n", 0, at) for at in starts] if "\n" in buffer[:end] else [line] * len(starts)
            )
        else:
            lines = [line]
        yield value, lines
        line += buffer.count("\n", 0, end)
        buffer = buffer[end:]
    if depth:
        raise _broken(line, "an array does not end")


def _members(page: str) -> list[int]:
    """Return where the members of a page begin. That it is one was seen before: there is nothing wrong in it."""
    starts: list[int] = []
    at = _after(_BETWEEN, page, 1)
    while page[at] != "}":
        name, at = _decoder.raw_decode(page, at)
        at = _after(_COLON, page, at)
        if name == "members" and page[at] == "[":
            starts = []  # of two of that name the last one counts
            at = _after(_BETWEEN, page, at + 1)
            while page[at] != "]":
                starts.append(at)
                at = _after(_BETWEEN, page, _decoder.raw_decode(page, at)[1])
            at += 1
        else:
            at = _decoder.raw_decode(page, at)[1]
        at = _after(_BETWEEN, page, at)
    return starts


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _decoded(text: Text) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in text.pieces():
            yield decoder.decode(piece)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise InvalidRequestError("The file is no UTF-8; save it as UTF-8.") from None


def _fault(line: int, buffer: str, error: Exception) -> InvalidRequestError:
    if isinstance(error, json.JSONDecodeError):
        return _broken(line + buffer.count("\n", 0, error.pos), error.msg)
    return _broken(line, "it is too deep, or has a number too long")


def _broken(line: int, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"The file is no JSON that can be imported, in line {line}: {why}.")
