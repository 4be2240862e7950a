"""Every call that names one person: what a client and a channel have in common."""

from __future__ import annotations

from muxi_identity.client.asynchronous.context import AsyncContextCalls
from muxi_identity.client.asynchronous.conversation import AsyncConversationCalls
from muxi_identity.client.asynchronous.credentials import AsyncCredentialCalls
from muxi_identity.client.asynchronous.identity import AsyncIdentityCalls
from muxi_identity.client.asynchronous.memories import AsyncMemoryCalls
from muxi_identity.client.asynchronous.preferences import AsyncPreferenceCalls
from muxi_identity.client.asynchronous.sessions import AsyncSessionCalls
from muxi_identity.client.asynchronous.tasks import AsyncTaskCalls
from muxi_identity.client.asynchronous.working import AsyncWorkingMemoryCalls


class AsyncPersonCalls(
    AsyncIdentityCalls,
    AsyncConversationCalls,
    AsyncContextCalls,
    AsyncSessionCalls,
    AsyncMemoryCalls,
    AsyncWorkingMemoryCalls,
    AsyncPreferenceCalls,
    AsyncCredentialCalls,
    AsyncTaskCalls,
):
    """All of them together."""
