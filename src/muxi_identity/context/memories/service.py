"""The persistent memory of the people of one formation."""

from __future__ import annotations

from muxi_identity.config import FormationConfig
from muxi_identity.context.access import Access


class Memories:
    """The persistent memory of the people of one formation."""

    def __init__(self, access: Access, config: FormationConfig) -> None:
        self._access = access
        self._config = config
