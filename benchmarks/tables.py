"""Rows as a table: in columns for a terminal, in Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.blocks import Spread
from benchmarks.results import Row

Lines = Sequence[Sequence[str]]
_HEADINGS = ("path", "database", "median", "quartiles", "p95", "floor", "ratio", "quartiles", "trips", "target", "")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text in columns, with what each floor is."""
    lines = [(*_HEADINGS, "the floor is"), *((*cells(row), row.note) for row in rows)]
    return f"{in_columns(lines)}\n\n{summary(rows)}"


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    return as_markdown([_HEADINGS, *map(cells, rows)])


def summary(rows: Sequence[Row]) -> str:
    """Say how many targets were met."""
    asked = [row for row in rows if row.target is not None]
    missed = [f"{row.path} ({row.database})" for row in asked if row.verdict != "met"]
    return f"{len(asked) - len(missed)} of {len(asked)} targets met" + (
        f"; missed: {', '.join(missed)}" if missed else ""
    )


def cells(row: Row) -> tuple[str, ...]:
    return (
        row.path,
        row.database,
        figure(row.median, row.unit),
        _quartiles(row.spread),
        "" if row.p95 is None else figure(row.p95, row.unit),
        "" if row.floor is None else figure(row.floor, row.unit),
        "" if row.ratio is None else _digits(row.ratio),
        "" if row.ratios is None else _quartiles(row.ratios),
        "" if row.round_trips is None else f"{row.round_trips:g}",
        "" if row.target is None else str(row.target),
        "" if row.target is None else row.verdict,
    )


def figure(value: float, unit: str) -> str:
    return f"{_digits(value)} {unit}".rstrip()


def _quartiles(spread: Spread) -> str:
    if spread.low == spread.high:
        return ""
    return f"{_digits(spread.low)}..{_digits(spread.high)}"


def _digits(value: float) -> str:
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.2g}" if 0 < value < 0.1 else f"{value:.2f}"


def in_columns(lines: Lines) -> str:
    """Align the cells; the third column and those after it up to the ninth hold figures."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if 2 <= column <= 8 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_markdown(lines: Lines) -> str:
    rule = ["---"] * len(lines[0])
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
