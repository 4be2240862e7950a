"""Places at something scarce, and a bounded line of those who wait for one."""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict

from muxi_identity.errors import StorageUnavailableError


class Places:
    """``number`` places, given in the order of arrival. Belongs to one event loop.

    At most ``most_waiting`` wait, each for at most ``seconds``: a database that is too slow for what is asked of it
    makes errors that say so, and neither memory nor answers that come too late for anybody. All wait equally long, so
    one timer is enough: that of whoever came first.
    """

    def __init__(self, number: int, *, most_waiting: int, seconds: float) -> None:
        self._free = number  # above 0 only while nobody waits: a place goes from hand to hand
        self._most_waiting = most_waiting
        self._seconds = seconds
        self._line: OrderedDict[asyncio.Future[None], float] = OrderedDict()
        """Who waits, and until when (loop time)."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    @property
    def all_taken(self) -> bool:
        """Whether whoever comes now would wait."""
        return not self._free

    def take_now(self) -> bool:
        """Take a place if one is free."""
        if self._free:
            self._free -= 1
            return True
        return False

    async def take(self) -> None:
        """Take a place, to be given back by :meth:`give_back`.

        Raises:
            StorageUnavailableError: Too many wait already, or none came free in time.
        """
        if self.take_now():
            return
        if len(self._line) >= self._most_waiting:
            raise StorageUnavailableError(
                f"The database is overloaded: {self._most_waiting} calls wait for it already; call again later.",
                retry_after=1,
            )
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._line[turn] = deadline = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._give_up)
        try:
            await turn
        except BaseException:
            self._line.pop(turn, None)
            if not turn.cancelled() and turn.exception() is None:
                self.give_back()  # it was handed over in the very moment in which this caller was cancelled
            raise

    def give_back(self) -> None:
        """Give a place back: to the first in the line, if anybody waits."""
        while self._line:
            turn, _ = self._line.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def turn_away(self, error: BaseException) -> None:
        """Tell all who wait that it is of no use, each with an error of its own."""
        while self._line:
            turn, _ = self._line.popitem(last=False)
            if not turn.done():
                turn.set_exception(copy.copy(error))

    def _give_up(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._line:
            turn, deadline = next(iter(self._line.items()))
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._give_up)
                return
            del self._line[turn]
            if not turn.done():
                turn.set_exception(
                    StorageUnavailableError(
                        f"All database connections were busy for {self._seconds:g} seconds; call again later.",
                        retry_after=1,
                    )
                )
