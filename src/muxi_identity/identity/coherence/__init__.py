"""How a process's cache learns of what other processes changed.

A :class:`Coherence` is started with the cache when a formation opens. It extends the cache's lease while it can hear,
and empties the cache when it heard of a change that it cannot place, or may have missed one. Without a lease the cache
answers nothing: everything is looked up in the database.
"""

from __future__ import annotations

from typing import Protocol

from muxi_identity.config import FormationConfig
from muxi_identity.identity.cache import IdentityCache
from muxi_identity.identity.coherence.listening import Listening
from muxi_identity.identity.coherence.polling import SqlitePoll
from muxi_identity.storage.database import Database
from muxi_identity.storage.sqlite import SqliteDatabase

__all__ = ["Coherence", "Listening", "SqlitePoll", "coherence_of"]


class Coherence(Protocol):
    """Keeps a cache true to what other processes do."""

    async def start(self) -> None:
        """Begin to listen."""

    async def stop(self) -> None:
        """Stop listening. The cache then answers nothing that depends on it."""

    def abandon(self) -> None:
        """Stop without the event loop, which has ended."""


def coherence_of(database: Database, config: FormationConfig, cache: IdentityCache) -> Coherence:
    """Return what keeps the cache of this formation true in this kind of database."""
    if isinstance(database, SqliteDatabase):
        return SqlitePoll(database, config.id, cache)
    return Listening(database, config.id, cache, config.identity.cache.lease)
