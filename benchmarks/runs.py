"""One run: its rows, and when, where and on what they were measured. Kept as JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sqlite3
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.postgres import find_binaries

from benchmarks.results import Row

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Run:
    """What `--json` writes and `--compare` reads."""

    date: str
    commit: str
    machine: str
    software: str
    busy: str
    """The load average before it began: what else the machine did."""
    rows: list[Row]


def here(rows: Sequence[Row], busy: str) -> Run:
    """Describe a run that this process made."""
    commit = _output("git", "describe", "--always", "--dirty", "--abbrev=10")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Run(today, commit, _machine(), _software(), busy, list(rows))


def load_average() -> str:
    """Return how many processes ran or waited, on average over the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def write(run: Run, file: Path) -> None:
    """Write the run with its rounds, so that two runs can be compared."""
    found = asdict(run) | {"rows": [row.as_json() for row in run.rows]}
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read(file: Path) -> Run:
    """Read a run.

    Raises:
        SystemExit: the file is missing, or is no run.
    """
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return Run(**found | {"rows": [Row.from_json(row) for row in found["rows"]]})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SystemExit(f"{file} is not what --json wrote: {error}") from error


def _machine() -> str:
    model = platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {platform.system()}"


def _software() -> str:
    postgres = _output(str(find_binaries() / "postgres"), "--version").removeprefix("postgres (PostgreSQL) ")
    return f"Python {platform.python_version()}, PostgreSQL {postgres}, SQLite {sqlite3.sqlite_version}"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
