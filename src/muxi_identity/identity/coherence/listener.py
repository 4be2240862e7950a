"""The one that listens: a connection for each open database, heartbeats over it, another one when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from time import monotonic
from typing import Protocol

from muxi_identity.errors import MuxiError
from muxi_identity.identity.coherence.notices import CHANNEL
from muxi_identity.storage.database import Database

logger = logging.getLogger("muxi_identity.identity")

# After so long without a resolution no heartbeats are sent: a cache that nobody asks need not be kept true.
IDLE_SECONDS = 60.0
# A heartbeat that was committed and stays away for so long, or for the lease if that is longer: nothing is heard.
_DEAF_SECONDS = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 10.0
_FAREWELL_SECONDS = 1.0
_SWALLOWED = (
    "the database can be reached, but not listened to: what is notified does not arrive. Where a pooler such as "
    "PgBouncer stands in between, name the server itself in memory.persistent.listen_connection_string"
)


class Listens(Protocol):
    """Whose cache is kept true."""

    lease: float

    @property
    def uses(self) -> int:
        """How often anybody was resolved so far."""

    def extend(self, sent_at: float, since: float) -> None:
        """Learn that all that was committed between ``since`` and ``sent_at`` (monotonic) has been heard."""

    def revoke(self) -> None:
        """Learn that nothing is heard any more."""

    def hear(self, payload: str) -> None:
        """Learn what somebody changed."""


class Listener:
    """Listens for all formations of one open database. Belongs to the event loop that it is made on."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.channel = f"muxi_heartbeat_{secrets.token_hex(8)}"
        self.joined: list[Listens] = []
        self.stirred = asyncio.Event()
        """There is something to do at once: somebody joined or left, or the connection was lost."""
        self._settled = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._warned = False

    @property
    def is_usable(self) -> bool:
        """Whether it still listens, on the running loop."""
        running = self._task is not None and not self._task.done()
        return running and bool(self.joined) and self._loop is asyncio.get_running_loop()

    async def join(self, listens: Listens) -> None:
        """Keep one more cache true. Returns once it is, or cannot be for now, or after its lease."""
        self.joined.append(listens)
        self._settled.clear()
        self.stirred.set()
        if self._task is None:
            self._task = self._loop.create_task(self._run())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(listens.lease):
                await self._settled.wait()

    async def leave(self, listens: Listens) -> None:
        """Do without this cache; after the last one, nothing is listened to any more."""
        self.joined.remove(listens)
        if self.joined or self._task is None:
            return
        self.stirred.set()
        _, waiting = await asyncio.wait([self._task], timeout=_FAREWELL_SECONDS)
        if waiting:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self.joined:
            connection = _Connection(self)
            try:
                await connection.use()
            except MuxiError as error:
                self.fail(f"the database cannot be listened to: {error}")
            if self.joined:
                self._failures = 0 if connection.heard else self._failures + 1
                await self.wait(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures, 20)))

    def settle(self, *, heard: bool = False) -> None:
        """Tell whoever joined how things stand: there is nothing more to wait for."""
        self._settled.set()
        if heard and self._warned:
            self._warned = False
            logger.warning("changes of other processes are heard again")

    def fail(self, why: str) -> None:
        """Warn, once until it is mended, that everything is looked up in the database."""
        self.settle()
        if not self._warned:
            self._warned = True
            logger.warning("%s. Until that is mended, no identifier is answered from memory", why.rstrip("."))

    async def wait(self, seconds: float) -> None:
        """Wait about as long, or until there is something to do."""
        with contextlib.suppress(TimeoutError):
            # Processes that were started, or lost their connections, at the same time do not stay in step.
            async with asyncio.timeout(seconds * random.uniform(0.7, 1.0)):  # noqa: S311 (no secret)
                await self.stirred.wait()
        self.stirred.clear()


class _Connection:
    """One listening connection, from its beginning to its end."""

    def __init__(self, listener: Listener) -> None:
        self.heard = False
        """Whether a heartbeat ever came back over it."""
        self._listener = listener
        self._database = listener.database
        self._ended = False
        self._nonce = ""
        self._since = 0.0
        self._sent_at = 0.0
        self._news = asyncio.Event()
        self._uses = -1
        self._used_at = 0.0

    async def use(self) -> None:
        """Listen until it ends, goes deaf, or nobody needs it.

        Raises:
            StorageUnavailableError: It cannot be made.
        """
        listener = self._listener
        ears = await self._database.listen([CHANNEL, listener.channel], self._hear, self._end)
        self._since = monotonic()
        try:
            while listener.joined and not self._ended and await self._beat():
                if listener.joined and not self._ended:
                    await listener.wait(min(each.lease for each in listener.joined) / 3)
            if not listener.joined:
                await ears.close()
        finally:
            self._ended = True  # what it still brings says nothing of what the next one misses
            ears.cut()
            for each in listener.joined:
                each.revoke()

    async def _beat(self) -> bool:
        """Send a heartbeat and await it. Return whether the connection is still worth using."""
        if not self._is_used() or not await self._send():
            return True  # a heartbeat that was not sent says nothing of this connection
        patience = self._patience
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._news.wait()
        if self._nonce and not self._ended and self._listener.joined:
            self._listener.fail("heartbeats stay away" if self.heard else _SWALLOWED)
        return not self._nonce

    def _is_used(self) -> bool:
        uses = sum(each.uses for each in self._listener.joined) + len(self._listener.joined)
        if uses != self._uses:
            self._uses, self._used_at = uses, monotonic()
        return monotonic() - self._used_at < IDLE_SECONDS

    async def _send(self) -> bool:
        """Send a heartbeat by the way that changes go, and tell whether it went."""
        self._news.clear()
        self._nonce, self._sent_at = secrets.token_hex(8), monotonic()
        try:
            async with asyncio.timeout(self._patience):
                await self._database.notify(self._listener.channel, self._nonce)
        except (MuxiError, TimeoutError):
            self._listener.settle()
            return False
        return True

    @property
    def _patience(self) -> float:
        return max([_DEAF_SECONDS, *(each.lease for each in self._listener.joined)])

    def _hear(self, channel: str, payload: str) -> None:
        if self._ended:
            return
        if channel == CHANNEL:
            for each in self._listener.joined:
                each.hear(payload)
        elif payload == self._nonce:
            self._nonce = ""
            self.heard = True
            for each in self._listener.joined:
                each.extend(self._sent_at, self._since)
            self._news.set()
            self._listener.settle(heard=True)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            for each in self._listener.joined:
                each.revoke()
            self._news.set()
            self._listener.stirred.set()
