"""Measuring two things side by side: short blocks of one and the other in turn, so that noise hits both."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns

Block = Callable[[], Awaitable[list[float]]]
"""Runs once and returns what each call took, in microseconds."""


@dataclass(frozen=True)
class Comparison:
    """Times in microseconds a call; ``ratio`` is the median of the ratios of neighbouring blocks."""

    median: float
    p95: float
    floor: float
    ratio: float


async def compare(ours: Block, floor: Block, blocks: int, *, warm_up: int = 2) -> Comparison:
    """Run both in turn, beginning with the one and the other alternately."""
    for _ in range(warm_up):
        await ours()
        await floor()
    # What is there already is not looked through again: a full collection takes longer than a block of either.
    gc.collect()
    gc.freeze()
    times: list[float] = []
    floors: list[float] = []
    ratios: list[float] = []
    for number in range(blocks):
        if number % 2:
            theirs = await floor()
            mine = await ours()
        else:
            mine = await ours()
            theirs = await floor()
        times += mine
        floors += theirs
        ratios.append(median(mine) / median(theirs))
        await asyncio.sleep(0)  # whatever else runs on the loop has its turn
    gc.unfreeze()
    return Comparison(median(times), percentile(times, 0.95), median(floors), median(ratios))


def percentile(times: list[float], share: float) -> float:
    """Return the time that ``share`` of the calls did not pass."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    """Return how long one call took, in microseconds."""
    begun = perf_counter_ns()
    await call()
    return (perf_counter_ns() - begun) / 1000
