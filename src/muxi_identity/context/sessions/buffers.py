"""The message buffers of sessions, counted: one person's, or a whole formation's."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.sql import ColumnElement

from muxi_identity.context.access import Access
from muxi_identity.context.guard import check_theirs
from muxi_identity.context.sessions.rows import clear, readable
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import Caller
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import ClearResult
from muxi_identity.models.buffers import BufferStats, UserBuffer
from muxi_identity.storage.tables import messages, sessions


class Buffers:
    """The message buffers of one formation."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def of(self, reference: Reference) -> UserBuffer:
        """Return how much the sessions hold that ``reference`` may read.

        Raises:
            UserNotFoundError: Nobody has ``reference``.
        """

        def work(tx: Transaction, hit: Hit) -> UserBuffer:
            held, number, size, _ = _count(tx, readable(tx, hit))
            return {
                "user_id": check_theirs(tx, hit),
                "total_messages": number,
                "sessions": held,
                "buffer_size_kb": round(size / 1024, 3),
            }

        return await self._access.read(reference, work)

    async def all(self) -> BufferStats:
        """Return how much all sessions of the formation hold."""

        def work(tx: Transaction) -> BufferStats:
            held, number, size, people = _count(tx, sessions.c.formation_id == tx.formation_id)
            return {
                "total_messages": number,
                "sessions": held,
                "users": people,
                "buffer_size_kb": round(size / 1024, 3),
            }

        return await self._access.runner.read(work)

    async def clear(self, caller: Caller) -> ClearResult:
        """Delete the messages and the contexts of all sessions of the formation; what is known of people stays."""

        def work(tx: Transaction) -> ClearResult:
            gone, held = clear(tx, sessions.c.formation_id == tx.formation_id)
            return {"messages_cleared": gone, "sessions_cleared": held}

        return await self._access.runner.change(work, caller)


def _count(tx: Transaction, which: ColumnElement[bool]) -> tuple[int, int, int, int]:
    """Return how many sessions there are, their messages, the characters of these, and the members they belong to."""
    held, people = tx.connection.execute(
        select(func.count(), func.count(sessions.c.user_pk.distinct())).where(which)
    ).one()
    number, size = tx.connection.execute(
        select(func.count(), func.coalesce(func.sum(func.length(messages.c.content)), 0)).where(
            messages.c.formation_id == tx.formation_id,
            messages.c.session_pk.in_(select(sessions.c.pk).where(which)),
        )
    ).one()
    return held, number, int(size), people
