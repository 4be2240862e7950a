"""What clients of a server that is killed were told, and whether it is there in the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.invariants import Tables, live

ACKNOWLEDGED, UNKNOWN = "acknowledged", "unknown"


class Diary:
    """What may and what must be in the database. All clients write into one."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.written: dict[str, tuple[str, str]] = {}
        """Token -> where it was written, and whether that was acknowledged."""
        self.linked: dict[str, set[bool]] = {}
        """Identifier -> whether it may be linked: both, where nobody knows."""
        self.standing: dict[str, set[bool]] = {}
        """Merge -> whether it may stand."""
        self.preferred: dict[str, list[str | None]] = {}
        """Identifier -> the value that was acknowledged last, None for none, and those of which nobody knows since."""

    @property
    def acknowledged(self) -> int:
        return self.counts[ACKNOWLEDGED]

    def note(self, states: dict[str, set[bool]], name: str, now: bool, outcome: str) -> None:
        """Note that something was to become ``now``."""
        states[name] = {now} if outcome == ACKNOWLEDGED else states.get(name, {not now}) | {now}

    def prefer(self, identifier: str, value: str, outcome: str) -> None:
        """Note that a preference was set."""
        before = [] if outcome == ACKNOWLEDGED else self.preferred.get(identifier, [None])
        self.preferred[identifier] = [*before, value]

    def violations(self, tables: Tables) -> list[str]:
        """Hold the tables against what was acknowledged."""
        return [*self._writes(tables), *self._links(tables), *self._merges(tables), *self._preferences(tables)]

    def _writes(self, tables: Tables) -> list[str]:
        found: Counter[tuple[str, str]] = Counter()
        for table in ("messages", "memories"):
            for row in tables[table]:
                if row.get("role", "user") == "user":
                    found[table, row["content"]] += 1
        wrong = []
        for token, (table, outcome) in self.written.items():
            number = found[table, token]
            if number > 1 or (outcome == ACKNOWLEDGED and number == 0):
                wrong.append(f"{outcome} in {table}, there {number} times: {token}")
        return wrong

    def _links(self, tables: Tables) -> list[str]:
        there = {row["spelling"] for row in live(tables)}
        return [
            f"linked: {name in there}, which is none of {allowed}: {name}"
            for name, allowed in self.linked.items()
            if (name in there) not in allowed
        ]

    def _merges(self, tables: Tables) -> list[str]:
        standing = {row["merge_id"]: row["undone_at"] is None for row in tables["merges"]}
        return [
            f"merge standing: {standing.get(name)}, which is none of {allowed}: {name}"
            for name, allowed in self.standing.items()
            if standing.get(name) not in allowed
        ]

    def _preferences(self, tables: Tables) -> list[str]:
        spelling = {row["pk"]: row["spelling"] for row in tables["identifiers"]}
        values: dict[Any, str] = {
            spelling[row["identifier_pk"]]: row["value"].strip('"') for row in tables["preferences"]
        }
        return [
            f"preferred {values.get(name)}, which is none of {allowed}: {name}"
            for name, allowed in self.preferred.items()
            if values.get(name) not in allowed
        ]
