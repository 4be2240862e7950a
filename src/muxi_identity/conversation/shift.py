"""The runs that one worker has under way: from their claims, over their turns, to their records."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from muxi_identity.context.redaction import redact
from muxi_identity.context.tasks.claims import claim, extend, is_due
from muxi_identity.context.tasks.endings import finish, release
from muxi_identity.context.tasks.run import Claimed, Outcome
from muxi_identity.errors import ClientClosedError, MuxiError
from muxi_identity.identifiers import PublicId
from muxi_identity.identity.lookup import Reference, Through
from muxi_identity.identity.running import Caller, Runner, or_given_back
from muxi_identity.models import ChatReply, TaskRun
from muxi_identity.storage.worker import Worker

logger = logging.getLogger("muxi_identity.tasks")

Speak = Callable[[str, Reference, str, Caller], Awaitable[ChatReply]]
"""Speaks one turn: the message, whose it is, and the session, which nobody else goes on with."""
OnRun = Callable[[TaskRun], object]
"""Is told of a run that was recorded; may be asynchronous."""

INTERNAL = "INTERNAL"  # the code of a run that failed with no error of this library
MAX_REPLY = 20_000  # characters
_BEATS = 3  # in one lease


@dataclass(slots=True)
class _Turn:
    """A run under way. ``recording``: its turn has ended, and what came of it is being written."""

    claimed: Claimed
    recording: bool = False


@dataclass(eq=False, slots=True)
class Shift:
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
    _leaving: BaseException | None = None

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
        own = [turn.claimed.run_id for turn in self.turns.values()]
        claiming = self.runner.change(lambda tx: claim(tx, number, until, self._lease, own), self.caller)
        claimed = await or_given_back(claiming, self._give_back)
        for one in claimed:
            turn = _Turn(one)
            self.turns[asyncio.get_running_loop().create_task(self._run(turn))] = turn
        return len(claimed)

    async def _give_back(self, claimed: list[Claimed]) -> None:
        for one in claimed:
            await self._release(one)

    async def wait(self, seconds: float | None) -> None:
        """Wait until a run has ended, at most for so long, or until this is to stop; take note of what has ended.

        Raises what a responder or ``on_run`` raised to end the program.
        """
        stopping = asyncio.get_running_loop().create_task(self.stopping.wait())
        try:
            await asyncio.wait(
                {*self.turns, *self.calls, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopping.cancel()
        if self._leaving is not None:
            raise self._leaving
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
        except (SystemExit, KeyboardInterrupt) as error:
            self._leaving = error

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
        except (SystemExit, KeyboardInterrupt) as error:
            self._leaving = error
            return None
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
