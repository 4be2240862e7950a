"""A formation as one channel sees it.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.channel import AsyncChannel
from muxi_identity.client.blocking import BlockingChannel
from muxi_identity.client.synchronous.person import PersonCalls


class Channel(BlockingChannel, PersonCalls):
    """A formation as one channel sees it: every bare ``user_id`` has the channel's type and scope.

    A public id (``usr_...``) and an identifier with a type of its own are taken as they are; in a channel of secrets
    (``api_key``) a public id is refused.
    """

    _async: AsyncChannel
