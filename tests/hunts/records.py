"""What the workers write down: each call with its time, its arguments and how it ended.

Times are of CLOCK_MONOTONIC, which is the same for all processes of a machine and goes on while one is paused.
"""

from __future__ import annotations

from typing import Any, NamedTuple

UNKNOWN = "nobody"
AMBIGUOUS = "several"

Reference = str | tuple[str, str]
"""How a call names somebody: bare, or with a type."""


class Asked(NamedTuple):
    """One look-up. ``answer`` is a public id, UNKNOWN, AMBIGUOUS, or the code of an error after an exclamation mark."""

    worker: str
    reference: Reference
    begin: float
    end: float
    answer: str

    @property
    def failed(self) -> bool:
        return self.answer.startswith("!")


class Called(NamedTuple):
    """One other call. ``name`` is in the history as its source; ``outcome`` is "ok" or the code of an error."""

    worker: str
    name: str
    method: str
    references: tuple[Reference, ...]
    begin: float
    end: float
    outcome: str
    token: str | None = None
    """What a write wrote: nothing else in the formation has these letters."""
    result: Any = None

    @property
    def acknowledged(self) -> bool:
        return self.outcome == "ok"


class Read(NamedTuple):
    """One reading of what is kept of a person: the tokens that came, and whether all must have come."""

    worker: str
    reference: Reference
    begin: float
    end: float
    tokens: frozenset[str]
    whole: bool


class Records(NamedTuple):
    """Everything that one worker, or all of them, wrote down."""

    asked: list[Asked]
    called: list[Called]
    read: list[Read]
    hits: int = 0
    """How many resolutions the cache answered, those of writes and readings among them."""

    def count(self) -> int:
        return len(self.asked) + len(self.called) + len(self.read)


def together(shares: list[Records]) -> Records:
    """Return the records of all workers as one."""
    return Records(
        [each for share in shares for each in share.asked],
        [each for share in shares for each in share.called],
        [each for share in shares for each in share.read],
        sum(share.hits for share in shares),
    )
