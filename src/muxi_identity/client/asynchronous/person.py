"""Every call that names one person: what a client and a channel have in common."""

from __future__ import annotations

from muxi_identity.client.asynchronous.conversation import AsyncConversationCalls
from muxi_identity.client.asynchronous.identity import AsyncIdentityCalls
from muxi_identity.client.asynchronous.sessions import AsyncSessionCalls


class AsyncPersonCalls(AsyncIdentityCalls, AsyncConversationCalls, AsyncSessionCalls):
    """All of them together."""
