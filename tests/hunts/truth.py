"""The truth over time, from what the witness noted: whom each identifier meant, and whose each row was."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tests.hunts.records import AMBIGUOUS, UNKNOWN, Reference
from tests.hunts.witness import OWNED, Committed, Noted

# The witness of PostgreSQL knows when a transaction committed. Others see it a moment later, and nobody notes when;
# whoever waits for the acknowledgement sees it at the latest then. That of SQLite knows when the next one began.
SEEN_SECONDS = 1.0


class Window(NamedTuple):
    """A while in which something had a value. It began at ``begin`` and was over at the latest at ``end``.

    ``ended_by`` is the worker whose change ended it.
    """

    begin: float
    end: float
    value: Any
    ended_by: str | None


class Write(NamedTuple):
    """A row as somebody wrote it. ``own`` says that its identifier was live and its member's when it was committed."""

    at: float
    token: str
    table: str
    spelling: str | None
    type: str | None
    own: bool


class Moment(NamedTuple):
    """When something changed: not before ``at``, for everybody by ``over``. Whoever did it knew it at ``returned``."""

    at: float
    over: float
    returned: float
    worker: str | None


class Change(NamedTuple):
    """What something was from a moment on."""

    at: float
    over: float
    returned: float
    worker: str | None
    value: Any


class Timeline:
    """The values of one thing, oldest first."""

    def __init__(self, first: Any) -> None:
        self._changes = [Change(-math.inf, -math.inf, -math.inf, None, first)]

    @property
    def last(self) -> Any:
        return self._changes[-1].value

    def change(self, moment: Moment, value: Any) -> None:
        if value != self.last:
            self._changes.append(Change(*moment, value))

    def windows(self, begin: float, end: float, slack: float = 0.0) -> Iterator[Window]:
        """Return the windows that may have had a moment in common with ``begin - slack`` to ``end``."""
        for number in range(len(self._changes) - 1, -1, -1):
            change = self._changes[number]
            over, by = math.inf, None
            if number + 1 < len(self._changes):
                over, by = self._changes[number + 1].over, self._changes[number + 1].worker
            if change.at > end:
                continue
            if over + slack < begin:
                return
            yield Window(change.at, over, change.value, by)

    def own_changes(self, worker: str, before: float) -> float:
        """Return when the last change of ``worker`` that had returned by ``before`` was committed."""
        for change in reversed(self._changes):
            if change.worker == worker and change.returned <= before:
                return change.at
        return -math.inf


