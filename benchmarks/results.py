"""The rows of the result: printed as one table, written as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.blocks import Comparison


@dataclass(frozen=True)
class Target:
    """What section 11 of the design asks for: ``figure`` (a field of :class:`Row`) at most, or at least, ``bound``."""

    figure: str
    bound: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{self.figure} {'>=' if self.at_least else '<='} {self.bound:g}"


@dataclass(frozen=True)
class Row:
    """One path on one database. ``median``, ``p95`` and ``floor`` are in ``unit``."""

    path: str
    database: str
    median: float
    p95: float | None = None
    floor: float | None = None
    ratio: float | None = None
    unit: str = "us"
    target: Target | None = None
    round_trips: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.target is None:
            return "-"
        return "met" if self.target.is_met(getattr(self, self.target.figure)) else "MISSED"

    @classmethod
    def of(
        cls,
        path: str,
        database: str,
        found: Comparison,
        target: Target | None,
        note: str,
        round_trips: float | None = None,
    ) -> Row:
        return cls(
            path,
            database,
            found.median,
            found.p95,
            found.floor,
            found.ratio,
            target=target,
            round_trips=round_trips,
            note=note,
        )


_HEADINGS = ("path", "database", "median", "p95", "floor", "ratio", "trips", "target", "", "the floor is")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text in columns."""
    cells = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if 2 <= column <= 6 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.path,
        row.database,
        _figure(row.median, row.unit),
        _figure(row.p95, row.unit),
        _figure(row.floor, row.unit),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.round_trips is None else f"{row.round_trips:g}",
        "" if row.target is None else str(row.target),
        row.verdict,
        row.note,
    )


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write the rows with their verdicts."""
    found = [asdict(row) | {"target": row.target and str(row.target), "verdict": row.verdict} for row in rows]
    path.write_text(json.dumps({"rows": found}, indent=2) + "\n", encoding="utf-8")
