"""A thread that does what it is given, in order, for an event loop that must not wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """One thread.

    Not a ThreadPoolExecutor: that takes no more work once the main thread has ended, while other threads of the
    program go on. A daemon, so that it never holds up an exit.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # nothing of it is held until the next one comes: it may carry a credential

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Run ``work`` in the thread, after what was given before. A caller that is cancelled takes back what has not
        begun."""
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
        return await asyncio.wrap_future(future)

    def stop(self) -> None:
        """End the thread after what was given before."""
        self._work.put(None)
