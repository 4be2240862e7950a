"""Listening to people: one look at the database for all who listen in this process, twice a second and when woken."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from weakref import WeakSet

from muxi_identity.context.access import Access
from muxi_identity.context.feed.rows import MOST_AT_ONCE, Happening, list_happenings, stirred
from muxi_identity.errors import (
    AmbiguousIdentifierError,
    ClientClosedError,
    IdentityChangedError,
    MuxiError,
    UnauthorizedError,
    UserNotFoundError,
)
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.storage.errors import RaceLost

logger = logging.getLogger("muxi_identity.context")

POLL_SECONDS = 0.5
_DAY = 86_400 * 1_000_000
_OVERLAP = 60 * 1_000_000
"""What is committed late has an earlier time than what was seen before it, and so has what another machine wrote whose
clock is slow. Each look goes back this far (microseconds) and leaves out what was told already."""


class Listener:
    """One who listens to one person. To be used as an asynchronous context manager, and iterated over.

    Nothing is read ahead for a listener that has not taken what was read last: one that is slow costs no memory.
    """

    def __init__(self, feed: Feed, reference: Reference, own: bool, until: int | None) -> None:
        self.reference = reference
        self.own = own
        self.until = until
        self.user_id = ""
        """The public id of the person that is listened to."""
        self.since = 0
        self.seen: dict[tuple[object, ...], int] = {}
        self.waiting: deque[Happening] = deque()
        self.failure: MuxiError | None = None
        self.news = asyncio.Event()
        self._feed = feed

    def take(self, happened: list[Happening]) -> None:
        """Queue what was not seen before."""
        for each in happened:
            if each.key not in self.seen:
                self.seen[each.key] = each.at
                self.waiting.append(each)
        if self.waiting:
            self.news.set()

    def skip(self, happened: list[Happening], until: int) -> None:
        """Leave out what happened until then."""
        self.seen.update((each.key, each.at) for each in happened if each.at <= until)

    def looked(self, begun: int, happened: list[Happening]) -> None:
        """Note that a look that began at ``begun`` found this."""
        more = len(happened) == MOST_AT_ONCE
        self.since = max(self.since, happened[-1].at if more else begun - _OVERLAP)
        self.seen = {key: at for key, at in self.seen.items() if at >= self.since}

    def fail(self, error: MuxiError) -> None:
        """End it; what waits is still given out."""
        self.failure = error
        self.news.set()

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.forget(self)

    async def __aiter__(self) -> AsyncIterator[Happening]:
        """Yield what happens, in order, until the listener ends with an error."""
        while True:
            while self.waiting:
                yield self.waiting.popleft()
            if self.failure is not None:
                raise self.failure
            self.news.clear()
            await self.news.wait()


class Feed:
    """What happens to the people of one formation, for those who listen in this process.

    Turns and runs are read from where they are kept: so it does not matter which process they came from, nothing is
    written for anybody, and where nobody listens nothing is asked. Belongs to one event loop.
    """

    def __init__(self, access: Access, poll_seconds: float = POLL_SECONDS) -> None:
        self._runner = access.runner
        self._resolver = access.resolver
        self._poll_seconds = poll_seconds
        # Weak: a stream may be dropped before anybody began to read it.
        self._listeners: WeakSet[Listener] = WeakSet()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._troubled = False

    def wake(self) -> None:
        """Look at once: something happened in this process."""
        self._news.set()

    async def listen(
        self, reference: Reference, *, own: bool = False, after: int | None = None, until: int | None = None
    ) -> Listener:
        """Listen to whoever ``reference`` means, from now on; ``after`` (microseconds) is where somebody left off.

        ``own``: of the turns, to those of the reference's own sessions alone. Runs of tasks are the person's, whichever
        channel they were asked for in. ``until`` (microseconds) is when whoever listens must show anew that they may.

        The listener ends with IdentityChangedError when the reference means somebody else, or the person became
        another one.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        listener = Listener(self, reference, own, until)
        now = self._runner.clock.now()
        begin = now if after is None else min(max(after, now - _DAY), now)
        listener.since = begin - _OVERLAP
        hit = await self._resolver.existing(reference)
        while True:
            since = listener.since
            listener.user_id, happened = await self._runner.read(
                lambda tx, since=since: list_happenings(tx, hit, since, own=own)  # type: ignore[misc]
            )
            listener.skip(happened, begin if after is not None else self._runner.clock.now())
            if len(happened) < MOST_AT_ONCE or happened[-1].at > begin:
                break
            listener.since = happened[-1].at
        listener.take(happened)
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._ended)
        self.wake()
        return listener

    def forget(self, listener: Listener) -> None:
        """Let somebody listen no longer."""
        self._listeners.discard(listener)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def stop(self) -> None:
        """End every listener."""
        task, self._task = self._task, None
        self._end_all()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _end_all(self) -> None:
        for listener in list(self._listeners):
            listener.fail(ClientClosedError("The formation was closed; listen again."))

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
        if not task.cancelled() and task.exception() is not None:
            logger.error("what happens to people is told no longer", exc_info=task.exception())
            self._end_all()

    async def _run(self) -> None:
        while self._listeners:
            self._news.clear()
            try:
                await self._look()
                self._troubled = False
            except (MuxiError, RaceLost) as error:
                if not self._troubled:
                    logger.warning("what happens to people cannot be read now: %s", type(error).__name__)
                self._troubled = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._poll_seconds)

    async def _look(self) -> None:
        begun = self._runner.clock.now()
        hits: dict[Listener, Hit] = {}
        for listener in list(self._listeners):
            if listener.until is not None and begun >= listener.until:
                listener.fail(UnauthorizedError("The token has expired; listen again with another."))
            elif listener.failure is None and not listener.waiting:
                try:
                    hits[listener] = await self._resolver.existing(listener.reference)
                except (UserNotFoundError, AmbiguousIdentifierError):
                    listener.fail(_changed())
        if not hits:
            return
        since: dict[int, int] = {}
        for listener, hit in hits.items():
            since[hit.member_pk] = min(listener.since, since.get(hit.member_pk, listener.since))
        active = await self._runner.read(lambda tx: stirred(tx, since))
        for listener, hit in hits.items():
            if hit.public_id != listener.user_id:
                listener.fail(_changed())
            elif hit.member_pk in active:
                await self._read(listener, hit, begun)
            else:
                listener.looked(begun, [])

    async def _read(self, listener: Listener, hit: Hit, begun: int) -> None:
        try:
            user_id, happened = await self._runner.read(
                lambda tx: list_happenings(tx, hit, listener.since, own=listener.own)
            )
        except UserNotFoundError:
            listener.fail(_changed())
            return
        if user_id != listener.user_id:
            listener.fail(_changed())
            return
        listener.take(happened)
        listener.looked(begun, happened)
        if len(happened) == MOST_AT_ONCE:
            self.wake()


def _changed() -> IdentityChangedError:
    return IdentityChangedError("Who is listened to changed: the user was merged, split or deleted. Listen again.")
