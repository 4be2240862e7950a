"""`--compare`: two runs, row by row, and which differences are more than noise."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.blocks import Spread
from benchmarks.results import Row
from benchmarks.runs import Run
from benchmarks.tables import figure, in_columns

LEAST = 0.05
"""A smaller change is none: two runs of one commit differ by as much."""


def compare_runs(before: Run, after: Run) -> str:
    """Return the rows of both side by side, with a verdict on each."""
    old = {row.key: row for row in before.rows}
    new = {row.key: row for row in after.rows}
    lines = [("path", "database", "before", "after", "change", "verdict")]
    for key in [*old, *(key for key in new if key not in old)]:
        lines.append((*key, *_cells(old.get(key), new.get(key))))
    heads = [f"{name}: {run.commit}, {run.date}, {run.machine}" for name, run in (("before", before), ("after", after))]
    warning = [] if before.machine == after.machine else ["Not the same machine: only the ratios can be compared."]
    return "\n".join([*heads, *warning, "", in_columns(lines), "", *_rules()])


def verdict(before: Row, after: Row) -> str:
    """Say whether ``after`` is better, worse, or the same as far as this can tell.

    Different means: the quartiles of the two do not overlap, and the medians are apart by more than :data:`LEAST`.
    """
    old, new = _figures(before), _figures(after)
    if old.low <= new.high and new.low <= old.high:
        return "same"
    if abs(new.median / old.median - 1) <= LEAST:
        return "same"
    more_is_better = before.rates if before.ratios else before.more
    return "better" if (new.median > old.median) == more_is_better else "WORSE"


def _figures(row: Row) -> Spread:
    # What slows the machine slows the floor as well: where there is one, the ratio is what is compared.
    return row.ratios or row.spread


def _cells(before: Row | None, after: Row | None) -> Sequence[str]:
    if before is None or after is None:
        row = before or after
        assert row is not None
        shown = _shown(row)
        return (shown, "", "", "only before") if before else ("", shown, "", "only after")
    change = _figures(after).median / _figures(before).median - 1
    return _shown(before), _shown(after), f"{change:+.0%}", verdict(before, after)


def _shown(row: Row) -> str:
    return figure(row.median, row.unit) if row.ratio is None else f"ratio {row.ratio:.2f}"


def _rules() -> list[str]:
    return [
        'Rows with a floor are compared by their ratio to it, the others as they are. "same": the quartiles of the '
        f"rounds overlap, or the medians are within {LEAST:.0%}."
    ]
