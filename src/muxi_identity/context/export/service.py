"""Exports of the people of one formation."""

from __future__ import annotations

from muxi_identity.context.access import Access
from muxi_identity.context.export.archive import build_archive
from muxi_identity.identity.lookup import Reference
from muxi_identity.models import UserArchive


class Exports:
    """Exports of the people of one formation."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def export(self, reference: Reference) -> UserArchive:
        """Return everything that is kept of whoever ``reference`` means.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: Untyped, and several people have it.
            TooLargeError: There is more than an archive holds.
        """
        return await self._access.read(reference, build_archive)
