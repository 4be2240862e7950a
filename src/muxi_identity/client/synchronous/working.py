"""Working memory: what went on lately.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.working import AsyncWorkingMemoryCalls
from muxi_identity.client.blocking import BlockingCalls


class WorkingMemoryCalls(BlockingCalls):
    """Working memory: what went on lately."""

    _async: AsyncWorkingMemoryCalls
