"""The synopses of the people of one formation."""

from __future__ import annotations

from muxi_identity.context.access import Access


class Synopses:
    """The synopses of the people of one formation."""

    def __init__(self, access: Access) -> None:
        self._access = access
