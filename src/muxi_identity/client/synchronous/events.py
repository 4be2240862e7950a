"""Events: what webhooks are told, and what they did not take.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.events import AsyncEventCalls
from muxi_identity.client.blocking import BlockingCalls
from muxi_identity.models import DeadEventPage, DeliveryReport, RetriedEvent


class EventCalls(BlockingCalls):
    """Calls that deliver events to the webhooks of the configuration."""

    _async: AsyncEventCalls

    def deliver_events(self, *, limit: int = 100) -> DeliveryReport:
        """Deliver the events that are due now, at most ``limit`` (1 to 100,000), and say what came of it.

        For whoever calls it at times of their own; :meth:`run_events` goes on by itself. Each event is delivered at
        least once, and those of one user in their order.

        Raises:
            InvalidRequestError: The limit is out of range.

        >>> formation.deliver_events()["delivered"]
        0
        """
        return self._run(self._async.deliver_events(limit=limit))

    def run_events(self, *, concurrency: int = 4, poll_seconds: float = 1.0) -> None:
        """Deliver events as they come, until cancelled (Ctrl-C) or the client is closed.

        ``concurrency`` (1 to 64) is how many are sent at a time. Any number of processes may do this at once: each
        event is one's for 60 seconds, and another's after that if it was not settled. What a webhook does not take is
        tried again after 5 s, 30 s, 2 min, 10 min, 30 min, 2 h and 5 h, and then given up.

        Raises:
            InvalidRequestError: An argument is out of range.

        >>> import threading
        >>> worker = threading.Thread(target=formation.run_events)  # doctest: +SKIP
        >>> formation.list_dead_events()["events"]
        []
        """
        return self._run(self._async.run_events(concurrency=concurrency, poll_seconds=poll_seconds))

    def list_dead_events(self, *, limit: int = 50, cursor: str | None = None) -> DeadEventPage:
        """Return a page of events that a webhook did not take in all attempts, the last given up first.

        They are kept for 30 days. Later events of the same user have gone on without them.

        Raises:
            InvalidRequestError: The limit is not from 1 to 500, or the cursor is none of ours.

        >>> formation.list_dead_events()["count"]
        0
        """
        return self._run(self._async.list_dead_events(limit=limit, cursor=cursor))

    def retry_dead_event(self, event_id: str) -> RetriedEvent:
        """Deliver an event anew that was given up, with all attempts before it.

        Raises:
            EventNotFoundError: No event of this id was given up.

        >>> from muxi_identity import EventNotFoundError
        >>> try:
        ...     formation.retry_dead_event("evt_unknown")
        ... except EventNotFoundError:
        ...     print("it was delivered, or never was")
        it was delivered, or never was
        """
        return self._run(self._async.retry_dead_event(event_id))
