"""What an import reads: formats, line ends, marks, packed files, and what is wrong in them."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import random
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from muxi_identity.errors import InvalidRequestError
from muxi_identity.identifiers import DEFAULT_RULES
from muxi_identity.importing.csv_records import CsvRecords
from muxi_identity.importing.entries import Entry
from muxi_identity.importing.lines import MAX_LINE, Line
from muxi_identity.importing.reading import Reading, guess, name_import


def entries_of(text: bytes) -> list[Entry]:
    return all_of(Reading(io.BytesIO(text), "csv", DEFAULT_RULES, scoped=True, ignore=()))


def all_of(reading: Reading) -> list[Entry]:
    return list(chain.from_iterable(iter(lambda: reading.some(100), [])))


def read(source: Any, format: Any = None, ignore: tuple[str, ...] = (), scoped: bool = True) -> list[Any]:
    """Return what stands in each row, or why it does not."""
    if isinstance(source, str):
        source = source.encode()
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    found: list[Any] = []
    for entry in all_of(Reading(source, format, DEFAULT_RULES, scoped=scoped, ignore=ignore)):
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
        LINES.replace("\n", "\r"),
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
        ("email,Note\rbob@email.com,1\r\ralice@email.com,2\r", [2, 4]),
        ('"email","No\nte"\nbob@email.com,"a\r\nb"\nalice@email.com,2', [3, 5]),
        ('email,Note\rbob@email.com,"a\nb\rc"\ralice@email.com,2', [2, 5]),
        ("email,Note\r\r\nbob@email.com,1\r\r\nalice@email.com,2\r\r\n", [2, 3]),
        ("email,Note\r\r\rbob@email.com,1\ralice@email.com,2", [4, 5]),
    ],
)
def test_line_ends_of_csv(text: str, lines: list[int]) -> None:
    bob = {**EMAIL, "identifier": "bob@email.com"}
    rows = read(text, ignore=("Note", "No\nte"))
    assert rows == [(lines[0], {"identifiers": [bob]}), (lines[1], {"identifiers": [EMAIL]})]


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


def test_no_row_of_csv_takes_more_memory_than_a_line() -> None:
    lines = [f"U{number:09},slack,P" for number in range(MAX_LINE // 15)]
    text = "\n".join(["identifier,type,person", *lines, "alice@email.com,email,A", ""])
    first, second = entries_of(text.encode())
    assert "are longer than" in (first.fault or "")
    assert len(first.raw) <= MAX_LINE
    assert second.fault is None


LONG = "x" * MAX_LINE


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ('a,"\nROW', "A quote is opened in line 2 and never closed: lines 2 to 4, the last one, are one row."),
        ('a,"\n","\nROW', "A quote is opened in line 3 and never closed: lines 2 to 5, the last one, are one row."),
        ('a,"\nROW"x\n', "A quote is opened in line 2: lines 2 to 4 are one row, and that is no CSV ("),
        ('a,"\n\xffROW"\n', "lines 2 to 4 are one row, and that is no UTF-8 (byte 1 of line 3)"),
        ('a,"' + "x\n" * 70_000 + 'ROW"\n', "lines 2 to 70003 are one row, and that is no CSV (field larger"),
        ('a,"' + "x\n" * 530_000 + 'ROW"\n', "lines 2 to 530003 are one row, and that is longer than 1048576 bytes."),
        (f'a,"{LONG}\nROW"\n', "lines 2 to 4 are one row, and that is longer than 1048576 bytes."),
        (f'a,"\nROW{LONG}",""\n', "lines 2 to 4 are one row, and that is longer than 1048576 bytes."),
        (f'a,"{LONG}"\n', "The line is longer than 1048576 bytes."),
        ('a,"x"y,"\nROW"\n', "lines 2 to 4 are one row, and that is no CSV ("),
        ('a,"\n"y,"\nROW"\n', "lines 2 to 5 are one row, and that is no CSV ("),
        ('a,b\r"\nROW"\n', "lines 2 to 4 are one row, and that is no CSV ("),
        (f'a"b,{LONG},"x\nROW"\n', "lines 2 to 4 are one row, and that is longer than 1048576 bytes."),
        (f'a"b,{LONG},"x\nROW', "A quote is opened in line 2 and never closed: lines 2 to 4, the last one,"),
        (f'a"b,{LONG},x\n', "The line is longer than 1048576 bytes."),
    ],
)
def test_what_is_quoted_is_never_taken_for_rows(row: str, fault: str) -> None:
    text = "email,slack\n" + row.replace("ROW", "ceo@email.com,MALLORY\n") + "bob@email.com,B0B\n"
    refused, *others = entries_of(text.encode("latin-1"))
    assert fault in (refused.fault or "")
    assert len(refused.raw) <= MAX_LINE
    names = [each.read()["identifiers"][0]["identifier"] for each in others]
    assert names == ([] if "never" in fault else ["bob@email.com"])


def test_the_records_are_those_of_the_csv_module() -> None:
    chance = random.Random(7)
    whole = 0
    for _ in range(3_000):
        text = "".join(chance.choices('ab",,\n\n""', k=chance.randrange(1, 18)))
        lines = text.removesuffix("\n").split("\n")
        found = list(CsvRecords((Line(at, each.encode()) for at, each in enumerate(lines, 1)), ","))
        try:
            wanted = list(csv.reader(io.StringIO(text), strict=True))
        except csv.Error:
            assert any(each.fault for each in found)
            continue
        whole += 1
        assert not any(each.fault for each in found)
        assert [each.cells if each.raw else [] for each in found] == wanted
    assert whole > 1_000


def test_where_records_begin_is_where_the_csv_module_begins_them() -> None:
    """Also in what is no CSV to the strict, and in lines that come in pieces, as those that are too long do."""
    chance = random.Random(8)

    def line(at: int, text: str) -> Line:
        if chance.random() < 0.6:
            return Line(at, text.encode())
        cuts = [0, *sorted(chance.choices(range(len(text) + 1), k=3)), len(text) + 1]
        return Line(at, None, [f"{text}\n"[one:other].encode() for one, other in itertools.pairwise(cuts)])

    for _ in range(3_000):
        text = "".join(chance.choices('ab",,\n""', k=chance.randrange(1, 24)))
        lines = text.removesuffix("\n").split("\n")
        reader = csv.reader(io.StringIO(text))
        wanted = [1, *(reader.line_num + 1 for _ in reader)][:-1]
        found = CsvRecords((line(at, each) for at, each in enumerate(lines, 1)), ",")
        assert [each.line for each in found] == wanted, text


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
        "email," + "x" * 200_000,
        "caf\u00e9".encode("latin-1"),
        "email\n".encode("utf-16"),
        gzip.compress(b"email\n" * 100, mtime=0)[:12],
        b"x" * (MAX_LINE + 9),
        "email," + "x" * 200_000 + '"\na,b',
        'email,"' + "x" * 200_000 + '"\na,b',
        '"email,slack\na,b',
        '"e\nmail",slack\ra,b\rc,d\n',
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


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ('[\n{"identifiers": []},\n\n {"identifiers":\n []}, {"identifiers": []}]', [2, 4, 5]),
        ('{"ok": true,\n"members": [\n{"id":\n"U1"}, {"id": "U2"},\n"U3"\n]}\n{"members": [{}]}', [3, 4, 5, 7]),
        ('{"members": [1],\n "members" \n: [\n[2, {"members": 3}],\n4], "next": "\\n"}{\n"a": 1}', [4, 5, 5]),
        ('\r\n{"members": [],\r\n"members": 1}\r\n{"identifiers": [],\r\n"members": []}', [2, 4]),
        ('{"members": []\r}\r{"members": [\r1]}', [4]),
        ("[" + '{"a": "\n"},\n'.replace("\n", "\\n", 1) * 30_000 + "{}]", list(range(1, 30_002))),
    ],
)
def test_where_the_rows_of_documents_begin(text: str, begin: list[int]) -> None:
    entries = all_of(Reading(io.StringIO(text, newline=""), "json", DEFAULT_RULES, scoped=True, ignore=()))
    assert [each.line for each in entries] == list(range(1, len(begin) + 1))
    assert [each.begins for each in entries] == begin


def test_the_text_of_a_row_can_be_read_again() -> None:
    row = {"identifiers": ["Jos\u00e9", "\ud800"]}
    for given in (row, {"identifiers": ["Jos\u00e9"]}):
        (entry,) = all_of(Reading([given], None, DEFAULT_RULES, scoped=True, ignore=()))
        assert json.loads(entry.raw) == given
    assert b"\xc3\xa9" in entry.raw


LINES_OF_ALICE = (json.dumps(ALICE) + "\n").encode() * 3


@pytest.mark.parametrize(
    ("source", "whole", "why"),
    [
        (json.dumps(MEMBERS).encode()[:-9], 4, "no JSON that can be imported, in line 1: "),
        (b'[{"identifiers": ["a@b.com"]},\n{"identifiers":\n["a@b.com"}', 1, "in line 3: Expecting ',' delimiter."),
        (
            b'{"members": []}\n{"members": [{"id": "U1", "profile": {}}]}\n[[1]]',
            1,
            "in line 3: it has arrays in arrays.",
        ),
        (gzip.compress(LINES_OF_ALICE, mtime=0)[:-9], 3, "The gzip file is damaged"),
        (gzip.compress(LINES_OF_ALICE, mtime=0)[:-8] + b"x" * 8, 3, "The gzip file is damaged"),
        (gzip.compress(LINES_OF_ALICE * 5_000, mtime=0)[:-9], 15_000, "The gzip file is damaged"),
    ],
)
def test_what_stands_before_the_damage_is_read(source: bytes, whole: int, why: str) -> None:
    reading = Reading(io.BytesIO(source), None, DEFAULT_RULES, scoped=True, ignore=())
    found = reading.some(20_000)
    assert len(found) == whole
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match=why):
            reading.some(1)


def test_the_format_is_guessed_by_how_the_file_begins() -> None:
    assert [guess(each) for each in (b"email\n", b'{"a": 1}\n', b"{\n", b"[{}]", b' {"ok":1,"members":[')] == [
        "csv", "jsonl", "json", "json", "json"
    ]  # fmt: skip
