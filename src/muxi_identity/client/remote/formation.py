"""One served formation: what :class:`muxi_identity.formation.Formation` is in a process, over HTTP."""

from __future__ import annotations

from muxi_identity.client.remote.conversation import RemoteConversation, RemoteLoader, RemoteRecorder
from muxi_identity.client.remote.credentials import RemoteCredentials
from muxi_identity.client.remote.curating import RemoteCurator, RemoteEvents, RemoteExports, RemoteLinkCodes
from muxi_identity.client.remote.importing import RemoteImports
from muxi_identity.client.remote.memories import (
    RemoteMemories,
    RemotePreferences,
    RemoteSynopses,
    RemoteWorkingMemory,
)
from muxi_identity.client.remote.people import People
from muxi_identity.client.remote.place import Place
from muxi_identity.client.remote.sessions import RemoteSessions
from muxi_identity.client.remote.tasks import RemoteTasks, RemoteWorker
from muxi_identity.client.remote.transport import Transport


class RemoteFormation(People):
    """One served formation, on one event loop.

    Any operation raises ServerUnavailableError where no answer comes, UnauthorizedError and ForbiddenError where the
    keys do not open it, and RateLimitedError where they were used too often.
    """

    def __init__(self, place: Place) -> None:
        transport = Transport(place)
        super().__init__(transport)
        self.sessions = RemoteSessions(transport)
        self.memories = RemoteMemories(transport)
        self.working = RemoteWorkingMemory(transport)
        self.preferences = RemotePreferences(transport)
        self.credentials = RemoteCredentials(transport)
        self.tasks = RemoteTasks(transport)
        self.worker = RemoteWorker()
        self.curator = RemoteCurator(transport)
        self.link_codes = RemoteLinkCodes(transport)
        self.exports = RemoteExports(transport)
        self.imports = RemoteImports(transport)
        self.events = RemoteEvents(transport)
        self.synopses = RemoteSynopses(transport)
        self.loader = RemoteLoader(transport)
        self.recorder = RemoteRecorder(transport)
        self.conversation = RemoteConversation(transport)

    async def close(self) -> None:
        """End what is under way and close the connections."""
        await self.conversation.close()
        await self._transport.close()

    def let_go(self) -> None:
        """Forget connections whose event loop has ended."""
        self._transport.let_go()
