"""The benchmarks run, and say what they are asked to say. What they measure is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import growth
from benchmarks.comparing import compare_runs, verdict
from benchmarks.document import write_document
from benchmarks.growth import path_at
from benchmarks.peer.beside import measure_beside
from benchmarks.peer.process import start_peer
from benchmarks.places import open_place
from benchmarks.results import Row, Target, pool
from benchmarks.runs import Run, read, write

ROOT = Path(__file__).resolve().parents[2]
PATHS = [
    "cached resolve, FormationClient",
    "cached resolve, FormationClient, anybody",
    "cached resolve, AsyncFormationClient",
    "uncached resolve, one at a time",
    "256 concurrent uncached resolves (ratio of the rates)",
    "first contact",
    "associate 5, new user",
    "associate 5, given user",
    "associate 5, all known",
    *(f"context load, {number} memories" for number in (10, 100)),
    *(f"memory search, {number} memories" for number in (10, 100)),
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
    *(f"context load, {number} memories" for number in (10, 100)),
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
        assert [measured.pop(0), measured.pop(0)] == [("sqlite", path), ("postgres", path)]
    paths = (*(("growth", path_at(path, 600)) for path in growth.PATHS), *(("place", path) for path in PATHS))
    for kind in ("growth", "place"):
        for database in ("sqlite", "postgres"):
            for expected in [path for each, path in paths if each == kind]:
                assert measured.pop(0) == (database, expected)
    assert measured == []
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


def test_what_was_measured_is_written_between_the_markers(tmp_path: Path) -> None:
    parts = "".join(
        f"<!-- {name}: begin -->old {name}<!-- {name}: end -->\n" for name in ("scoreboard", "growth", "peer")
    )
    (tmp_path / "performance.md").write_text(f"Before.\n{parts}After.\n")
    grown = Row(path_at("uncached resolve", 1_000_000), "sqlite", [30.0], [20.0])
    first = Run("2000-01-01", "abc", "a machine", "software", "0.1", [row([1.5], [1])])
    second = Run("2000-01-02", "abd", "a machine", "software", "0.1", [row([2.5], [1]), grown])
    write_document([first, second], tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert "2000-01-01" not in page  # the later run has all of its rows
    assert all(kept in page for kept in ("Before.", "2.50 us", "30 us", "old peer", "After."))
    assert not any(gone in page for gone in ("old scoreboard", "old growth"))
    drawn = (tmp_path / "growth.svg").read_bytes()
    assert b"<svg" in drawn
    write_document([first, second], tmp_path)
    assert ((tmp_path / "performance.md").read_text(), (tmp_path / "growth.svg").read_bytes()) == (page, drawn)


# Answers as the published runtime would, at once: installing that is no test's business.
STAND_IN = """
import http.server, json, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for line in sys.stdin:
    asked = json.loads(line)
    times = [5.0 for _ in asked.get("names", [])]
    answers = {"race": {"users": 1, "refused": 3}, "serve": server.server_port, "concurrent": times[:1]}
    print(json.dumps(answers.get(asked["do"], times)), flush=True)
"""


async def test_ours_is_measured_beside_another() -> None:
    async with open_place("sqlite", 300) as place, start_peer([sys.executable, "-c", STAND_IN]) as peer:
        rows = await measure_beside(place, peer, 1)
    assert {row.verdict for row in rows} == {"-"}
    timed, counted = rows[:-2], rows[-2:]
    assert all(row.median > 0 and row.ratio is not None for row in timed)
    assert [row.floor for row in timed[:5]] == [5.0] * 5
    # Many first contacts of one identifier make one user, and nobody is refused.
    assert [(set(row.rounds), row.floor, row.ratio) for row in counted] == [({1}, 1, None), ({0}, 3, None)]


async def test_a_peer_that_ends_says_so() -> None:
    async with start_peer([sys.executable, "-c", "input()"]) as peer:
        with pytest.raises(RuntimeError, match="ended when it was asked to resolve"):
            await peer.ask(do="resolve", names=["anybody"])
