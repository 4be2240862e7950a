"""What a command shows of an import that is under way."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from muxi_identity.cli import progress
from muxi_identity.models import ImportProgress


def told(rows: int, **more: Any) -> ImportProgress:
    counts = dict.fromkeys(("resumed", "created", "linked", "known", "merged", "skipped", "refused"), 0)
    return {"import_id": "imp_1", "rows": rows, "read": None, "size": None, **counts, **more}  # type: ignore[typeddict-item]


def shown(*states: ImportProgress, sized: bool, terminal: bool = True) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=80)
    with progress.shown(console, sized=sized) as tell:
        for state in states:
            tell(state)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


def test_a_bar_of_bytes_where_the_size_is_known() -> None:
    seen = shown(told(12_000, refused=3, read=250_000, size=1_000_000), sized=True)
    assert re.search(r"12,000 rows, 3 refused, [\d,]+/s ━+.* 25% 0\.2/1\.0 MB [-\d:]+\s*$", seen, re.MULTILINE)
    assert max(map(len, seen.splitlines())) <= 80


def test_what_an_earlier_run_did_is_none_of_the_pace() -> None:
    assert "5,000 rows ━" in shown(told(5_000, resumed=5_000, read=1, size=100), sized=True)


def test_counters_where_nobody_knows_the_size() -> None:
    seen = shown(told(12_000, read=250_000), sized=False)
    assert re.search(r"12,000 rows, [\d,]+/s 0:00:0\d", seen)
    assert "━" not in seen
    assert "%" not in seen


def test_what_is_on_its_way_to_a_server() -> None:
    assert re.search(r"sending ━+", shown(told(0, read=250_000, size=1_000_000), sized=True))


def test_a_line_now_and_then_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    lines = progress._Lines()
    for at, state in ((9, told(1)), (10, told(2_000, read=250_000, size=1_000_000)), (12, told(3)), (99, told(4))):
        now[0] = at
        lines(state)
    assert capsys.readouterr().err.splitlines() == ["2,000 rows, 25 % of 1.0 MB", "4 rows"]
    assert shown(told(5), sized=True, terminal=False) == ""
