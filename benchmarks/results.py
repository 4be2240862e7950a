"""The rows of the result: what was measured, what it is compared with, and what it should reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from benchmarks.blocks import Comparison, Spread


@dataclass(frozen=True)
class Target:
    """What section 11 of the design asks for: ``figure`` (a field of :class:`Row`) at most, or at least, ``bound``."""

    figure: str
    bound: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{self.figure} {'>=' if self.at_least else '<='} {self.bound:,g}"


@dataclass(frozen=True)
class Row:
    """One path on one database: the median of each round, and of each round of the floor. Made by :meth:`of` (beside
    a floor) or :meth:`alone`.

    ``rates``: the ratio is that of the rates, ours to the floor's, so that more is better; else that of the times.
    ``more``: the figure itself is better when it is more (requests a second). ``counts``: the figures are counted and
    not timed: no ratio is taken of them.
    """

    path: str
    database: str
    rounds: list[float]
    floors: list[float] = field(default_factory=list)
    p95: float | None = None
    unit: str = "us"
    target: Target | None = None
    round_trips: float | None = None
    note: str = ""
    rates: bool = False
    more: bool = False
    counts: bool = False

    @classmethod
    def of(
        cls,
        path: str,
        database: str,
        found: Comparison,
        target: Target | None,
        note: str,
        round_trips: float | None = None,
        *,
        rates: bool = False,
    ) -> Row:
        """Make the row of a path that was measured beside its floor; ``note`` says what the floor is."""
        return cls(
            path,
            database,
            found.rounds,
            found.floors,
            found.p95,
            target=target,
            round_trips=round_trips,
            note=note,
            rates=rates,
        )

    @classmethod
    def alone(
        cls,
        path: str,
        database: str,
        rounds: Sequence[float],
        unit: str,
        target: Target | None = None,
        note: str = "",
        *,
        more: bool = False,
    ) -> Row:
        """Make the row of a figure that has no floor: bytes, requests a second."""
        return cls(path, database, list(rounds), unit=unit, target=target, note=note, more=more)

    @property
    def spread(self) -> Spread:
        return Spread.of(self.rounds)

    @property
    def median(self) -> float:
        return self.spread.median

    @property
    def floor(self) -> float | None:
        return median(self.floors) if self.floors else None

    @property
    def ratios(self) -> Spread | None:
        """The ratio in each round, so that what slows both does not show in it."""
        if not self.floors or self.counts:
            return None
        pairs = zip(self.rounds, self.floors, strict=True)
        return Spread.of([theirs / mine if self.rates else mine / theirs for mine, theirs in pairs])

    @property
    def ratio(self) -> float | None:
        return None if self.ratios is None else self.ratios.median

    @property
    def verdict(self) -> str:
        if self.target is None:
            return "-"
        return "met" if self.target.is_met(getattr(self, self.target.figure)) else "MISSED"

    @property
    def key(self) -> tuple[str, str]:
        return self.path, self.database

    def with_rounds_of(self, other: Row) -> Row:
        """Return this row with the rounds of another run of the same path."""
        p95 = None if self.p95 is None or other.p95 is None else max(self.p95, other.p95)
        return replace(self, rounds=self.rounds + other.rounds, floors=self.floors + other.floors, p95=p95)

    def as_json(self) -> dict[str, Any]:
        """Return the rounds, and what follows from them for whoever reads the file without this program."""
        found = {"median": self.median, "floor": self.floor, "ratio": self.ratio, "verdict": self.verdict}
        return asdict(self) | found

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Row:
        kept = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
        return cls(**kept | {"target": found["target"] and Target(**found["target"])})


def pool(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """Put the rounds of several runs together, row by row."""
    pooled: dict[tuple[str, str], Row] = {}
    for row in (row for run in runs for row in run):
        pooled[row.key] = pooled[row.key].with_rounds_of(row) if row.key in pooled else row
    return list(pooled.values())
