"""Scheduled tasks of a person, and what came of them."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls


class AsyncTaskCalls(AsyncCalls):
    """Scheduled tasks of a person, and what came of them."""
