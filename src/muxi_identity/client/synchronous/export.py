"""Everything about a person in one archive.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.export import AsyncExportCalls
from muxi_identity.client.blocking import BlockingCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import UserArchive


class ExportCalls(BlockingCalls):
    """Calls that hand out everything about a person."""

    _async: AsyncExportCalls

    def export_user(self, user_id: Given) -> UserArchive:
        """Return everything that is kept of a person, over all users merged into it, as one archive of plain JSON.

        Identifiers with sessions and their messages, memories, working memory, preferences, tasks and their runs,
        synopses, merges and the history. Keys are shown by their hint and credentials by their preview. Read in one
        snapshot, and whole in memory: some 500 bytes a row.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            TooLargeError: There are more than a million rows.

        >>> told = formation.chat("My budget is $5,000", user_id="user_123")
        >>> archive = formation.export_user("user_123")
        >>> archive["format"], archive["version"], archive["memories"][0]["value"]
        ('muxi-identity/person', 1, '$5,000')
        """
        return self._run(self._async.export_user(user_id))
