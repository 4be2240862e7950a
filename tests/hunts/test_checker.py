"""The checker itself, on histories made by hand: what it must report, and what it must let pass."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hunts.checker import Report, check, truth_of
from tests.hunts.records import AMBIGUOUS, UNKNOWN, Asked, Called, Read, Records, Reference
from tests.hunts.witness import Committed, Noted

LEASE = 2.0
ALICE, BOB = (1, "usr_alice"), (2, "usr_bob")
SLACK: Reference = ("U1", "slack")


def note(table: str, verb: str = "INSERT", **row: Any) -> Noted:
    return Noted(table, verb, row)


def user(who: tuple[int, str], root: tuple[int, str] | None = None, verb: str = "UPDATE") -> Noted:
    return note("users", verb, pk=who[0], public_id=who[1], root_pk=(root or who)[0])


def identifier(pk: int, owner: tuple[int, str], unlinked_at: int | None = None, kind: str | None = "slack") -> Noted:
    return note("identifiers", pk=pk, user_pk=owner[0], spelling="U1", type=kind, unlinked_at=unlinked_at)


def event(name: str = "user:merge", actor: str = "w0", source: str = "w0-1") -> Noted:
    return note("history", pk=99, event=name, actor=actor, source=source)


def memory(pk: int, owner: tuple[int, str], identifier_pk: int, verb: str = "INSERT") -> Noted:
    return note("memories", verb, pk=pk, user_pk=owner[0], identifier_pk=identifier_pk, content="Wrote down token-1")


# Both are there; Slack's U1 is Alice's from 10 on. At 20 (seen at 20.5) w0 unlinks it and links it to Bob.
BEGIN = Committed(5.0, [user(ALICE), user(BOB)])
LINKED = Committed(10.0, [identifier(11, ALICE), event("identifier:link", source="w0-0")])
MOVED = Committed(20.0, [identifier(11, ALICE, 20), identifier(12, BOB), event("identifier:link")])
CALLS = [
    Called("w0", "w0-0", "associate_user_identifiers", (SLACK,), 9.0, 10.5, "ok"),
    Called("w0", "w0-1", "associate_user_identifiers", (SLACK,), 19.0, 20.5, "ok"),
]


def judge(
    *records: Asked | Called | Read, more: tuple[Committed, ...] = (), calls: list[Called] | None = None
) -> Report:
    called = [*(CALLS if calls is None else calls), *(each for each in records if isinstance(each, Called))]
    asked = [each for each in records if isinstance(each, Asked)]
    every = Records(asked, called, [each for each in records if isinstance(each, Read)])
    committed = sorted([BEGIN, LINKED, MOVED, *more], key=lambda each: each.at)
    return check(every, truth_of(every, committed), LEASE)


@pytest.mark.parametrize(
    ("worker", "begin", "end", "answer", "broken"),
    [
        ("w1", 8.0, 9.0, UNKNOWN, set()),
        ("w1", 8.0, 9.0, "usr_alice", {"stale answer"}),  # before its time
        ("w1", 12.0, 12.1, "usr_alice", set()),
        ("w1", 12.0, 12.1, "usr_bob", {"stale answer"}),
        ("w1", 12.0, 12.1, UNKNOWN, {"stale answer"}),
        ("w1", 12.0, 12.1, AMBIGUOUS, {"stale answer"}),
        ("w1", 20.2, 20.3, "usr_alice", set()),  # committed, and not acknowledged yet
        ("w1", 20.2, 20.3, "usr_bob", set()),
        ("w1", 22.4, 22.41, "usr_alice", set()),  # late, within the lease
        ("w1", 22.6, 22.61, "usr_alice", {"stale answer"}),
        ("w1", 19.0, 60.0, "usr_alice", set()),  # a call that took long
        ("w0", 20.2, 20.3, "usr_alice", set()),  # its own change has not returned
        ("w0", 20.6, 20.7, "usr_alice", {"own past"}),
        ("w0", 20.6, 20.7, "usr_bob", set()),
        ("w1", 12.0, 12.1, "!STORAGE_UNAVAILABLE", set()),
    ],
)
def test_answers(worker: str, begin: float, end: float, answer: str, broken: set[str]) -> None:
    for reference in (SLACK, "U1"):
        assert judge(Asked(worker, reference, begin, end, answer)).broken == broken


def test_several_people_are_several_people() -> None:
    other = Committed(12.0, [identifier(13, BOB, kind="github"), event("identifier:link", "w1", "w1-1")])
    assert judge(Asked("w1", "U1", 13.0, 13.1, AMBIGUOUS), more=(other,)).broken == set()
    assert judge(Asked("w1", SLACK, 13.0, 13.1, "usr_alice"), more=(other,)).broken == set()
    assert judge(Asked("w1", "U1", 16.0, 16.1, "usr_alice"), more=(other,)).broken == {"stale answer"}


def test_a_merge_answers_with_its_root() -> None:
    merge = Committed(30.0, [user(BOB, root=ALICE), event("user:merge", "w1", "w1-9")])
    for reference in (SLACK, "usr_bob"):
        assert judge(Asked("w0", reference, 40.0, 40.1, "usr_alice"), more=(merge,)).broken == set()
        assert judge(Asked("w0", reference, 40.0, 40.1, "usr_bob"), more=(merge,)).broken == {"stale answer"}


def wrote(begin: float, end: float, outcome: str = "ok", reference: Reference = SLACK) -> Called:
    return Called("w1", "w1-5", "add_memory", (reference,), begin, end, outcome, "token-1")


def test_writes() -> None:
    right = Committed(15.0, [memory(50, ALICE, 11)])
    assert judge(wrote(14.9, 15.1), more=(right,)).broken == set()
    assert judge(wrote(14.9, 15.1, "STORAGE_UNAVAILABLE"), more=(right,)).broken == set()
    assert judge(wrote(14.9, 15.1, "STORAGE_UNAVAILABLE")).broken == set()
    assert judge(wrote(14.9, 15.1)).broken == {"lost"}
    assert judge(wrote(16.0, 16.1), more=(right,)).broken == {"lost"}
    assert judge(wrote(14.9, 15.1, reference="U2"), more=(right,)).broken == {"wrong person"}
    late = Committed(25.0, [memory(50, ALICE, 11)])  # through the identifier that has gone to Bob
    assert judge(wrote(24.9, 25.1), more=(late,)).broken == {"wrong person"}
    twice = Committed(15.01, [memory(51, ALICE, 11)])
    assert judge(wrote(14.9, 15.1), more=(right, twice)).broken == {"twice"}


def test_what_was_kept_goes_by_an_erasure_alone() -> None:
    right = Committed(15.0, [memory(50, ALICE, 11)])
    gone = Committed(16.0, [memory(50, ALICE, 11, verb="DELETE")])
    assert judge(wrote(14.9, 15.1), more=(right, gone)).broken == {"lost"}
    erased = [memory(50, ALICE, 11, verb="DELETE"), user(ALICE, verb="DELETE"), event("user:delete", "w1", "w1-8")]
    assert judge(wrote(14.9, 15.1), more=(right, Committed(30.0, erased))).broken == set()


def test_readings() -> None:
    right = Committed(15.0, [memory(50, ALICE, 11)])

    def read(begin: float, tokens: set[str], whole: bool = True) -> set[str]:
        reading = Read("w1", SLACK, begin, begin + 0.1, frozenset(tokens), whole)
        return judge(wrote(14.9, 15.1), reading, more=(right,)).broken

    assert read(16.0, {"token-1"}) == set()
    assert read(16.0, set()) == {"not read"}
    assert read(16.0, set(), whole=False) == set()
    assert read(15.05, set()) == set()  # not acknowledged yet
    assert read(25.0, {"token-1"}) == {"read of another"}  # U1 is Bob's by then
    assert read(25.0, set()) == set()


def test_what_was_acknowledged_is_in_the_history() -> None:
    unlink = Called("w1", "w1-7", "unlink_user_identifier", (SLACK,), 30.0, 30.1, "ok", None, {})
    assert judge(unlink).broken == {"lost"}
    done = Committed(30.05, [identifier(12, BOB, 30), event("identifier:unlink", "w1", "w1-7")])
    assert judge(unlink, more=(done,)).broken == set()
    nothing = {"created": False, "new_identifiers": [], "merge_ids": []}
    assert judge(CALLS[0]._replace(name="w1-8", result=nothing)).broken == set()
