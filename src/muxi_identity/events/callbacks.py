"""Callbacks: somebody in this process is told of what was done through this client."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

from muxi_identity.models import EventPayload

logger = logging.getLogger("muxi_identity.events")

OnEvent = Callable[[EventPayload], Any]
"""Told of each event, after it is committed. A coroutine function is awaited, a plain one called in a thread."""

MOST_WAITING = 10_000
_CLOSING_SECONDS = 5.0


class Callbacks:
    """Calls one callback for one event after another, in the order of their commits."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._waiting: asyncio.Queue[EventPayload] = asyncio.Queue(MOST_WAITING)
        self._task: asyncio.Task[None] | None = None

    def tell(self, events: Sequence[EventPayload]) -> None:
        """Queue events that were just committed. Where the callback is 10,000 behind, they are dropped and logged."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        for each in events:
            try:
                self._waiting.put_nowait(each)
            except asyncio.QueueFull:
                logger.error("on_event is %d events behind; %s is dropped", MOST_WAITING, each["id"])

    async def _run(self) -> None:
        while True:
            event = await self._waiting.get()
            try:
                if inspect.iscoroutinefunction(self._on_event):
                    await self._on_event(event)
                else:
                    answer = await asyncio.to_thread(self._on_event, event)
                    if inspect.isawaitable(answer):
                        await answer
            except Exception:  # the callback is not ours: whatever it raises, the next event is told
                logger.exception("on_event failed for %s", event["id"])
            finally:
                self._waiting.task_done()

    async def stop(self) -> None:
        """Let what is queued be told, for up to five seconds, and end."""
        if self._task is None:
            return
        try:
            await asyncio.wait_for(self._waiting.join(), _CLOSING_SECONDS)
        except TimeoutError:
            logger.error("closed with %d events that on_event was not told of", self._waiting.qsize())
        self._task.cancel()
        await asyncio.wait([self._task])
