"""What a server needs of a client: formations over shared databases, and calls in the name of whoever asked."""

from __future__ import annotations

from collections.abc import Callable

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.client.lifecycle import Lifecycle
from muxi_identity.client.operations import Given
from muxi_identity.config import FormationConfig
from muxi_identity.conversation.responder import Responder
from muxi_identity.formation import Formation
from muxi_identity.identity.running import SYSTEM_CLOCK, Clock
from muxi_identity.models import ResolvedUser
from muxi_identity.storage.sharing import SharedDatabases


class ServedFormation:
    """One formation of a server, open once for all who call it."""

    def __init__(
        self,
        config: FormationConfig,
        databases: SharedDatabases,
        *,
        responder: Responder | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.config = config
        self._lifecycle = Lifecycle(config, responder=responder, clock=clock, databases=databases)
        self.cached: Callable[[Given], ResolvedUser | None] = self.acting_as("anybody")._cached
        """Returns who an identifier means where the cache knows it, else None; never waits, and leaves no trace."""

    async def open(self) -> Formation:
        """Open it, once, and return the engine.

        Raises:
            ConfigurationError: It cannot be opened as configured.
            StorageUnavailableError: The database cannot be reached.
        """
        return await self._lifecycle.formation()

    async def close(self) -> None:
        """Let what was begun end, and close it; the database stays open for others."""
        await self._lifecycle.close()

    def acting_as(self, actor: str) -> AsyncFormationClient:
        """Return a client whose changes the history puts down to ``actor``. Closing it closes the formation."""
        client = AsyncFormationClient.__new__(AsyncFormationClient)
        client._actor = actor
        client._lifecycle = self._lifecycle
        return client
