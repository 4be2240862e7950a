"""Rows of memories as they are shown, and how hits of a search are ranked. Pure.

A row has the columns of :data:`muxi_identity.context.memories.search.COLUMNS` as
attributes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from muxi_identity.context.memories.facts import Fact
from muxi_identity.models import MemoryRecord, iso
from muxi_identity.storage.tables import DIGEST

HALF_LIFE_DAYS = 30
_HALF_LIFE = HALF_LIFE_DAYS * 86_400 * 1_000_000


def shown_key(key: str) -> str | None:
    """Return the attribute that a memory of this key is about, None where it is about none."""
    return None if key.startswith(DIGEST) else key


def memory_record(row: Any, score: float | None = None) -> MemoryRecord:
    """Return a row as it is shown."""
    return {
        "memory_id": row.memory_id,
        "type": row.type,
        "key": shown_key(row.key),
        "content": row.content,
        "value": row.value,
        "metadata": {} if row.metadata is None else json.loads(row.metadata),
        "shareable": bool(row.shareable),
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
        "score": score,
    }


def facts_of(rows: Iterable[Any]) -> list[Fact]:
    """Return the facts in ``rows``, which come newest first: of those of one key (whatever their type) the first."""
    facts: dict[str, Fact] = {}
    for row in rows:
        facts.setdefault(row.key, Fact(row.key, row.content, row.value))
    return list(facts.values())


def ranked(rows: Sequence[Any], now: int, limit: int | None = None) -> list[MemoryRecord]:
    """Return the hits of a search (with their ``rank``), the best ``limit`` of them first, each with its score.

    The score is relevance times a factor for its age. Relevance is the rank that the database gives it for its words,
    divided by the best hit's: above 0, at most 1. The factor goes from 1 for what was changed just now down to 1/2 for
    what is old, and is half-way after :data:`HALF_LIFE_DAYS`. So the newer of two equally good hits comes first, and no
    age outweighs twice the relevance.
    """
    best = max((row.rank for row in rows), default=0.0)
    scored = [(_relevance(row.rank, best) * (1 + _recency(now - row.updated_at)) / 2, row) for row in rows]
    scored.sort(key=lambda each: (each[0], each[1].updated_at, each[1].pk), reverse=True)
    return [memory_record(row, round(score, 6)) for score, row in scored[:limit]]


def _relevance(rank: float, best: float) -> float:
    # SQLite ranks a word that most memories have about as nothing, or below: such hits are alike then.
    return max(rank / best, 0.01) if best > 0 else 1.0


def _recency(age: int) -> float:
    return float(0.5 ** (max(age, 0) / _HALF_LIFE))
