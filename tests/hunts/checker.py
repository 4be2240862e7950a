"""The checker: holds what the workers wrote down against the truth, by the promises of section "Limits" of the README.

1. *No answer older than the lease.* Each answer was the truth at some moment from the call's begin to its end; one that
   another process has made wrong may be older by the lease. Nobody and several are never cached, and never late.
2. *Never one's own past.* After a change has returned, its process answers nothing from before that change.
3. *No write in the wrong person.* A row lies under an identifier that the call named, and that was live and its
   member's when the row was committed.
4. *No reading of the wrong person.* What a reading brought was the person's at some moment of the call; and what was
   acknowledged before it began, and stayed the person's all the while, was in it.
5. *Nothing acknowledged is lost.* Every acknowledged write was committed within the call, and only an erasure has
   taken it away; every acknowledged change of an identity stands in the history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.hunts.records import AMBIGUOUS, UNKNOWN, Asked, Called, Read, Records, Reference
from tests.hunts.truth import Truth, Write
from tests.hunts.witness import Committed

# How exactly the times of the witness and of the workers can be compared: SQLite tells whole milliseconds. To it comes
# by how much the wall clock, which the witness goes by, and the clock of the workers went apart meanwhile.
CLOCK_SECONDS = 0.002
IDENTITY_EVENTS = {
    "associate_user_identifiers": {"identifier:link", "identifier:update", "user:merge", "identifier:unlink"},
    "unlink_user_identifier": {"identifier:unlink"},
    "merge_users": {"user:merge"},
    "unmerge_users": {"user:unmerge"},
    "split_user": {"user:split"},
    "replace_identifier": {"identifier:replace"},
    "delete_user": {"user:delete"},
}


class Violation(NamedTuple):
    """A broken promise: which one, and what shows it."""

    promise: str
    what: str


@dataclass
class Report:
    """What the checker found, and how much it looked at."""

    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    clock: float = CLOCK_SECONDS
    """Seconds by which times may be wrong."""

    @property
    def broken(self) -> set[str]:
        """The promises that were broken."""
        return {violation.promise for violation in self.violations}

    def complain(self, promise: str, what: object) -> None:
        self.violations.append(Violation(promise, str(what)))

    def __str__(self) -> str:
        lines = [f"{name}: {number}" for name, number in sorted(self.counts.items())]
        shown = [f"{promise}: {what}" for promise, what in self.violations[:12]]
        return "\n".join([*lines, f"violations: {len(self.violations)}", *shown])


def truth_of(records: Records, committed: Iterable[Committed]) -> Truth:
    """Return the truth, which is the more exact the better is known when a call had returned."""
    return Truth(committed, {call.token or call.name: call.end for call in records.called})


def check(records: Records, truth: Truth, lease: float, drift: float = 0.0) -> Report:
    """Hold the records against the truth. ``lease``, and by how much the clocks went apart (``drift``), in seconds."""
    report = Report(clock=CLOCK_SECONDS + drift)
    report.counts["transactions"] = truth.transactions
    report.counts["answered from memory"] = records.hits
    for asked in records.asked:
        _check_answer(asked, truth, lease, report)
    for called in records.called:
        _check_call(called, truth, report)
    # Of how long ago something was acknowledged, readings need to know.
    kept = {each.token: each.end for each in records.called if each.method == "add_memory" and each.acknowledged}
    for read in records.read:
        _check_reading(read, truth, {token: end for token, end in kept.items() if token is not None}, report)
    return report


def _check_answer(asked: Asked, truth: Truth, lease: float, report: Report) -> None:
    if asked.failed:
        report.counts[f"look-ups refused {asked.answer}"] += 1
        return
    report.counts["look-ups"] += 1
    timeline = truth.answers[asked.reference]
    own = timeline.own_changes(asked.worker, asked.begin)
    slack = 0.0 if asked.answer in (UNKNOWN, AMBIGUOUS) else lease
    late = False
    for window in timeline.windows(asked.begin - report.clock, asked.end + report.clock, slack):
        if window.value != asked.answer:
            continue
        if window.end < asked.begin - report.clock:
            late = True
        if window.begin < own and window.end < asked.begin - report.clock:
            report.complain("own past", asked)
            return
        report.counts["look-ups answered late, within the lease"] += late
        return
    past = [window for window in timeline.windows(0.0, asked.end) if window.value == asked.answer]
    age = f"true until {asked.begin - past[0].end:.3f} s before" if past else "never true"
    report.complain("stale answer", (age, asked, list(timeline.windows(asked.begin, asked.end, slack))))


def _check_call(called: Called, truth: Truth, report: Report) -> None:
    report.counts[f"{called.method} {called.outcome}"] += 1
    if called.token is not None:
        _check_write(called, truth.writes.get(called.token, []), report)
        lost = called.method == "add_memory" and called.acknowledged and truth.members[called.token].last is None
        if lost and called.token not in truth.erased:
            report.complain("lost", ("gone, and not by an erasure", called))
    elif called.acknowledged and called.method in IDENTITY_EVENTS:
        said = {event["event"] for event in truth.events.get(called.name, [])}
        if not said and not _changed_nothing(called):
            report.complain("lost", ("acknowledged, and not in the history", called))
        elif not said <= IDENTITY_EVENTS[called.method] | {"user:create", "identifier:link", "identifier:unlink"} | {
            "identifier:move",
            "identifier:update",
        }:
            report.complain("lost", ("the history says something else", said, called))


def _changed_nothing(called: Called) -> bool:
    """Tell whether the answer itself says that there was nothing to do."""
    result = called.result or {}
    if called.method == "associate_user_identifiers":
        return not (result["created"] or result["new_identifiers"] or result["merge_ids"])
    return bool(
        result.get("already_merged")
        or result.get("already_undone")
        or result.get("already_replaced")
        or result.get("dry_run")
    )


def _check_write(called: Called, writes: list[Write], report: Report) -> None:
    if called.acknowledged and not writes:
        report.complain("lost", ("acknowledged, and never committed", called))
    for write in writes:
        report.counts[f"rows written to {write.table}"] += 1
        if not write.own:
            report.complain("wrong person", ("its identifier was not its member's", write, called))
        elif not any(_names(reference, write) for reference in called.references):
            report.complain("wrong person", ("another identifier's", write, called))
        if write.at < called.begin - report.clock or (called.acknowledged and write.at > called.end + report.clock):
            report.complain("lost", ("not committed within the call", write, called))
    twice = [table for table, number in Counter(write.table for write in writes).items() if number > 1]
    if twice:
        report.complain("twice", (twice, called))


def _names(reference: Reference, write: Write) -> bool:
    if isinstance(reference, tuple):
        return reference == (write.spelling, write.type)
    return reference == write.spelling


def _check_reading(read: Read, truth: Truth, kept: dict[str, float], report: Report) -> None:
    report.counts["readings"] += 1
    begin, end = read.begin - report.clock, read.end + report.clock
    people = list(truth.answers[read.reference].windows(begin, end))
    for token in read.tokens:
        report.counts["rows read"] += 1
        if token not in truth.members:
            continue
        theirs = any(
            member.value is not None
            and person.value == root.value
            and max(person.begin, member.begin, root.begin, begin) <= min(person.end, member.end, root.end, end)
            for member in truth.members[token].windows(begin, end)
            if member.value is not None
            for root in truth.roots[member.value].windows(begin, end)
            for person in people
        )
        if not theirs:
            report.complain("read of another", (token, read, people))
    if not read.whole or len(people) != 1:
        return
    (person,) = people
    for token, acknowledged in kept.items():
        if acknowledged > read.begin or token in read.tokens or token not in truth.members:
            continue
        members = list(truth.members[token].windows(begin, end))
        if len(members) != 1 or members[0].value is None:
            continue
        roots = list(truth.roots[members[0].value].windows(begin, end))
        if len(roots) == 1 and roots[0].value == person.value and members[0].begin < read.begin:
            report.complain("not read", (token, read, person))
