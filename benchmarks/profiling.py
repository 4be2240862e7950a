"""`--profile`: what ours does while it is timed. Set-up, warm-up and floors stay out of it.

The profiler slows every call, so that the figures of such a run are no figures. It sees the thread that measures; what
SQLite's worker thread does shows as waiting.
"""

from __future__ import annotations

import contextlib
import cProfile
import pstats
from collections.abc import Iterator
from pathlib import Path

_running: list[cProfile.Profile] = []


@contextlib.contextmanager
def profiling_to(file: Path | None) -> Iterator[None]:
    """Profile what is timed, write it to ``file`` for `python -m pstats` or snakeviz, and print the dearest calls."""
    if file is None:
        yield
        return
    profile = cProfile.Profile()
    _running.append(profile)
    try:
        yield
    finally:
        _running.clear()
    profile.dump_stats(file)
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


@contextlib.contextmanager
def profiled() -> Iterator[None]:
    """Profile this block where a profile was asked for."""
    if not _running:
        yield
        return
    _running[0].enable()
    try:
        yield
    finally:
        _running[0].disable()
