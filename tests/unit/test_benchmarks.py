"""The benchmarks run, and say what they are asked to say. What they measure is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
    assert measured.pop(0) == ("sqlite", "cached resolve over HTTP (ratio of the rates)")
    assert measured == [(database, path) for database in ("sqlite", "postgres") for path in PATHS]
    for row in rows:
        assert row["median"] > 0
        assert row["verdict"] in ("met", "MISSED", "-")
        assert (row["verdict"] == "-") == (row["target"] is None)
        assert row["path"] in result.stdout
    for path in ONE_ROUND_TRIP:
        assert {row["round_trips"] for row in rows if row["path"] == path} == {None, 1}
