"""What the command line makes of texts: of those that terminals would obey, and of errors that speak of calls."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import muxi_identity
from muxi_identity.cli.wording import in_commands, json_text, marked, visible

SOURCE = Path(muxi_identity.__file__).parent
OBEYED = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\x08", "\x7f", "\u202egpj.exe", "\u2066", "\u2028", "\ud800"]
KEPT = ["Zoë", "🧑‍🧑‍🧒", "می‌خواهم", "שלום", "日本", "a\u200fb"]


@pytest.mark.parametrize("text", OBEYED, ids=ascii)
def test_what_a_terminal_would_obey_is_spelled_out(text: str) -> None:
    for shown in (visible(text), visible(text, lines=True), marked(text)):
        assert shown.encode()
        assert shown.isprintable()
    assert visible("\x1b[2J") == r"\x1b[2J"
    assert visible("\u202egpj.exe") == r"\u202egpj.exe"
    told = json_text({"reason": text, "lines": "a\nb"}, indent=2)
    assert told.replace("\n", "").isprintable()
    assert json.loads(told) == {"reason": text, "lines": "a\nb"}


@pytest.mark.parametrize("text", KEPT)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert visible(text) == marked(text) == text
    assert json_text(text) == f'"{text}"'


def test_lines_stay_lines_where_there_may_be_several() -> None:
    assert visible("a\n\tb", lines=True) == "a\n\tb"
    assert visible("a\n\tb") == r"a\x0a\x09b"
    assert marked("[red]a[/red]") == r"\[red]a\[/red]"


def spoken(module: Path) -> list[str]:
    """Return the texts of a module that are no docstrings; what is put into them stands as ``usr_x``."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            parts = ("'usr_x'" if isinstance(part, ast.FormattedValue) else part.value for part in node.values)  # type: ignore[attr-defined]
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            found.append(node.value)
    return found


def test_no_error_of_a_command_speaks_of_python() -> None:
    python = re.compile(r"\b[a-z_]+=(True|False|None|[\"'])|\b[a-z]+_[a-z]+\(")
    said = [
        text
        for folder in ("identity", "importing")
        for module in sorted((SOURCE / folder).rglob("*.py"))
        for text in spoken(module)
        if " " in text and python.search(text)
    ]
    assert len(said) >= 7
    assert [text for text in said if python.search(in_commands(text))] == []
    assert in_commands('on_conflict="absorb" joins them') == "--on-conflict absorb joins them"
    assert in_commands("pass include_merged=True to") == "pass --include-merged to"
    assert in_commands("create_user(user_id='usr_x') makes one") == "`muxi users create usr_x` makes one"
    assert in_commands("That import_id belongs") == "That --import-id belongs"
