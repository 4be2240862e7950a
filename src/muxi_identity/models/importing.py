"""What an import reports, and the rows that an export yields."""

from __future__ import annotations

from typing import Any, TypedDict


class ImportNote(TypedDict):
    """A row that was not taken: its line, why in a word (``code``), and why in a sentence.

    ``line`` is that of the file; of rows that came from no file, and in JSON that is no JSON lines, the number of the
    row. ``code`` is that of the error, or, of a row that was skipped, ``bot``, ``deleted`` or ``slackbot``.
    """

    line: int
    code: str
    message: str


class RefusedRow(ImportNote):
    """A refused row with its own text, as it stood in the file; empty where a server has refused it."""

    row: str


class ImportProgress(TypedDict):
    """How far an import has come: rows that are settled, and what was done with them."""

    import_id: str
    rows: int
    created: int
    linked: int
    known: int
    merged: int
    skipped: int
    refused: int


class ImportReport(ImportProgress):
    """What an import did, over all its runs where it was cut off and resumed.

    ``rows`` were read: ``created`` users made, ``linked`` identifiers linked anew, ``known`` rows that linked none,
    ``merged`` users merged into others, ``skipped`` and ``refused`` rows not taken. ``resumed`` of the rows were done
    by an earlier run. ``refusals`` and ``skips`` hold the first 1,000 of each, by line. In a dry run nothing was
    written, and all of it is what would be.
    """

    dry_run: bool
    resumed: int
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
