"""Scheduled tasks of a person, and what came of them.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.tasks import AsyncTaskCalls
from muxi_identity.client.blocking import BlockingCalls


class TaskCalls(BlockingCalls):
    """Scheduled tasks of a person, and what came of them."""

    _async: AsyncTaskCalls
