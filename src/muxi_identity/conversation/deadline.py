"""How long a reply may take: a clock that runs only while the responder is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from muxi_identity.errors import ModelTimeoutError

T = TypeVar("T")


class Deadline:
    """The seconds that one reply has, None for any number. A reader of a stream who takes their time costs none."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = self._left = seconds

    async def wait(self, work: Awaitable[T]) -> T:
        """Wait for ``work``, which is cancelled when the time is over.

        Raises:
            ModelTimeoutError: It was over.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        limit = asyncio.timeout(self._left)
        try:
            async with limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise  # the responder's own
        finally:
            if self._left is not None:
                self._left = max(self._left - (loop.time() - began), 0.0)
        raise ModelTimeoutError(
            f"The assistant did not answer within {self._seconds:g} seconds; nothing of the turn was recorded. "
            "Call again, or allow more by timeout= or llm.timeout."
        )
