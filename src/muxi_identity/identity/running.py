"""Running operations: one transaction each, fenced, and again where it met another one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection

from muxi_identity.arguments import check_note
from muxi_identity.errors import IdentityChangedError, MuxiError, StorageUnavailableError
from muxi_identity.identifiers import IdentifierRules
from muxi_identity.identity.cache import Fence, IdentityCache
from muxi_identity.identity.history import Event, told_as, write_events
from muxi_identity.identity.keys import BucketKey
from muxi_identity.identity.outbox import write_outgoing
from muxi_identity.identity.subscriptions import NOBODY, Subscriptions
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import EventPayload
from muxi_identity.storage.database import Database
from muxi_identity.storage.errors import GuardRefused, RaceLost
from muxi_identity.storage.rows import Change

T = TypeVar("T")

ATTEMPTS = 30
# How long the outcome of a commit whose connection was lost may still change: no back end commits later than this.
_DOUBT_SECONDS = 60.0


class Clock(NamedTuple):
    """Where an engine takes the time from: ``now`` in microseconds since 1970."""

    now: Callable[[], int]


SYSTEM_CLOCK = Clock(lambda: time.time_ns() // 1000)


class Caller(NamedTuple):
    """Who acts, as the history will name them, and in which request of a server, where it is one."""

    actor: str
    source: str | None = None
    reason: str | None = None
    request_id: str | None = None

    def with_request_id(self) -> Caller:
        """Return the caller with a request id: one that is made up, where there is none."""
        return self if self.request_id is not None else self._replace(request_id=f"req_{secrets.token_hex(10)}")


def identity_changed() -> IdentityChangedError:
    """Return the error for an operation that others kept from its end."""
    return IdentityChangedError(
        "Who this identifier belongs to changed while the call was under way; nothing was written. Call again."
    )


async def or_given_back(claiming: Awaitable[T], give_back: Callable[[T], Awaitable[object]]) -> T:
    """Wait for a claim, which runs to its end; where nobody waits for it any more, give back what it brings."""
    task = asyncio.ensure_future(claiming)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(MuxiError):  # whoever is cancelled ends as that; its lease gives the claim back
            await give_back(await task)
        raise


class Runner:
    """Runs the operations of one open formation on one event loop."""

    def __init__(
        self,
        database: Database,
        formation_id: str,
        cache: IdentityCache,
        bucket: BucketKey,
        rules: IdentifierRules,
        match: str,
        clock: Clock,
        *,
        subscriptions: Subscriptions = NOBODY,
        committed: Callable[[Sequence[EventPayload]], None] | None = None,
    ) -> None:
        self.database = database
        self.formation_id = formation_id
        self.cache = cache
        self.bucket = bucket
        self.rules = rules
        self.clock = clock
        self.tasks: set[asyncio.Task[Any]] = set()
        self.subscriptions = subscriptions
        # The statements that make a user or a link in one round trip write no outbox.
        self.tells_of_newcomers = subscriptions.want(told_as(Event.USER_CREATE), told_as(Event.IDENTIFIER_LINK))
        self.match = match
        self._committed = committed

    async def finish(self) -> None:
        """Wait until everything that was begun has ended."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work``, which only reads, in one snapshot.

        Raises:
            IdentityChangedError: It met others again and again.
        """
        change = Change("", None, None, self.clock.now())
        return await self.again(
            lambda: self.database.read(lambda connection: work(self._transaction(connection, change)))
        )

    async def again(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what ``attempt`` brings, made again where it met others: reading does so beside an upgrade's locks.

        Raises:
            IdentityChangedError: It met them again and again.
        """
        for number in range(ATTEMPTS):
            try:
                return await attempt()
            except RaceLost:
                # The more often it happens, the longer the pause: enough for the others to get through.
                await asyncio.sleep(random.uniform(0, 0.002 * 2 ** min(number, 6)))  # noqa: S311 (no secret)
        raise identity_changed()

    async def change(self, work: Callable[[Transaction], T], caller: Caller, *, at: int | None = None) -> T:
        """Run ``work`` in a writing transaction, again where it met another one.

        ``at`` (microseconds) is the time that it goes by, else now. It runs to its end even if the caller is
        cancelled: a commit that nobody waits for must still be followed by the lowering of its fence.

        Raises:
            IdentityChangedError: It met others again and again, or a write went through a stale mapping.
        """
        try:
            return await self.guarded_change(work, caller, at=at)
        except GuardRefused:
            raise identity_changed() from None

    async def guarded_change(self, work: Callable[[Transaction], T], caller: Caller, *, at: int | None = None) -> T:
        """Do as :meth:`change`, letting GuardRefused through to whoever can start again."""
        change = self.change_by(caller, at)
        return await self._to_the_end(self.again(lambda: self._attempt(work, change)))

    async def _attempt(self, work: Callable[[Transaction], T], change: Change) -> T:
        fence = Fence(self.cache)
        epoch: list[int | None] = []
        done: list[Transaction] = []

        def whole(connection: Connection) -> T:
            tx = self._transaction(connection, change, fence)
            result = work(tx)
            write_events(tx)
            epoch.append(tx.tell_other_processes())
            write_outgoing(tx)
            done.append(tx)
            return result

        in_doubt = False
        try:
            result = await self.database.transact(whole)
        except (StorageUnavailableError, asyncio.CancelledError):  # the latter when the loop ends: a thread goes on
            in_doubt = True
            raise
        else:
            if epoch[-1] is not None and self.cache.epoch == epoch[-1] - 1:
                self.cache.epoch = epoch[-1]  # this process did it and has fenced it: nothing else to forget
            # Before anything is waited for: what was committed later is told later.
            if self._committed is not None and done[-1].outgoing:
                self._committed(done[-1].outgoing)
            if done[-1].erased:
                await self.database.scrub()
            return result
        finally:
            if in_doubt and fence:
                self.cache.renew_origin()
                asyncio.get_running_loop().call_later(_DOUBT_SECONDS, fence.lower)
            else:
                fence.lower()

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller has it, unless it was cancelled and nobody wants it

    def _transaction(self, connection: Connection, change: Change, fence: Fence | None = None) -> Transaction:
        return Transaction(
            database=self.database,
            connection=connection,
            formation_id=self.formation_id,
            change=change,
            fence=Fence(self.cache) if fence is None else fence,
            bucket=self.bucket,
            rules=self.rules,
            match=self.match,
            subscriptions=self.subscriptions,
        )

    def change_by(self, caller: Caller, at: int | None = None) -> Change:
        """Return what the history will record of a change that begins now, or ``at``.

        Raises:
            InvalidRequestError: The caller's actor, source or reason is no text, or too long.
        """
        for name, text in (("actor", caller.actor), ("source", caller.source), ("reason", caller.reason)):
            check_note(name, text)
        return Change(caller.actor, caller.source, caller.reason, self.clock.now() if at is None else at)
