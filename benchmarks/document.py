"""`--document`: writes what was measured into docs/performance.md, between its markers, and draws the growth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import log10
from pathlib import Path

import leather

from benchmarks.growth import PATHS, SMALL, path_at
from benchmarks.results import Row
from benchmarks.runs import Run
from benchmarks.tables import markdown

DOCS = Path(__file__).resolve().parents[1] / "docs"
_PAGE = "performance.md"
_PLOT = "growth.svg"
_COLOURS = ("#2458a5", "#c1443c", "#3a8f4d", "#8d5aa8", "#d08a1d")
_MARKED = "<!-- {name}: begin -->\n{text}\n<!-- {name}: end -->"


def write_document(runs: Sequence[Run], docs: Path = DOCS) -> None:
    """Replace each part that these runs have rows of; the others stay. Of a row that several have, the last counts.

    Raises:
        SystemExit: The page has no such markers.
    """
    page = (docs / _PAGE).read_text(encoding="utf-8")
    for name in ("scoreboard", "growth", "peer"):
        chosen = [part for run in runs if (part := _part(run, name)).rows]
        if chosen:
            page = _replaced(page, name, "\n\n".join(map(_described, _last_of_each(chosen))))
            if name == "growth":
                plot([row for run in chosen for row in run.rows], docs / _PLOT)
    (docs / _PAGE).write_text(page, encoding="utf-8")


def plot(rows: Sequence[Row], file: Path) -> None:
    """Draw how many times longer each path takes than of ten thousand identifiers; SQLite's lines are dashed."""
    ratios = {row.key: row.ratio for row in rows}
    sizes = sorted(set(_sizes(rows)))
    chart = leather.Chart("Times longer than of 10,000 identifiers")
    for path, colour in zip(PATHS, _COLOURS, strict=True):
        for database in sorted({row.database for row in rows}):
            found = [(log10(size), ratios.get((path_at(path, size), database))) for size in sizes]
            line = [(log10(SMALL), 1.0), *((size, ratio) for size, ratio in found if ratio is not None)]
            dashes = "6" if database == "sqlite" else None
            chart.add_line(line, name=f"{path}, {database}", stroke_color=colour, stroke_dasharray=dashes)
    ticks = [SMALL, *sizes]
    # leather hands a formatter the tick's place among how many, too.
    chart.add_x_axis([log10(size) for size in ticks], lambda tick, *_: f"{round(10**tick):,}", name="identifiers")
    chart.add_x_scale(log10(SMALL), log10(max(ticks)))
    chart.add_y_scale(0, max(2.0, *(ratio or 0.0 for ratio in ratios.values())))
    chart.to_svg(str(file), width=900, height=560)


def _sizes(rows: Sequence[Row]) -> list[int]:
    found = [re.search(r", of ([\d,]+) identifiers$", row.path) for row in rows]
    return [int(each[1].replace(",", "")) for each in found if each]


def _part(run: Run, name: str) -> Run:
    return Run(**vars(run) | {"rows": [row for row in run.rows if _name(row) == name]})


def _name(row: Row) -> str:
    if row.path.startswith("peer: "):
        return "peer"
    return "growth" if _sizes([row]) else "scoreboard"


def _last_of_each(runs: Sequence[Run]) -> list[Run]:
    last = {row.key: number for number, run in enumerate(runs) for row in run.rows}
    kept = [
        Run(**vars(run) | {"rows": [row for row in run.rows if last[row.key] == number]})
        for number, run in enumerate(runs)
    ]
    return [run for run in kept if run.rows]


def _described(run: Run) -> str:
    where = f"Measured on {run.date} at commit {run.commit}: {run.machine}; {run.software}."
    busy = f"Load average before it began: {run.busy} (about 0: a quiet machine)."
    return f"{where} {busy}\n\n{markdown(run.rows)}"


def _replaced(page: str, name: str, text: str) -> str:
    marked = re.compile(re.escape(f"<!-- {name}: begin -->") + ".*" + re.escape(f"<!-- {name}: end -->"), re.DOTALL)
    if not marked.search(page):
        raise SystemExit(f"{_PAGE} has no lines <!-- {name}: begin --> and <!-- {name}: end -->.")
    return marked.sub(lambda _: _MARKED.format(name=name, text=text), page)
