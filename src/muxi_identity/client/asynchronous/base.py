"""What the calls of a client and of a channel stand on."""

from __future__ import annotations

import abc
from typing import Any

from muxi_identity.client.engine import Engine
from muxi_identity.client.operations import Given
from muxi_identity.identity.running import Caller
from muxi_identity.models import ResolvedUser


class AsyncCalls(abc.ABC):
    """Where calls find the open formation, how they read a ``user_id``, and who is named as having made them."""

    def __init__(self, actor: str) -> None:
        self._actor = actor

    @abc.abstractmethod
    async def _formation(self) -> Engine[Any]:
        """Return the formation, opened if need be."""

    @abc.abstractmethod
    def _given(self, value: Given) -> object:
        """Return an identifier as the parser is to read it: a channel adds its type."""

    @abc.abstractmethod
    def _cached(self, identifier: object) -> ResolvedUser | None:
        """Answer from the cache alone, or None. Never blocks; any thread may call it."""

    def _caller(self, source: str | None = None, reason: str | None = None) -> Caller:
        return Caller(self._actor, source, reason)
