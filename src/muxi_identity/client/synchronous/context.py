"""The context of a person for an agent loop of your own, and the turn given back.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.context import AsyncContextCalls
from muxi_identity.client.blocking import BlockingCalls


class ContextCalls(BlockingCalls):
    """The context of a person for an agent loop of your own, and the turn given back."""

    _async: AsyncContextCalls
