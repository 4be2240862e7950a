"""The context of a person for an agent loop of your own, and the turn given back."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls


class AsyncContextCalls(AsyncCalls):
    """The context of a person for an agent loop of your own, and the turn given back."""
