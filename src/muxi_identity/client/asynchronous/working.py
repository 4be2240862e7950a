"""Working memory: what went on lately."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls


class AsyncWorkingMemoryCalls(AsyncCalls):
    """Working memory: what went on lately."""
