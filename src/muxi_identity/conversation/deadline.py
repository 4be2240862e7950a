"""How long a reply may take: a clock that runs only while the responder is waited for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

from muxi_identity.errors import InvalidRequestError, ModelTimeoutError

T = TypeVar("T")

MAX_TIMEOUT = 3600.0  # seconds


def check_timeout(timeout: object) -> None:
    """Check how many seconds a caller gives a turn; None is for whoever gave none.

    Raises:
        InvalidRequestError: It is no number of seconds from just above 0 to an hour.
    """
    if timeout is None:
        return
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not math.isfinite(timeout) or not 0 < timeout <= MAX_TIMEOUT:  # type: ignore[arg-type, operator]
        raise InvalidRequestError(f"timeout must be a number of seconds above 0 and at most {MAX_TIMEOUT:.0f}.")


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
