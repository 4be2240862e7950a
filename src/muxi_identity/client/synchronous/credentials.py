"""Credentials: shown by a preview, handed out by name.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.credentials import AsyncCredentialCalls
from muxi_identity.client.blocking import BlockingCalls


class CredentialCalls(BlockingCalls):
    """Credentials: shown by a preview, handed out by name."""

    _async: AsyncCredentialCalls
