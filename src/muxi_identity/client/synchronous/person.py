"""Every call that names one person: what a client and a channel have in common.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.person import AsyncPersonCalls
from muxi_identity.client.synchronous.context import ContextCalls
from muxi_identity.client.synchronous.conversation import ConversationCalls
from muxi_identity.client.synchronous.credentials import CredentialCalls
from muxi_identity.client.synchronous.identity import IdentityCalls
from muxi_identity.client.synchronous.memories import MemoryCalls
from muxi_identity.client.synchronous.preferences import PreferenceCalls
from muxi_identity.client.synchronous.sessions import SessionCalls
from muxi_identity.client.synchronous.tasks import TaskCalls
from muxi_identity.client.synchronous.working import WorkingMemoryCalls


class PersonCalls(
    IdentityCalls,
    ConversationCalls,
    ContextCalls,
    SessionCalls,
    MemoryCalls,
    WorkingMemoryCalls,
    PreferenceCalls,
    CredentialCalls,
    TaskCalls,
):
    """All of them together."""

    _async: AsyncPersonCalls
