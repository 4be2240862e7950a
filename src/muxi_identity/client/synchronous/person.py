"""Every call that names one person: what a client and a channel have in common.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.person import AsyncPersonCalls
from muxi_identity.client.synchronous.conversation import ConversationCalls
from muxi_identity.client.synchronous.identity import IdentityCalls
from muxi_identity.client.synchronous.sessions import SessionCalls


class PersonCalls(IdentityCalls, ConversationCalls, SessionCalls):
    """All of them together."""

    _async: AsyncPersonCalls