class Truth:
    """Everything that was ever true in a formation."""

    def __init__(self, committed: Iterable[Committed], ends: Mapping[str, float]) -> None:
        """``committed`` by the clock of the workers; ``ends`` tells when the call of a name or token had returned."""
        self.answers: dict[Hashable, Timeline] = defaultdict(lambda: Timeline(UNKNOWN))
        self.roots: dict[int, Timeline] = defaultdict(lambda: Timeline(None))
        self.members: dict[str, Timeline] = defaultdict(lambda: Timeline(None))
        self.writes: dict[str, list[Write]] = defaultdict(list)
        self.events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.erased: set[str] = set()
        self.transactions = 0
        self._users: dict[int, dict[str, Any]] = {}
        self._identifiers: dict[int, dict[str, Any]] = {}
        self._by_spelling: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        self._taken: dict[int, set[str]] = defaultdict(set)
        self._types: dict[str, set[str]] = defaultdict(set)
        self._spellings: dict[int, str] = {}
        self._rows: dict[tuple[str, int], dict[str, Any]] = {}
        for each in committed:
            self.transactions += 1
            self._follow(each, ends)

    def _follow(self, committed: Committed, ends: Mapping[str, float]) -> None:
        events = committed.events
        worker = events[0]["actor"] if events else None
        name = events[0]["source"] if events else None
        moment = _moment(committed, ends.get(name or ""), worker)
        for event in events:
            self.events[event["source"] or ""].append(event)
        users, spellings = self._apply(committed.notes)
        gone = [note for note in committed.notes if note.table in OWNED and note.verb == "DELETE"]
        for note in gone:  # before their users: an erasure takes both
            self._follow_row(moment, note)
        for pk in users:
            user = self._users.get(pk)
            root = None if user is None else self._users[user["root_pk"]]["public_id"]
            if user is None:
                self.erased |= self._taken.pop(pk, set())
            self.roots[pk].change(moment, root)
        for public_id, pk in self._public_ids(committed.notes, users):
            self.answers[public_id].change(moment, self.roots[pk].last or UNKNOWN)
        for spelling in spellings:
            for reference, value in self._meanings(spelling):
                self.answers[reference].change(moment, value)
        for note in committed.notes:
            if note.table in OWNED and note.verb != "DELETE":
                self._follow_row(_moment(committed, ends.get(token_of(note) or ""), worker), note)

    def _apply(self, notes: Iterable[Noted]) -> tuple[set[int], set[str]]:
        """Bring the tables up to date. Return the users and the spellings that may mean something else now."""
        users: set[int] = set()
        spellings: set[str] = set()
        for note in notes:
            pk = note.row.get("pk")
            assert isinstance(pk, int)
            if note.table == "users":
                users.add(pk)
                _keep(self._users, pk, note)
            elif note.table == "identifiers":
                # An erasure takes the spelling off what others once were known by: it is the same one all the same.
                spelling = self._spellings.setdefault(pk, note.row["spelling"])
                spellings.add(spelling)
                _keep(self._identifiers, pk, note)
                _keep(self._by_spelling[spelling], pk, note)
        if users:
            spellings |= {
                spelling
                for spelling, rows in self._by_spelling.items()
                if any(row["user_pk"] in users for row in rows.values())
            }
        return users, spellings

    def _public_ids(self, notes: Iterable[Noted], users: set[int]) -> set[tuple[str, int]]:
        gone = {(note.row["public_id"], note.row["pk"]) for note in notes if note.table == "users"}
        return gone | {(self._users[pk]["public_id"], pk) for pk in users if pk in self._users}

    def _meanings(self, spelling: str) -> Iterator[tuple[Reference, str]]:
        """Return what every way to name ``spelling`` means: a type is exact, without one it is a guess."""
        live = [row for row in self._by_spelling[spelling].values() if row["unlinked_at"] is None]
        types = self._types[spelling]  # of those that are gone, too: they mean nobody now
        types |= {row["type"] for row in live if row["type"] is not None}
        for type_ in types:
            yield (spelling, type_), self._person([row for row in live if row["type"] == type_])
        yield spelling, self._person([row for row in live if row["type"] is None] or live)

    def _person(self, rows: list[dict[str, Any]]) -> str:
        roots = {self.roots[row["user_pk"]].last for row in rows}
        if len(roots) > 1:
            return AMBIGUOUS
        return next(iter(roots), UNKNOWN)

    def _follow_row(self, moment: Moment, note: Noted) -> None:
        token = token_of(note)
        if token is None:
            return
        place = note.table, note.row["pk"]
        before = self._rows.get(place)
        if note.verb == "DELETE":
            self._rows.pop(place, None)
            if note.table == "memories":
                self.members[token].change(moment, None)
                self._taken[note.row["user_pk"]].add(token)
            return
        self._rows[place] = note.row
        if note.table == "memories":
            self.members[token].change(moment, note.row["user_pk"])
        if before is not None and token_of(Noted(note.table, "", before)) == token:
            return  # moved by a split or handed on, not written
        identifier = self._identifiers.get(note.row["identifier_pk"] or 0)
        own = (
            identifier is not None
            and identifier["unlinked_at"] is None
            and identifier["user_pk"] == note.row["user_pk"]
        )
        self.writes[token].append(
            Write(
                moment.at,
                token,
                note.table,
                None if identifier is None else self._spellings[identifier["pk"]],
                None if identifier is None else identifier["type"],
                own,
            )
        )


def _moment(committed: Committed, returned: float | None, worker: str | None) -> Moment:
    at = committed.at
    known = at + SEEN_SECONDS if returned is None else min(max(returned, at), at + SEEN_SECONDS)
    if committed.over is None:
        return Moment(at, known, known, worker)
    # Whoever made it may be stopped before the commit, for as long as it pleases whoever stopped it.
    over = committed.over if returned is None else min(max(returned, at), committed.over)
    return Moment(at, over, known, worker)


def _keep(rows: dict[int, dict[str, Any]], pk: int, note: Noted) -> None:
    if note.verb == "DELETE":
        rows.pop(pk, None)
    else:
        rows[pk] = note.row


def token_of(note: Noted) -> str | None:
    """Return the token that a row carries, None for one that no worker wrote by itself (a reply)."""
    text = note.row["value"] if note.table == "preferences" else note.row["content"]
    return token_in(text) if note.row.get("role", "user") == "user" else None


def token_in(text: str) -> str | None:
    """Return the token in a text: the word that begins with ``token-``."""
    at = text.find("token-")
    return None if at < 0 else text[at:].split()[0].strip('".,!?;:')
