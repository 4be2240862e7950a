"""What an import reports, and the rows that an export yields."""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class ImportNote(TypedDict):
    """A row that was not taken: its line, why in a word (``code``), and why in a sentence.

    ``line`` is that of the file; of rows that came from no file, and in JSON that is no JSON lines, the number of the
    row (in a file, ``message`` tells the line that it begins in). ``code`` is that of the error, or, of a row that was
    skipped, ``bot``, ``deleted`` or ``slackbot``.
    """

    line: int
    code: str
    message: str


class RefusedRow(ImportNote):
    """A refused row with its own text, as it stood in the file, in whatever encoding.

    ``header`` is what a file of such rows begins with: the header of CSV, and empty for all else. ``row`` is empty
    where it takes more than a MiB. A server tells neither: they are those of the path that was sent, and else empty.
    """

    row: bytes
    header: bytes


class ImportCounts(TypedDict):
    """How many rows are settled, and what was done with them."""

    import_id: str
    rows: int
    created: int
    linked: int
    known: int
    merged: int
    skipped: int
    refused: int


class ImportProgress(ImportCounts):
    """How far an import has come: rows that are settled, ``resumed`` of them by an earlier run, and bytes.

    ``read`` of the ``size`` bytes of the file were read, packed ones where it is packed; on their way to a server, of
    which no more is known before its end, sent. None where there is no file, or its size is not known.
    """

    resumed: int
    read: int | None
    size: int | None


class ImportReport(ImportCounts):
    """What an import did, over all its runs where it was cut off and resumed.

    ``rows`` were read: ``created`` users made, ``linked`` identifiers linked anew, ``known`` rows that linked none,
    ``merged`` users merged into others, ``skipped`` and ``refused`` rows not taken. ``resumed`` of the rows were done
    by an earlier run; ``finished_before`` is when an earlier run came to the end, if one did: then nothing was done but
    for rows that were added since. ``refusals`` and ``skips`` hold the first 1,000 of each, by line; ``numbered_by``
    says what their ``line`` counts: lines of the file, or rows. In a dry run nothing was written, and all of it is what
    would be.
    """

    dry_run: bool
    resumed: int
    finished_before: str | None
    numbered_by: Literal["line", "row"]
    refusals: list[ImportNote]
    skips: list[ImportNote]


class PersonRow(TypedDict):
    """One person in the shape that an import takes."""

    user_id: str
    identifiers: list[dict[str, Any]]


class PersonPage(TypedDict):
    """A page of people in the shape that an import takes. Pass ``next_cursor`` for the next page."""

    people: list[PersonRow]
    count: int
    next_cursor: str | None
