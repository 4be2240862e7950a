"""A formation as one channel sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from muxi_identity.client.asynchronous.person import AsyncPersonCalls
from muxi_identity.client.engine import Engine
from muxi_identity.client.operations import Given, checked_channel
from muxi_identity.models import ResolvedUser

if TYPE_CHECKING:
    from muxi_identity.client.asynchronous.client import AsyncFormationClient


class AsyncChannel(AsyncPersonCalls):
    """A formation as one channel sees it: every bare ``user_id`` has the channel's type and scope.

    A public id (``usr_...``) and an identifier with a type of its own are taken as they are; in a channel of secrets
    (``api_key``) a public id is refused.
    """

    def __init__(self, client: AsyncFormationClient, type: str, scope: str | None = None) -> None:
        super().__init__(client._actor)
        self._client = client
        # A wrong type or scope is told here, not at the first message.
        self._type, self._scope = checked_channel(type, scope)

    async def _formation(self) -> Engine[Any]:
        return await self._client._formation()

    def _given(self, value: Given) -> object:
        return self._client._lifecycle.in_channel(value, self._type, self._scope)

    def _cached(self, identifier: object) -> ResolvedUser | None:
        return self._client._cached(identifier)
