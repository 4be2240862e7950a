"""Measuring two things side by side: short blocks of one and the other in turn, so that noise hits both."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter_ns

from benchmarks.profiling import profiled

Block = Callable[[], Awaitable[list[float]]]
"""Runs once and returns what each call took, in microseconds."""


@dataclass(frozen=True)
class Spread:
    """The median of the rounds and their quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*quantiles(values, n=4, method="inclusive"))


@dataclass(frozen=True)
class Comparison:
    """The rounds of a path and of its floor: of each the median call, in microseconds."""

    rounds: list[float]
    floors: list[float]
    p95: float
    """Over all calls of the path."""


async def compare(ours: Block, floor: Block, blocks: int, *, warm_up: int = 2) -> Comparison:
    """Run both in turn, beginning with the one and the other alternately. A round is a block of each."""
    if blocks > 1:  # a single round only shows that it runs
        for _ in range(warm_up):
            await ours()
            await floor()
        # What is there already is not looked through again: a full collection takes longer than a block of either.
        gc.collect()
        gc.freeze()
    times: list[float] = []
    rounds: list[float] = []
    floors: list[float] = []
    for number in range(blocks):
        if number % 2:
            theirs = await floor()
            mine = await _profiled(ours)
        else:
            mine = await _profiled(ours)
            theirs = await floor()
        times += mine
        rounds.append(median(mine))
        floors.append(median(theirs))
        await asyncio.sleep(0)  # whatever else runs on the loop has its turn
    gc.unfreeze()
    return Comparison(rounds, floors, percentile(times, 0.95))


async def _profiled(ours: Block) -> list[float]:
    with profiled():
        return await ours()


def percentile(times: list[float], share: float) -> float:
    """Return the time that ``share`` of the calls did not pass."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    """Return how long one call took, in microseconds."""
    begun = perf_counter_ns()
    await call()
    return (perf_counter_ns() - begun) / 1000
