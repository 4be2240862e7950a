"""A thread that does what it is given, in order, for an event loop that must not wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from muxi_identity.storage.errors import closed
from muxi_identity.storage.places import Places

T = TypeVar("T")


class Worker:
    """One thread. Whoever finds it at work stands in the line of ``places``, which has one place, or in no bounded one.

    Not a ThreadPoolExecutor: that takes no more work once the main thread has ended, while other threads of the
    program go on. A daemon, so that it never holds up an exit.
    """

    def __init__(self, name: str, places: Places | None = None) -> None:
        self._places = places
        self._ended = _nothing if places is None else places.give_back
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._stopped = False
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # nothing of it is held until the next one comes: it may carry a credential

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Run ``work`` in the thread, after what was given before. A caller that is cancelled takes back what has not
        begun.

        Raises:
            StorageUnavailableError: Too many wait already, or the thread had no time for this in time.
            ClientClosedError: It was stopped meanwhile.
        """
        if self._places is not None and not self._places.take_now():
            await self._places.take()
        return await self._carry_out(self._ended, work, *args)

    async def _carry_out(self, ended: Callable[[], None], work: Callable[..., T], *args: Any) -> T:
        if self._stopped:
            ended()
            raise closed()
        future: Future[T] = Future()

        def carry_out() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work(*args)
            except BaseException as error:  # noqa: BLE001 (the caller raises it)
                future.set_exception(error)
            else:
                future.set_result(result)

        self._work.put(carry_out)
        try:
            return await asyncio.wrap_future(future)
        finally:
            if future.done():
                ended()
            else:  # the caller was cancelled, and the thread is not: the place is not free before it is
                future.add_done_callback(_in(asyncio.get_running_loop(), ended))

    async def close(self) -> None:
        """Turn those in the line away, and end the thread after what it is at."""
        if self._places is not None:
            self._places.turn_away(closed())
        if not self._stopped:
            await self._carry_out(_nothing, _nothing)
        self.stop()

    def stop(self) -> None:
        """End the thread after what it is at."""
        self._stopped = True
        self._work.put(None)


def _in(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Callable[[object], None]:
    def called(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits in it
            loop.call_soon_threadsafe(call)

    return called


def _nothing() -> None:
    """The last thing that a thread is asked to do, and what is to be done after it."""
