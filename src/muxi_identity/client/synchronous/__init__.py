"""The synchronous client. Made by scripts/generate_sync.py: change client/asynchronous instead."""

from muxi_identity.client.synchronous.channel import Channel
from muxi_identity.client.synchronous.client import FormationClient

__all__ = ["Channel", "FormationClient"]
