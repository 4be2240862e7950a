"""Everything about a person in one archive."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import UserArchive


class AsyncExportCalls(AsyncCalls):
    """Calls that hand out everything about a person."""

    async def export_user(self, user_id: Given) -> UserArchive:
        """Return everything that is kept of a person, over all users merged into it, as one archive of plain JSON.

        Identifiers with sessions and their messages, memories, working memory, preferences, tasks and their runs,
        synopses, merges and the history. Keys are shown by their hint and credentials by their preview. Read in one
        snapshot, and whole in memory: some 500 bytes a row.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            TooLargeError: There are more than a million rows.

        >>> told = await formation.chat("My budget is $5,000", user_id="user_123")
        >>> archive = await formation.export_user("user_123")
        >>> archive["format"], archive["version"], archive["memories"][0]["value"]
        ('muxi-identity/person', 1, '$5,000')
        """
        formation = await self._formation()
        return await formation.exports.export(formation.parse(self._given(user_id)))
