"""What happens to people, told to whoever listens: turns and runs of tasks, as this process does them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from typing import Any

from muxi_identity.server.streams import event

_MOST_WAITING = 100


class Bus:
    """The listeners of one formation, by the public id of the person they listen to."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[asyncio.Queue[bytes]]] = defaultdict(set)

    def publish(self, user_id: str, name: str, data: Mapping[str, Any]) -> None:
        """Tell everybody who listens to ``user_id``.

        Somebody who reads too slowly misses what comes when a hundred events wait; none is kept from answering by it.
        """
        for queue in self._listeners.get(user_id, ()):
            if not queue.full():
                queue.put_nowait(event({"type": name, **data}, name))

    async def listen(self, user_id: str) -> AsyncIterator[bytes]:
        """Yield the events of a person from now on, without end."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(_MOST_WAITING)
        self._listeners[user_id].add(queue)
        try:
            yield event({"type": "listening", "user_id": user_id}, "listening")
            while True:
                yield await queue.get()
        finally:
            self._listeners[user_id].discard(queue)
            if not self._listeners[user_id]:
                del self._listeners[user_id]
