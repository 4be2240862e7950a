"""The sessions of the people of one formation."""

from __future__ import annotations

from muxi_identity.arguments import check_session_id
from muxi_identity.config import FormationConfig
from muxi_identity.context.access import Access
from muxi_identity.context.sessions.rows import read_messages
from muxi_identity.errors import SessionNotFoundError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import SessionMessages, iso


class Sessions:
    """The sessions of the people of one formation."""

    def __init__(self, access: Access, config: FormationConfig) -> None:
        self._access = access
        self._config = config

    async def messages(self, reference: Reference, session_id: str) -> SessionMessages:
        """Return what a session of the identifier ``reference`` holds.

        Raises:
            UserNotFoundError: Nobody has it.
            SessionNotFoundError: It has no such session.
        """
        check_session_id(session_id)

        def work(tx: Transaction, hit: Hit) -> SessionMessages:
            found = read_messages(tx, hit, session_id)
            if not found:
                raise SessionNotFoundError("That identifier has no session of this id.", session_id=session_id)
            return {
                "session_id": session_id,
                "messages": [
                    {"role": each.role, "content": each.content, "created_at": iso(each.at or 0)} for each in found
                ],
                "count": len(found),
                "has_more": False,
                "next_cursor": None,
            }

        return await self._access.read(reference, work)
