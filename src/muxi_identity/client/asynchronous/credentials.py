"""Credentials: shown by a preview, handed out by name."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls


class AsyncCredentialCalls(AsyncCalls):
    """Credentials: shown by a preview, handed out by name."""
