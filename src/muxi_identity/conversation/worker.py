"""Running scheduled tasks: each as a chat turn of its person, in a session of the task's own.

A run is claimed in one short transaction, spoken outside of any, and recorded in another, together with the time of the
next one. A worker that dies leaves its claims behind: they end with their lease, and others run those tasks again.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from muxi_identity.context.redaction import redact
from muxi_identity.context.tasks.claims import (
    MAX_REPLY,
    Claimed,
    Outcome,
    claim,
    extend,
    finish,
    is_due,
    release,
)
from muxi_identity.errors import ClientClosedError, InvalidRequestError, MuxiError
from muxi_identity.identifiers import PublicId
from muxi_identity.identity.lookup import Reference, Through
from muxi_identity.identity.running import Caller, Runner
from muxi_identity.models import ChatReply, TaskRun
from muxi_identity.storage.errors import closed
from muxi_identity.storage.worker import Worker

logger = logging.getLogger("muxi_identity.tasks")

Speak = Callable[[str, Reference, str, Caller], Awaitable[ChatReply]]
"""Speaks one turn: the message, whose it is, and the session, which nobody else goes on with."""
OnRun = Callable[[TaskRun], object]
"""Is told of a run that was recorded; may be asynchronous."""

INTERNAL = "INTERNAL"  # the code of a run that failed with no error of this library
_BEATS = 3  # in one lease
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
        self._shifts: set[_Shift] = set()

    async def run_due(self, limit: int, caller: Caller) -> list[TaskRun]:
        """Run what is due now, at most ``limit`` tasks, and return the runs in the order in which they ended.

        Raises:
            InvalidRequestError: The limit is out of range.
            ClientClosedError: The formation was closed meanwhile; what had not ended is due at once.
        """
        _check_whole("limit", limit, _MOST_DUE)
        until = self._runner.clock.now()
        shift = _Shift(self._runner, self._speak, caller, _DUE_CONCURRENCY, _DUE_LEASE_SECONDS, None)
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
        shift = _Shift(self._runner, self._speak, caller, concurrency, lease_seconds, on_run)
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
    async def _working(self, shift: _Shift) -> AsyncIterator[None]:
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


@dataclass(slots=True)
class _Turn:
    """A run under way. ``recording``: its turn has ended, and what came of it is being written."""

    claimed: Claimed
    recording: bool = False


@dataclass(eq=False, slots=True)
class _Shift:
    """One worker's runs under way, from their claims to their records."""

    runner: Runner
    speak: Speak
    caller: Caller
    concurrency: int
    lease_seconds: float
    on_run: OnRun | None
    turns: dict[asyncio.Task[TaskRun | None], _Turn] = field(default_factory=dict)
    calls: set[asyncio.Task[None]] = field(default_factory=set)
    ended_runs: list[TaskRun] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: Worker | None = None

    @property
    def free(self) -> int:
        """How many runs may begin."""
        return self.concurrency - len(self.turns) - len(self.calls)

    @property
    def _lease(self) -> int:
        return int(self.lease_seconds * 1e6)

    async def begin(self, until: int, most: int) -> int:
        """Claim and begin what was due by ``until``, as far as there is room, and return how many began."""
        number = min(self.free, most)
        if number <= 0 or not await self.runner.read(lambda tx: is_due(tx, until)):
            return 0  # looked at first: on SQLite a claim holds up every other writer
        claiming = self.runner.change(lambda tx: claim(tx, number, until, self._lease), self.caller)
        claimed = await self._or_given_back(claiming)
        for one in claimed:
            turn = _Turn(one)
            self.turns[asyncio.get_running_loop().create_task(self._run(turn))] = turn
        return len(claimed)

    async def _or_given_back(self, claiming: Awaitable[list[Claimed]]) -> list[Claimed]:
        """Wait for a claim; where nobody waits for it any more, give back what it brings."""
        task = asyncio.ensure_future(claiming)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            for one in await task:
                await self._release(one)
            raise

    async def wait(self, seconds: float | None) -> None:
        """Wait until a run has ended, at most for so long, or until this is to stop; take note of what has ended."""
        stopping = asyncio.get_running_loop().create_task(self.stopping.wait())
        try:
            await asyncio.wait(
                {*self.turns, *self.calls, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopping.cancel()
        for task in [task for task in self.turns if task.done()]:
            turn = self.turns.pop(task)
            if task.cancelled():
                continue
            error = task.exception()
            if error is not None:  # its lease ends, and it is run again
                logger.error("run %s is not recorded", turn.claimed.run_id, exc_info=error)
                continue
            run = task.result()
            if run is not None:
                self._ended(run)

    def _ended(self, run: TaskRun) -> None:
        if self.on_run is None:
            self.ended_runs.append(run)
            return
        call = asyncio.get_running_loop().create_task(self._tell(self.on_run, run))
        self.calls.add(call)
        call.add_done_callback(self.calls.discard)

    async def _tell(self, on_run: OnRun, run: TaskRun) -> None:
        try:
            if inspect.iscoroutinefunction(on_run):
                await on_run(run)
                return
            # In a thread, one at a time: it may take its time, and may call a synchronous client.
            self._thread = self._thread or Worker("muxi-on-run")
            told = await self._thread.run(on_run, run)
            if inspect.isawaitable(told):
                await told
        except Exception:
            logger.exception("on_run failed; run %s of task %s stays recorded", run["run_id"], run["task_id"])

    async def _run(self, turn: _Turn) -> TaskRun | None:
        claimed = turn.claimed
        session_id = f"task:{claimed.task_id}"
        reference: Reference = PublicId(claimed.owner_id)
        if claimed.identifier_pk is not None:
            reference = Through(claimed.owner_id, claimed.identifier_pk)
        try:
            reply = await self.speak(claimed.message, reference, session_id, self.caller)
        except MuxiError as error:
            outcome = Outcome(session_id=session_id, error=error.code, retryable=error.retryable)
        except Exception as error:  # noqa: BLE001 (a responder's own: it must not end the worker)
            # Its text may hold what was said: where it comes from is enough to find it.
            where = "".join(traceback.format_tb(error.__traceback__))
            logger.error("run %s failed with %s:\n%s", claimed.run_id, type(error).__name__, where)
            outcome = Outcome(session_id=session_id, error=INTERNAL)
        else:
            outcome = Outcome(_kept(reply.text), reply.session_id, reply.request_id)
        turn.recording = True
        return await self._record(claimed, outcome)

    async def _record(self, claimed: Claimed, outcome: Outcome) -> TaskRun | None:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self.lease_seconds
        while True:
            try:
                return await self.runner.change(lambda tx: finish(tx, claimed, outcome), self.caller)
            except ClientClosedError:
                return None
            except MuxiError as error:  # the database does not answer, or others keep changing the same rows
                if loop.time() > give_up:
                    logger.error("run %s is not recorded and will be run again: %s", claimed.run_id, error)
                    return None
                await asyncio.sleep(self.lease_seconds / _BEATS)

    async def beat(self) -> None:
        """Keep the claims alive, and give up the turns that have lost theirs: others run them, or they were deleted."""
        while True:
            await asyncio.sleep(self.lease_seconds / _BEATS)
            turns = dict(self.turns)
            if not turns:
                continue
            claimed = [turn.claimed for turn in turns.values()]
            try:
                held = await self.runner.change(
                    lambda tx, claimed=claimed: extend(tx, claimed, self._lease),  # type: ignore[misc]
                    self.caller,
                )
            except MuxiError as error:
                logger.warning("the claims of %s runs could not be extended: %s", len(turns), error)
                continue
            for task, turn in turns.items():
                if turn.claimed.run_id not in held and not turn.recording and task.cancel():
                    logger.warning("run %s lost its claim and was given up", turn.claimed.run_id)

    async def give_back(self) -> None:
        """End what is under way and give its claims back. Whoever is being told of a run is left alone."""
        for task in self.turns:
            task.cancel()
        if self.turns:
            await asyncio.wait(self.turns)
        for turn in self.turns.values():
            await self._release(turn.claimed)
        self.turns.clear()
        if self._thread is not None:
            self._thread.stop()

    async def _release(self, claimed: Claimed) -> None:
        try:
            await self.runner.change(lambda tx: release(tx, claimed), self.caller)
        except MuxiError as error:
            logger.warning("run %s is due again when its lease has ended: %s", claimed.run_id, error)


def _kept(reply: str) -> str:
    """Return a reply as a run keeps it: bounded, without secrets and without what no database stores."""
    text = redact(reply).replace("\x00", "").encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_REPLY else f"{text[: MAX_REPLY - 3]}..."


def _check_whole(name: str, number: object, most: int) -> None:
    if type(number) is not int or not 1 <= number <= most:
        raise InvalidRequestError(f"{name} must be a whole number from 1 to {most}.")


def _check_seconds(name: str, seconds: object) -> None:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not math.isfinite(seconds) or not 0 < seconds <= _MOST_SECONDS:  # type: ignore[arg-type, operator]
        raise InvalidRequestError(f"{name} must be a number of seconds above 0 and at most {_MOST_SECONDS:.0f}.")
