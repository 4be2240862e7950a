"""The asynchronous client: one module for each kind of call.

Written by hand; ``client/synchronous`` is made from this package: run ``make generate`` after a change.
"""

from muxi_identity.client.asynchronous.channel import AsyncChannel
from muxi_identity.client.asynchronous.client import AsyncFormationClient

__all__ = ["AsyncChannel", "AsyncFormationClient"]
