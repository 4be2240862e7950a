"""Persistent memory: what is known of a person for good, and the synopsis of it.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.memories import AsyncMemoryCalls
from muxi_identity.client.blocking import BlockingCalls


class MemoryCalls(BlockingCalls):
    """Persistent memory: what is known of a person for good, and the synopsis of it."""

    _async: AsyncMemoryCalls
