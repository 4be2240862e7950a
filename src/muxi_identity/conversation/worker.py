"""Running scheduled tasks: each as a chat turn of its person, in a session of the task's own.

A run is claimed in one short transaction, spoken outside of any, and recorded in another, together with the time of the
next one. A worker that dies leaves its claims behind: they end with their lease, and others run those tasks again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from muxi_identity.conversation.shift import OnRun, Shift, Speak
from muxi_identity.errors import ClientClosedError, InvalidRequestError, MuxiError
from muxi_identity.identity.running import Caller, Runner
from muxi_identity.models import TaskRun
from muxi_identity.storage.errors import closed

logger = logging.getLogger("muxi_identity.tasks")

_DUE_CONCURRENCY = 4
_DUE_LEASE_SECONDS = 60.0
_MOST_AT_ONCE = 100
_MOST_DUE = 10_000
_MOST_SECONDS = 3600.0


class TaskWorker:
    """Runs the due tasks of one formation."""

    def __init__(self, runner: Runner, speak: Speak) -> None:
        self._runner = runner
        self._speak = speak
        self._shifts: set[Shift] = set()

    async def run_due(self, limit: int, caller: Caller) -> list[TaskRun]:
        """Run what is due now, at most ``limit`` tasks, and return the runs in the order in which they ended.

        Raises:
            InvalidRequestError: The limit is out of range.
            ClientClosedError: The formation was closed meanwhile; what had not ended is due at once.
        """
        _check_whole("limit", limit, _MOST_DUE)
        until = self._runner.clock.now()
        shift = Shift(self._runner, self._speak, caller, _DUE_CONCURRENCY, _DUE_LEASE_SECONDS, None)
        begun = 0
        async with self._working(shift):
            while not shift.stopping.is_set():
                if begun < limit:
                    begun += await shift.begin(until, limit - begun)
                if not shift.turns:
                    return shift.ended_runs
                await shift.wait(None)
        raise closed()

    async def run(
        self, on_run: OnRun | None, concurrency: int, poll_seconds: float, lease_seconds: float, caller: Caller
    ) -> None:
        """Run tasks as they come due, until the caller is cancelled or the formation is closed.

        A database that does not answer is waited for.

        Raises:
            InvalidRequestError: An argument is out of range.
        """
        if on_run is not None and not callable(on_run):
            raise InvalidRequestError("on_run must be a function that takes a run, or None.")
        _check_whole("concurrency", concurrency, _MOST_AT_ONCE)
        _check_seconds("poll_seconds", poll_seconds)
        _check_seconds("lease_seconds", lease_seconds)
        shift = Shift(self._runner, self._speak, caller, concurrency, lease_seconds, on_run)
        failing = False
        async with self._working(shift):
            while not shift.stopping.is_set():
                try:
                    await shift.begin(self._runner.clock.now(), concurrency)
                    failing = False
                except ClientClosedError:
                    return
                except MuxiError as error:
                    if not failing:
                        logger.warning("tasks wait: %s", error)
                    failing = True
                await shift.wait(poll_seconds if shift.free else None)

    async def stop(self) -> None:
        """End all work: what is under way is given up, and is due at once for others."""
        shifts = list(self._shifts)
        for shift in shifts:
            shift.stopping.set()
        for shift in shifts:
            await shift.ended.wait()

    @asynccontextmanager
    async def _working(self, shift: Shift) -> AsyncIterator[None]:
        """Keep the claims of a shift alive while it works, and give them back at its end."""
        self._shifts.add(shift)
        beating = asyncio.get_running_loop().create_task(shift.beat())
        try:
            yield
        finally:
            beating.cancel()
            try:
                await shift.give_back()
            finally:
                self._shifts.discard(shift)
                shift.ended.set()


def _check_whole(name: str, number: object, most: int) -> None:
    if type(number) is not int or not 1 <= number <= most:
        raise InvalidRequestError(f"{name} must be a whole number from 1 to {most}.")


def _check_seconds(name: str, seconds: object) -> None:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not math.isfinite(seconds) or not 0 < seconds <= _MOST_SECONDS:  # type: ignore[arg-type, operator]
        raise InvalidRequestError(f"{name} must be a number of seconds above 0 and at most {_MOST_SECONDS:.0f}.")
