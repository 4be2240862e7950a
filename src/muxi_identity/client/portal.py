"""An event loop in a thread of its own, for callers who have none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from muxi_identity.errors import ClientClosedError

T = TypeVar("T")


class Portal:
    """Runs coroutines to their end for any number of threads. The thread is a daemon: it never holds up an exit."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._submitting = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="muxi-portal", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._stopped:
                try:
                    self._loop.run_forever()
                except (SystemExit, KeyboardInterrupt):
                    # Raised by a responder or a tool. The loop stops for it before it reaches the caller; as the loop
                    # goes on, the caller gets it, and nobody else waits for ever.
                    continue
            self._loop.run_until_complete(_end_others())
        finally:
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the loop and return its result, or raise its error, in the calling thread.

        Raises:
            ClientClosedError: The portal was stopped before the work was done.
            RuntimeError: Called on the portal's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a synchronous client was called on its own event loop; use the asynchronous client")
        with self._submitting:  # what is handed over after the loop was told to stop would be waited for for ever
            if self._stopped:
                work.close()
                raise _closed()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()  # interrupted while waiting: nobody wants the answer any more
            raise

    def stop(self) -> None:
        """End the loop, with the calls of other threads that still wait for something, and wait for its thread."""
        with self._submitting:
            stopped, self._stopped = self._stopped, True
            if not stopped and self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _closed() -> ClientClosedError:
    return ClientClosedError("This client was closed while the call was under way; make another one.")
