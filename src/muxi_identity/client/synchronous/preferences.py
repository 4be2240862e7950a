"""Preferences: values by key that follow the person.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.preferences import AsyncPreferenceCalls
from muxi_identity.client.blocking import BlockingCalls


class PreferenceCalls(BlockingCalls):
    """Preferences: values by key that follow the person."""

    _async: AsyncPreferenceCalls
