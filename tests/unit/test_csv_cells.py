"""People as CSV: nothing in it is a formula, and all of it comes back as it was."""

from __future__ import annotations

import csv
import io
import random
from typing import Any

import pytest

from muxi_identity.identifiers import DEFAULT_RULES
from muxi_identity.importing.csv_cells import guarded, header, lines_of, unguarded
from muxi_identity.importing.reading import Reading

HOSTILE = [
    "=1+1",
    "+4915112345678",
    "-2+3",
    "@SUM(A1)",
    " =1",
    "\uff1dcmd",
    "'=1",
    "''@x",
    "'",
    "'alice",
    "a;=1",
    'a"=1',
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_comes_back_as_it_was(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert not guarded(text).lstrip().startswith(("=", "+", "-", "@", "\uff1d"))


def test_what_is_no_formula_is_left_alone() -> None:
    for text in ("alice@email.com", "O'Brien", "'quoted'", "U=1", '{"a": -1}', "2030-01-01T00:00:00Z"):
        assert guarded(text) == unguarded(text) == text


def test_random_cells_come_back() -> None:
    chance = random.Random(4)
    for _ in range(2_000):
        text = "".join(chance.choices("''=+-@ \ta", k=chance.randrange(7)))
        assert unguarded(guarded(text)) == text


def test_people_come_back_as_they_were() -> None:
    people: list[Any] = [
        {
            "user_id": "usr_a",
            "identifiers": [{"identifier": text, "type": "github"} for text in HOSTILE if text.strip()],
        },
        {"user_id": "usr_b", "identifiers": []},
        {
            "user_id": "usr_c",
            "identifiers": [
                {"identifier": "bare", "verified": True, "metadata": {"a": ['"', "\u00e9,"], "=": None}},
                {"identifier": "U1", "type": "slack", "scope": "@team,", "expires_at": "2031-01-01T00:00:00Z"},
            ],
        },
    ]
    text = header() + b"".join(lines_of(person) for person in people)
    for row in csv.reader(io.StringIO(text.decode())):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)
    rows = Reading(io.BytesIO(text), None, DEFAULT_RULES, scoped=True, ignore=()).some(10)
    assert [dict(each.read()) for each in rows] == people


@pytest.mark.parametrize("cell", ["{", "[" * 100_000])
def test_metadata_that_is_no_json_is_refused(cell: str) -> None:
    text = f'identifier,metadata\nalice@email.com,"{cell}"\n'
    (entry,) = Reading(io.BytesIO(text.encode()), None, DEFAULT_RULES, scoped=True, ignore=()).some(2)
    assert "metadata is JSON" in (entry.fault or "")
