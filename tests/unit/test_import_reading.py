"""What an import reads: formats, line ends, marks, packed files, and what is wrong in them."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from muxi_identity.errors import InvalidRequestError
from muxi_identity.identifiers import DEFAULT_RULES
from muxi_identity.importing.lines import MAX_LINE
from muxi_identity.importing.reading import Reading, guess, name_import


def read(source: Any, format: Any = None, ignore: tuple[str, ...] = (), scoped: bool = True) -> list[Any]:
    """Return what stands in each row, or why it does not."""
    if isinstance(source, str):
        source = source.encode()
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    found: list[Any] = []
    for entry in Reading(source, format, DEFAULT_RULES, scoped=scoped, ignore=ignore).entries:
        try:
            found.append((entry.line, entry.skip or dict(entry.read())))
        except InvalidRequestError:
            found.append((entry.line, None))
    return found


ALICE, BOB = {"identifiers": ["alice@email.com"]}, {"identifiers": [["B0B", "slack"]]}
LINES = f"{json.dumps(ALICE)}\n\n{json.dumps(BOB)}"
EMAIL = {"identifier": "alice@email.com", "type": "email"}


@pytest.mark.parametrize(
    "source",
    [
        LINES,
        LINES + "\n",
        LINES.replace("\n", "\r\n"),
        "\ufeff" + LINES,
        gzip.compress(LINES.encode(), mtime=0),
        gzip.compress(LINES[:30].encode(), mtime=0) + gzip.compress(LINES[30:].encode(), mtime=0),
    ],
)
def test_lines_of_json(source: Any) -> None:
    assert read(source) == [(1, ALICE), (3, BOB)]


def test_an_open_text_file() -> None:
    assert read(io.StringIO(LINES)) == [(1, ALICE), (3, BOB)]


def test_wrong_lines_are_told_by_their_number_and_the_others_go_on() -> None:
    lines = [
        json.dumps(ALICE).encode(),
        b'{"identifiers": ["\xff"]}',
        b"{",
        b"[1]",
        b'{"a": "' + b"x" * MAX_LINE + b'"}',
    ]
    lines += [b"[" * 100_000, b'{"a": ' + b"9" * 10_000 + b"}", json.dumps(BOB).encode()]
    assert read(b"\n".join(lines)) == [(1, ALICE), *((number, None) for number in range(2, 8)), (8, BOB)]


def test_csv_with_a_person_a_line() -> None:
    text = 'email;slack:T1;external_id;Full name;verified\r\nalice@email.com;U1;7;"Ali\r\nce";yes\r\n;;;;\r\n;U2;;;no'
    slack = {"type": "slack", "scope": "T1"}
    assert read(text, ignore=("Full name",)) == [
        (2, {"external_id": "7", "verified": True, "identifiers": [EMAIL, {"identifier": "U1", **slack}]}),
        (5, {"verified": False, "identifiers": [{"identifier": "U2", **slack}]}),
    ]


def test_csv_with_an_identifier_a_line() -> None:
    text = (
        "person,identifier,type,verified\na,alice@email.com,email,\na,U1,slack,1\nb,x,github,\n,y,github,\n,z,github,\n"
    )
    rows = read(text)
    assert [line for line, _ in rows] == [2, 4, 5, 6]
    assert rows[0][1] == {"identifiers": [EMAIL, {"identifier": "U1", "type": "slack", "verified": True}]}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("email\nalice@email.com,x\nb@email.com", [(2, False), (3, True)]),
        ('email\n"a\nb@email.com', [(2, False)]),
        (b"email\n\xff\nb@email.com", [(2, False), (3, True)]),
        (b"email\n" + b"x" * (MAX_LINE + 9) + b"\nb@email.com", [(2, False), (3, True)]),
        ("email,verified\na@email.com,perhaps\nb@email.com,", [(2, False), (3, True)]),
    ],
)
def test_wrong_lines_of_csv(text: Any, lines: list[Any]) -> None:
    assert [(line, row is not None) for line, row in read(text)] == lines


@pytest.mark.parametrize("kind", ["a person", "a quote"])
def test_no_row_of_csv_takes_more_memory_than_a_line(kind: str) -> None:
    if kind == "a person":
        lines = [f"U{number:09},slack,P" for number in range(MAX_LINE // 15)]
        text = "\n".join(["identifier,type,person", *lines, "alice@email.com,email,A", ""])
    else:
        text = 'email,slack\nbob@email.com,"' + '","'.join(["x\n" * 50_000] * 21)
    entries = list(Reading(io.BytesIO(text.encode()), "csv", DEFAULT_RULES, scoped=True, ignore=()).entries)
    assert max(len(entry.raw) for entry in entries) <= MAX_LINE + 10
    assert entries[0].fault is not None
    assert len(entries) > 1


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "people"
    os.mkfifo(pipe)
    assert name_import(pipe, "{}") != name_import(pipe, "{}")  # nobody writes into it: to read it would take for ever
    assert name_import(str(pipe), "{}").startswith("imp_")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "name,email\nJohn,john@email.com",
        "identifier,nmae\na,b",
        "email,email\na,b",
        "email\ralice@email.com\rbob@email.com\r",  # the line ends of an old Mac: all of it is one line
        "email," + "x" * 200_000,
        "caf\u00e9".encode("latin-1"),
        "email\n".encode("utf-16"),
        gzip.compress(b"email\n" * 100, mtime=0)[:-9],
        b"x" * (MAX_LINE + 9),
    ],
)
def test_what_cannot_be_read_at_all(source: Any) -> None:
    with pytest.raises(InvalidRequestError):
        read(source)


MEMBERS: list[dict[str, Any]] = [
    {"id": "U1", "team_id": "T1", "profile": {"email": "alice@email.com"}},
    {"id": "USLACKBOT", "team_id": "T1", "profile": {}},
    {"id": "B1", "team_id": "T1", "is_bot": True, "profile": {}},
    {"id": "U2", "team_id": "T1", "deleted": True, "profile": {}},
    {"id": "U3", "team_id": "T1", "profile": {}},
]
PAGES = [{"ok": True, "members": MEMBERS[:2]}, {"ok": True, "members": MEMBERS[2:]}]


@pytest.mark.parametrize(
    "source",
    [
        json.dumps(PAGES),
        json.dumps(PAGES, indent=2),
        "\n".join(json.dumps(page) for page in PAGES),
        "".join(json.dumps(page, indent=1) for page in PAGES),
        json.dumps(MEMBERS),
        PAGES,
        MEMBERS,
        iter(PAGES),
    ],
)
def test_a_slack_workspace(source: Any) -> None:
    scope = {"type": "slack", "scope": "T1"}
    assert read(source) == [
        (1, {"identifiers": [("alice@email.com", "email"), {"identifier": "U1", **scope}]}),
        (2, "slackbot"),
        (3, "bot"),
        (4, "deleted"),
        (5, {"identifiers": [{"identifier": "U3", **scope}]}),
    ]


def test_a_document_that_breaks_off_tells_so_after_what_came_before() -> None:
    entries = Reading(
        io.BytesIO(json.dumps(MEMBERS).encode()[:-9]), None, DEFAULT_RULES, scoped=True, ignore=()
    ).entries
    assert [next(entries).line for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(InvalidRequestError, match="no JSON"):
        next(entries)


def test_the_format_is_guessed_by_how_the_file_begins() -> None:
    assert [guess(each) for each in (b"email\n", b'{"a": 1}\n', b"{\n", b"[{}]", b' {"ok":1,"members":[')] == [
        "csv", "jsonl", "json", "json", "json"
    ]  # fmt: skip
