"""Deliveries to webhooks: at least once, in order for each user, by any number of workers and processes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

import aiohttp

from muxi_identity.errors import InvalidRequestError, StorageUnavailableError
from muxi_identity.events.rows import Due, claim, is_any_due, list_dead, release, retry_dead, settle, tidy
from muxi_identity.events.sending import new_http, send
from muxi_identity.identity.running import Caller, Runner, or_given_back
from muxi_identity.identity.subscriptions import Subscription
from muxi_identity.models import DeadEventPage, DeliveryReport, RetriedEvent
from muxi_identity.webhooks import WebhookConfig

_WORKER = Caller("events")
_TIDY_SECONDS = 3_600
_MOST_AT_ONCE = 64
_SHORTEST_POLL, _LONGEST_POLL = 0.01, 3_600.0
_AT_ONCE = 8


def subscription_of(webhook: WebhookConfig) -> Subscription:
    """Return what the outbox knows of a webhook: a digest of its address, which may hold a secret."""
    return Subscription(hashlib.sha256(webhook.url.reveal().encode()).hexdigest()[:32], webhook.events)


class Deliveries:
    """Delivers the events of one formation to its webhooks."""

    def __init__(self, runner: Runner, webhooks: Sequence[WebhookConfig]) -> None:
        self._runner = runner
        self._webhooks = {subscription_of(each).endpoint: each for each in webhooks}
        self._news = asyncio.Event()
        self._working: set[asyncio.Task[None]] = set()
        self._closing = False
        self._tidied_at = 0

    def wake(self) -> None:
        """Let the workers of this process look at once: something was written."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def deliver(self, limit: int) -> DeliveryReport:
        """Deliver what is due now, at most ``limit`` events, and say what came of it.

        Raises:
            InvalidRequestError: The limit is out of range.
        """
        if type(limit) is not int or not 1 <= limit <= 100_000:
            raise InvalidRequestError("limit must be a whole number from 1 to 100000.")
        counts: Counter[str] = Counter()
        left = limit

        def take() -> bool:
            nonlocal left
            left -= 1
            return left >= 0

        async def work(http: aiohttp.ClientSession) -> None:
            while not self._closing and take():
                what = await self._deliver_one(http)
                if what is None:
                    return
                counts[what] += 1

        if self._webhooks and await self._is_any_due():
            await self._tidy()
            async with new_http() as http:
                await self._together([work(http) for _ in range(min(_AT_ONCE, limit))])
        return {"delivered": counts["delivered"], "retried": counts["retried"], "given_up": counts["given_up"]}

    async def run(self, concurrency: int, poll_seconds: float) -> None:
        """Deliver what becomes due until cancelled or :meth:`stop` is called.

        Raises:
            InvalidRequestError: An argument is out of range.
        """
        if type(concurrency) is not int or not 1 <= concurrency <= _MOST_AT_ONCE:
            raise InvalidRequestError(f"concurrency must be a whole number from 1 to {_MOST_AT_ONCE}.")
        if isinstance(poll_seconds, bool) or not isinstance(poll_seconds, int | float):
            raise InvalidRequestError("poll_seconds must be a number of seconds.")
        if not _SHORTEST_POLL <= poll_seconds <= _LONGEST_POLL:
            raise InvalidRequestError(f"poll_seconds must lie between {_SHORTEST_POLL} and {_LONGEST_POLL:.0f}.")

        async def work(http: aiohttp.ClientSession) -> None:
            while not self._closing:
                news = self._news
                with contextlib.suppress(StorageUnavailableError):  # it comes back, and nothing is lost
                    if self._webhooks and await self._is_any_due():
                        await self._tidy()
                        while await self._deliver_one(http) is not None:
                            pass
                await _heard(news, poll_seconds)

        async with new_http() as http:
            await self._together([work(http) for _ in range(concurrency)])

    async def stop(self) -> None:
        """End every worker: what it was just sending is given back, for whoever comes next."""
        self._closing = True
        self.wake()
        if self._working:
            _cancel(self._working)
            await asyncio.wait(self._working)

    async def list_dead(self, limit: int, cursor: str | None) -> DeadEventPage:
        """Return a page of what was given up, the last first.

        Raises:
            InvalidRequestError: The limit is out of range or the cursor is none of ours.
        """
        origins = {endpoint: webhook.origin for endpoint, webhook in self._webhooks.items()}
        return await self._runner.read(lambda tx: list_dead(tx, origins, limit, cursor))

    async def retry_dead(self, event_id: object, caller: Caller) -> RetriedEvent:
        """Let an event that was given up be delivered anew.

        Raises:
            EventNotFoundError: None of this id was given up.
            InvalidRequestError: ``event_id`` is no text.
        """
        if not isinstance(event_id, str) or not event_id.isprintable() or len(event_id) > 64:
            raise InvalidRequestError("event_id must be one that list_dead_events gave.")
        retried = await self._runner.change(lambda tx: retry_dead(tx, event_id), caller)
        self.wake()
        return retried

    async def _together(self, works: Sequence[Coroutine[Any, Any, None]]) -> None:
        tasks = {asyncio.get_running_loop().create_task(work) for work in works}
        self._working |= tasks
        try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            if not self._closing:
                raise
        finally:
            _cancel(tasks)
            await asyncio.gather(*tasks, return_exceptions=True)
            self._working -= tasks

    async def _is_any_due(self) -> bool:
        return await self._runner.read(lambda tx: is_any_due(tx, self._webhooks))

    async def _deliver_one(self, http: aiohttp.ClientSession) -> str | None:
        claimant = secrets.token_hex(8)

        async def give_back(due: Due | None) -> None:
            if due is not None:
                await self._runner.change(lambda tx: release(tx, due, claimant), _WORKER)

        claiming = self._runner.change(lambda tx: claim(tx, self._webhooks, claimant), _WORKER)
        due = await or_given_back(claiming, give_back)
        if due is None:
            return None
        try:
            outcome = await send(http, self._webhooks[due.endpoint], due.event_id, due.body, self._runner.clock.now())
        except asyncio.CancelledError:
            with contextlib.suppress(StorageUnavailableError):
                await give_back(due)
            raise
        return await self._runner.change(lambda tx: settle(tx, due, claimant, outcome), _WORKER)

    async def _tidy(self) -> None:
        now = self._runner.clock.now()
        if now - self._tidied_at > _TIDY_SECONDS * 1_000_000:
            self._tidied_at = now
            await self._runner.change(lambda tx: tidy(tx, self._webhooks), _WORKER)


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        if not task.cancelling():  # again, it would leave off giving back what it was sending
            task.cancel()


async def _heard(news: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(news.wait(), seconds)
