"""PostgreSQL: processes tell each other what they changed, and prove to themselves that they would hear it.

A change is notified by the transaction that makes it, and heard over a connection that does nothing else: one for each
open database of a process. Nothing tells a listener that it has gone deaf. A pooler may swallow LISTEN, a connection
may be half open, the process may have been paused. So it sends itself heartbeats, by the way that changes go: through
the ordinary pool. A connection hears in the order of the commits, so a heartbeat that comes back says that everything
committed before it was sent has been heard. From that moment, and for the lease alone, hits are served.
"""

from __future__ import annotations

import os
import weakref
from time import monotonic

from muxi_identity.identity.cache import IdentityCache
from muxi_identity.identity.coherence.listener import Listener
from muxi_identity.identity.coherence.notices import read_notice
from muxi_identity.storage.database import Database


class Listening:
    """Keeps the cache of one formation true, by the listener of its database. ``lease`` in seconds."""

    def __init__(self, database: Database, formation_id: str, cache: IdentityCache, lease: float) -> None:
        self.cache = cache
        self.lease = lease
        self._formation_id = formation_id
        self._database = database
        self._listener: Listener | None = None

    async def start(self) -> None:
        """Listen, and return once hits are served, or cannot be for now."""
        self._listener = _listener_of(self._database)
        try:
            await self._listener.join(self)
        except BaseException:
            await self.stop()  # whoever opens it was cancelled: nobody else would
            raise

    async def stop(self) -> None:
        """Listen no more. What was heard holds for the rest of the lease."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.leave(self)

    def abandon(self) -> None:
        """Leave the listener, which ended with its event loop."""
        self._listener = None

    @property
    def uses(self) -> int:
        """How often anybody was resolved so far."""
        return self.cache.hits + self.cache.misses

    def extend(self, sent_at: float, since: float) -> None:
        """Serve hits for the lease from ``sent_at`` on: all that was committed ``since`` then, and by then, was heard.

        Both are monotonic times.
        """
        until, now = sent_at + self.lease, monotonic()
        if until <= now:
            return
        if self.cache.lease_until <= now:
            # For a while nobody listened, or could be sure of it: what was remembered meanwhile may be wrong.
            self.cache.clear()
        elif self.cache.heard_until < since:
            # Another listener of this process keeps the same cache true, and may not have heard what was committed
            # just before this one began. Its next heartbeat tells, or its lease runs out.
            return
        self.cache.heard_until = max(self.cache.heard_until, sent_at)
        self.cache.lease_until = max(self.cache.lease_until, until)

    def revoke(self) -> None:
        """Serve no hits: changes may be missed from now on."""
        self.cache.lease_until = 0.0

    def hear(self, payload: str) -> None:
        """Drop what a notice says that is wrong by now."""
        notice = read_notice(payload)
        if notice is None:
            self.cache.clear()
        elif notice.formation_id != self._formation_id or notice.origin == self.cache.origin:
            return  # in this cache it has been fenced since before it was committed
        elif notice.everything:
            self.cache.clear()
        else:
            self.cache.drop(notice.keys, notice.member_pks)


_listeners: weakref.WeakValueDictionary[int, Listener] = weakref.WeakValueDictionary()


def _listener_of(database: Database) -> Listener:
    """Return the listener of an open database, shared by all of its formations."""
    listener = _listeners.get(id(database))
    if listener is None or not listener.is_usable:
        listener = _listeners[id(database)] = Listener(database)
    return listener


def _after_fork() -> None:
    global _listeners
    _listeners = weakref.WeakValueDictionary()  # those of the parent's are of no use in the child


os.register_at_fork(after_in_child=_after_fork)
