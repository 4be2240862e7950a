"""Memory: what is known of a person for good, what went on lately, and the synopsis of both."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls


class AsyncMemoryCalls(AsyncCalls):
    """Memory: what is known of a person for good, what went on lately, and the synopsis of both."""
