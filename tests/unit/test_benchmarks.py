"""The benchmarks run, and say what they are asked to say. What they measure is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.comparing import compare_runs, verdict
from benchmarks.results import Row, Target, pool
from benchmarks.runs import Run, read, write

ROOT = Path(__file__).resolve().parents[2]
PATHS = [
    "cached resolve, FormationClient",
    "cached resolve, AsyncFormationClient",
    "uncached resolve, one at a time",
    "256 concurrent uncached resolves (ratio of the rates)",
    "first contact",
    "associate 5, new user",
    "associate 5, given user",
    "associate 5, all known",
    *(f"context load, {number} memories" for number in (10, 100, 200)),
    *(f"memory search, {number} memories" for number in (10, 100, 200)),
    "chat turn, offline",
    "merge of users with 100 rows each",
    "unmerge of users with 100 rows each",
    "context load, 1 member",
    "context load, 2 members",
    "import of 300 people",
]
ONE_ROUND_TRIP = [
    "first contact",
    "associate 5, new user",
    "associate 5, given user",
    *(f"context load, {number} memories" for number in (10, 100, 200)),
    "context load, 2 members",
]


def test_every_path_is_measured_on_both_databases(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--database", "both", "--json", str(found)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    rows = json.loads(found.read_text())["rows"]

    measured = [(row["database"], row["path"]) for row in rows if row["floor"] is not None]
    for path in ("cached resolve over HTTP (ratio of the rates)", "cached resolve, remote FormationClient"):
        assert measured.pop(0) == ("sqlite", path)
    assert measured == [(database, path) for database in ("sqlite", "postgres") for path in PATHS]
    for row in rows:
        assert row["median"] > 0
        assert row["verdict"] in ("met", "MISSED", "-")
        assert (row["verdict"] == "-") == (row["target"] is None)
        assert row["path"] in result.stdout
    for path in ONE_ROUND_TRIP:
        assert {row["round_trips"] for row in rows if row["path"] == path} == {None, 1}


def row(rounds: list[float], floors: list[float] | None = None, **more: object) -> Row:
    return Row("a path", "sqlite", rounds, floors or [], **more)  # type: ignore[arg-type]


def test_a_ratio_is_taken_within_each_round() -> None:
    both_slow_once = row([10, 40, 10], [5, 20, 5])
    assert (both_slow_once.ratio, both_slow_once.median, both_slow_once.floor) == (2, 10, 5)
    assert row([10, 40, 10], [5, 20, 5], rates=True).ratio == 0.5


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (row([10, 11, 12, 13]), row([20, 21, 22, 23]), "WORSE"),
        (row([20, 21, 22, 23]), row([10, 11, 12, 13]), "better"),
        (row([10, 20, 30, 40]), row([14, 24, 34, 44]), "same"),  # the quartiles overlap
        (row([100, 100, 100]), row([104, 104, 104]), "same"),  # apart, but within what two runs differ by
        (row([20, 20], [10, 10]), row([40, 40], [20, 20]), "same"),  # the machine was slower, and the floor too
        (row([20, 20], [10, 10]), row([40, 40], [10, 10]), "WORSE"),
        (row([20, 20], [10, 10], rates=True), row([40, 40], [10, 10], rates=True), "WORSE"),
        (row([100, 100], more=True), row([200, 200], more=True), "better"),
    ],
)
def test_a_difference_is_told_from_noise(before: Row, after: Row, expected: str) -> None:
    assert verdict(before, after) == expected


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [row([1.5, 2], [1, 1], target=Target("ratio", 1.2), note="it"), Row.alone("size", "-", [7], "B")]
    run = Run("2000-01-01", "abc", "a machine", "software", "0.1", rows)
    write(run, tmp_path / "run.json")
    assert read(tmp_path / "run.json") == run
    assert "only after" in compare_runs(Run("", "", "", "", "", rows[:1]), run)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SystemExit, match="is not what --json wrote"):
        read(tmp_path / "other.json")


def test_repeated_runs_are_pooled_row_by_row() -> None:
    (pooled,) = pool([[row([1, 2], [1, 1], p95=3)], [row([4], [2], p95=2)]])
    assert (pooled.rounds, pooled.floors, pooled.p95) == ([1, 2, 4], [1, 1, 2], 3)
