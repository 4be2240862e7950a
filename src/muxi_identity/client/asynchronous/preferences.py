"""Preferences: values by key that follow the person."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls


class AsyncPreferenceCalls(AsyncCalls):
    """Preferences: values by key that follow the person."""
