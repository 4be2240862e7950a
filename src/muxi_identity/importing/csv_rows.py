"""CSV as a source: one identifier a line, or one person a line with a column for each type.

Columns ``identifier`` (and ``type``, ``scope``, ``verified``, ``expires_at``) make it the first; lines that follow each
other with the same ``person`` or the same ``user_id`` are one row. Otherwise each column is a type, ``slack:T012AB3CD``
one with a scope, beside ``user_id``, ``external_id`` and ``verified``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from muxi_identity.errors import InvalidIdentifierError, InvalidRequestError
from muxi_identity.identifiers import IdentifierRules
from muxi_identity.importing.entries import Entry
from muxi_identity.importing.json_rows import too_long
from muxi_identity.importing.lines import MAX_LINE, Text
from muxi_identity.refusals import parse_type, quote

_LONG = ("identifier", "type", "scope", "verified", "expires_at", "user_id", "person")
_WIDE = ("user_id", "external_id", "verified")
_DELIMITERS = ",;\t"
_YES, _NO = ("true", "1", "yes", "y"), ("", "false", "0", "no", "n")


class CsvRows:
    """The rows of a CSV file; ``header`` is its first line, as bytes.

    Raises:
        InvalidRequestError: The header cannot be read, or has a column that means nothing.
    """

    def __init__(self, text: Text, rules: IdentifierRules, ignore: Sequence[str] = ()) -> None:
        self._lines = text.lines()
        first = next((line for line in self._lines if line.text is None or line.text.strip()), None)
        if first is None:
            raise InvalidRequestError("The file is empty.")
        if first.text is None:
            raise InvalidRequestError("The first line is too long for the header of a CSV file.")
        self.header = first.text
        heading = _decoded(first.text)
        self._delimiter = max(_DELIMITERS, key=heading.count)
        names = _names(heading, self._delimiter)
        ignored = {name.strip() for name in ignore}
        self._columns = [None if name in ignored or not name else _column(name) for name in names]
        kept = [name for name in self._columns if name is not None]
        if len(set(kept)) < len(kept):
            raise InvalidRequestError("Two columns of the CSV file have the same name.")
        self._long = "identifier" in kept
        for name in kept:
            _check_column(name, self._long, rules)
        self._number = first.number
        self._taken: list[bytes] = []
        self._size = 0

    def __iter__(self) -> Iterator[Entry]:
        """Yield the rows."""
        return self._grouped() if self._long else self._single()

    def _single(self) -> Iterator[Entry]:
        for line, raw, cells in self._records():
            if isinstance(cells, str):
                yield Entry(line, raw, fault=cells)
            else:
                yield _entry(line, raw, lambda cells=cells: _person(cells))

    def _grouped(self) -> Iterator[Entry]:
        """Join neighbouring lines of the same person."""
        group: list[Entry] = []
        name: tuple[str, str] | None = None
        size = 0
        for line, raw, cells in self._records():
            if isinstance(cells, str):
                entry, key = Entry(line, raw, fault=cells), None
            else:
                entry = _entry(line, raw, lambda cells=cells: _one(cells))
                named = (cells.get("person", ""), cells.get("user_id", ""))
                key = named if any(named) else None
            if group and (key is None or key != name):
                yield _joined(group)
                group, size = [], 0
            name = key
            size += len(raw)
            if not group or size <= MAX_LINE:
                group.append(entry)
            else:
                fault = f"The lines of this person are longer than {MAX_LINE} bytes together."
                group = [Entry(group[0].line, b"", fault=fault)]
        if group:
            yield _joined(group)

    def _records(self) -> Iterator[tuple[int, bytes, dict[str, str] | str]]:
        reader = csv.reader(self._fed(), delimiter=self._delimiter, strict=True)
        while True:
            self._taken.clear()
            self._size = 0
            cells: list[str] | None
            fault = ""
            try:
                cells = next(reader, None)
            except csv.Error as error:
                cells, fault = [], f"The line is no CSV ({error}); a quote may be open."
            except UnicodeDecodeError as error:
                cells, fault = [], f"Byte {error.start + 1} of the line is no UTF-8; save the file as UTF-8."
            except _TooLong as error:
                cells, fault = [], error.fault
            if cells is None:
                return
            raw = b"\n".join(self._taken)
            line = self._number - max(len(self._taken) - 1, 0)
            if fault:
                yield line, raw, fault
                reader = csv.reader(self._fed(), delimiter=self._delimiter, strict=True)
            elif cells and len(cells) > len(self._columns) and any(cells[len(self._columns) :]):
                yield line, raw, f"The line has {len(cells)} columns, the header {len(self._columns)}."
            elif any(cell.strip() for cell in cells):
                named = zip(self._columns, cells, strict=False)
                yield line, raw, {name: cell.strip() for name, cell in named if name is not None and cell.strip()}

    def _fed(self) -> Iterator[str]:
        for line in self._lines:
            self._number = line.number
            self._taken.append(line.text or b"")
            if line.text is None:
                raise _TooLong(too_long(line).fault or "")
            self._size += len(line.text) + 1
            if len(self._taken) > 1 and self._size > MAX_LINE:
                raise _TooLong(f"The row is longer than {MAX_LINE} bytes; a quote may be open.")
            yield line.text.decode("utf-8") + "\n"


class _TooLong(Exception):
    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequestError("The header of the CSV file is no UTF-8; save the file as UTF-8.") from None


def _names(heading: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([heading], delimiter=delimiter), [])]
    except csv.Error as error:  # such as a file whose lines end as on an old Mac: all of it is one line
        raise InvalidRequestError(
            f"The header of the CSV file cannot be read ({error}); save the file with the line ends of Unix or Windows."
        ) from None


def _column(name: str) -> str:
    kind, colon, scope = name.partition(":")
    return f"{kind.strip().lower()}:{scope.strip()}" if colon else name.lower()


def _check_column(name: str, long: bool, rules: IdentifierRules) -> None:
    if long:
        if name not in _LONG:
            raise InvalidRequestError(
                f"A CSV file with a column identifier has no column {quote(name)}; its columns are {', '.join(_LONG)}."
            )
        return
    if name in _WIDE:
        return
    try:
        kind = parse_type(name.partition(":")[0])
    except InvalidIdentifierError:
        kind = ""
    if kind not in rules.types:
        # Two people called John are not one: a column is taken for a type only where it was declared to be one.
        raise InvalidRequestError(
            f"The column {quote(name)} is no identifier type of this formation ({', '.join(sorted(rules.types))}): "
            "rename it, declare the type under identity.types, or have the column ignored."
        )


def _entry(line: int, raw: bytes, read: Any) -> Entry:
    try:
        return Entry(line, raw, read())
    except InvalidRequestError as error:
        return Entry(line, raw, fault=error.message)


def _person(cells: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {name: cells[name] for name in ("user_id", "external_id") if name in cells}
    if "verified" in cells:
        row["verified"] = _flag(cells["verified"])
    identifiers: list[dict[str, str]] = []
    for name, cell in cells.items():
        if name not in _WIDE:
            kind, _, scope = name.partition(":")
            identifiers.append({"identifier": cell, "type": kind, **({"scope": scope} if scope else {})})
    return {**row, "identifiers": identifiers}


def _one(cells: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {name: cells[name] for name in ("type", "scope", "expires_at") if name in cells}
    if "verified" in cells:
        given["verified"] = _flag(cells["verified"])
    identifiers = [{"identifier": cells["identifier"], **given}] if "identifier" in cells else []
    user = {"user_id": cells["user_id"]} if "user_id" in cells else {}
    return {**user, "identifiers": identifiers}


def _flag(cell: str) -> bool:
    word = cell.lower()
    if word not in _YES + _NO:
        raise InvalidRequestError("verified is true or false.")
    return word in _YES


def _joined(group: Sequence[Entry]) -> Entry:
    """Return the lines of one person as one row: all of them are linked, or none."""
    first = group[0]
    first.raw = b"\n".join(entry.raw for entry in group)
    first.fault = next((entry.fault for entry in group if entry.fault is not None), None)
    if first.fault is None and first.row is not None:
        rows = [entry.row for entry in group if entry.row is not None]
        first.row = {**first.row, "identifiers": [each for row in rows for each in row["identifiers"]]}
    return first
