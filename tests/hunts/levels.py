"""What a process holds: threads, files, connections, memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from muxi_identity.config import FormationConfig
from tests.hunts.witness import connect

SETTLE_SECONDS = 30.0


class Held(NamedTuple):
    """How many of what is counted exactly: what a round has opened it has closed again."""

    files: int
    threads: int
    tasks: int
    connections: int

    def fits(self, before: Held) -> bool:
        """Tell whether this is what was held ``before``. Threads that others left idle may be joined by a few more, up
        to what Python starts for blocking calls."""
        spare = min(32, (os.cpu_count() or 1) + 4)
        return self._replace(threads=0) == before._replace(threads=0) and self.threads <= before.threads + spare


def memory(pid: int) -> int:
    """Return what a process holds in memory, in kilobytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def files_and_threads(pid: int) -> tuple[int, int]:
    """Count the open files and the threads of a process."""
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


async def connections(config: FormationConfig) -> int:
    """Count the connections to the database of ``config``; of a SQLite file, which has none to count, 0."""
    if config.database.path is not None:
        return 0
    admin = await connect(config)
    try:
        return int(
            await admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    finally:
        await admin.close()


async def settled(count: Callable[[], Awaitable[Held]], wanted: Held | None) -> Held:
    """Return what is held once it is what is wanted: what is ended ends a moment later. Or, after a while, as it is."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        held = await count()
        if (wanted is not None and held.fits(wanted)) or time.monotonic() > deadline:
            return held
        if wanted is None:
            await asyncio.sleep(0.3)
            if await count() == held:
                return held
        await asyncio.sleep(0.02)


def slope(values: Sequence[float]) -> float:
    """Return by how much ``values`` rise from one to the next: the line of least squares through them."""
    number = len(values)
    if number < 2:
        return 0.0
    middle, mean = (number - 1) / 2, sum(values) / number
    return sum((at - middle) * (value - mean) for at, value in enumerate(values)) / sum(
        (at - middle) ** 2 for at in range(number)
    )
