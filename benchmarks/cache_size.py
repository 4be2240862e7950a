"""What an entry of the cache takes in memory: the growth of a fresh process, divided by the entries."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Hashable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.extent import Extent
from benchmarks.results import Row, Target
from muxi_identity.identity.cache import Hit, IdentityCache

_FIRST_PK = 10**9
_TARGET = Target("median", 250)
_MEMBERS = 1000  # where they are not what is measured


async def measure(extent: Extent) -> list[Row]:
    """Measure the first level with bare and with typed keys, and the second level."""
    measured: list[tuple[str, Callable[[IdentityCache, int], None], Target | None]] = [
        ("cache entry, first level, bare e-mail address", bare, _TARGET),
        ("cache entry, first level, (value, type)", typed, _TARGET),
        ("cache entry, second level", members, None),
    ]
    return [Row.alone(path, "-", [_in_a_process(fill, extent)], "B", target) for path, fill, target in measured]


def bare(cache: IdentityCache, number: int) -> None:
    _put(cache, f"person{number}@example.com", number, number % _MEMBERS)


def typed(cache: IdentityCache, number: int) -> None:
    _put(cache, (f"U{number:09d}", "slack"), number, number % _MEMBERS)


def members(cache: IdentityCache, number: int) -> None:
    _put(cache, f"person{number % _MEMBERS}@example.com", number, number)


def _put(cache: IdentityCache, key: Hashable, number: int, member: int) -> None:
    # Every object is made anew, as the rows of a look-up make them.
    pk = _FIRST_PK + member
    hit = Hit(_FIRST_PK + number, pk, pk + 0, f"usr_{pk:020d}")
    cache.put(key, hit, cache.bucket_tokens.take(number.to_bytes(16)), cache.member_tokens.generation)


def _in_a_process(fill: Callable[[IdentityCache, int], None], extent: Extent) -> float:
    # A fork is there at once, but has memory to give away that this process was done with.
    context = multiprocessing.get_context("fork" if extent.quick else "spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_growth, fill, extent.entries).result()


def _growth(fill: Callable[[IdentityCache, int], None], entries: int) -> float:
    cache = IdentityCache(ttl=3600, max_entries=1_000_000)
    for number in range(_MEMBERS):
        fill(cache, number)
    before = _resident()
    for number in range(_MEMBERS, _MEMBERS + entries):
        fill(cache, number)
    return (_resident() - before) / entries


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
