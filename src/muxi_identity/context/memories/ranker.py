"""The seam for embeddings: whoever has vectors says which memories fit a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from muxi_identity.models import MemoryRecord


class MemoryRanker(Protocol):
    """Ranks memories for ``search_memories``, by meaning where full-text search goes by words.

    It is given the person's hits of the full-text search, the best first and with their ``score``, then the newest
    other memories, whose ``score`` is None: at most 200 in all. Vectors of memories are its own to keep, by
    ``memory_id`` and ``updated_at``.
    """

    async def rank(self, query: str, candidates: Sequence[MemoryRecord]) -> Sequence[float]:
        """Return a finite number for each of ``candidates``, in their order.

        The greater, the better; what is 0 or less is left out of the result. The number is the result's ``score``.
        """
