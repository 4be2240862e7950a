"""Persistent memory: what is known of a person for good, and the synopsis of it."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls


class AsyncMemoryCalls(AsyncCalls):
    """Persistent memory: what is known of a person for good, and the synopsis of it."""
