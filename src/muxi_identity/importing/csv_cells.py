"""People as CSV that a spreadsheet can be let near, in the columns that an import takes.

A spreadsheet runs a cell that begins with ``=`` and its like. Anybody can write in as ``=HYPERLINK(...)``, and would
have it run by whoever opens the list of people. Such a cell is given an apostrophe, which an import takes away again;
one that begins with an apostrophe and such a sign is given one more, so that each comes back as it was.
"""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

from muxi_identity.models import PersonRow

# The wide forms too: some spreadsheets of East Asia take them for the narrow ones.
_FORMULA = re.compile(r"'*\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_FLAGS = {True: "true", False: ""}

COLUMNS = ("identifier", "type", "scope", "verified", "expires_at", "metadata", "user_id")


def guarded(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """Return what :func:`guarded` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def header() -> bytes:
    """Return the first line."""
    return _lines([COLUMNS])


def lines_of(person: PersonRow) -> bytes:
    """Return the lines of a person, one an identifier; somebody who has none takes one as well."""
    return _lines([_cells(person["user_id"], each) for each in person["identifiers"] or [{}]])


def _cells(user_id: str, identifier: dict[str, Any]) -> list[str]:
    given = {**identifier, "user_id": user_id, "verified": _FLAGS[identifier.get("verified", False)]}
    if "metadata" in given:
        given["metadata"] = json.dumps(given["metadata"], ensure_ascii=False)
    return [guarded(given.get(name, "")) for name in COLUMNS]


def _lines(rows: list[Any]) -> bytes:
    text = io.StringIO()
    # All in quotes: where a semicolon parts the cells, one within a cell would begin another.
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
