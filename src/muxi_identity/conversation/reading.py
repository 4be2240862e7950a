"""What the tools of a turn read at once, of the person whose turn it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from muxi_identity.context.access import Access
from muxi_identity.context.credentials.service import Credentials
from muxi_identity.context.guard import check_theirs
from muxi_identity.context.memories.records import memory_record, ranked
from muxi_identity.context.memories.rows import find_memory, members_cte
from muxi_identity.context.memories.search import IS_SHAREABLE, matching_memories
from muxi_identity.errors import CredentialNotFoundError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.running import identity_changed
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import Audience, MemoryRecord
from muxi_identity.secret import Secret
from muxi_identity.storage.errors import GuardRefused
from muxi_identity.storage.text_search import query_terms
from muxi_identity.words import query_words

T = TypeVar("T")


class TurnReader:
    """Reads what belongs to the person of one turn. For a shared audience only what is shareable."""

    def __init__(self, access: Access, credentials: Credentials, hit: Hit, audience: Audience) -> None:
        self._runner = access.runner
        self._credentials = credentials
        self._hit = hit
        self._shared = audience == "shared"

    async def search(self, query: str, limit: int) -> Sequence[MemoryRecord]:
        """Return the memories that fit ``query``, the best first.

        Raises:
            IdentityChangedError: The identifier went to somebody else while the turn was under way.
        """
        words = query_words(query)
        if not words:
            return []

        def work(tx: Transaction) -> list[MemoryRecord]:
            dialect = tx.database.dialect
            conditions = [IS_SHAREABLE] if self._shared else []
            members = members_cte(tx, self._hit)
            terms = query_terms(dialect, words)
            rows = tx.connection.execute(matching_memories(dialect, tx.formation_id, members, terms, *conditions)).all()
            return ranked(rows, tx.now)[:limit]

        return await self._read(work)

    async def find(self, memory_id: str) -> MemoryRecord | None:
        """Return a memory by its id, None where the person has none of it.

        Raises:
            IdentityChangedError: The identifier went to somebody else while the turn was under way.
        """

        def work(tx: Transaction) -> MemoryRecord | None:
            row = find_memory(tx, self._hit, memory_id)
            return None if row is None or (self._shared and not row.shareable) else memory_record(row)

        return await self._read(work)

    async def secret(self, service: str, name: str) -> Secret:
        """Return the secret of a credential.

        Raises:
            CredentialNotFoundError: The person has none of that service and name.
            CredentialUnreadableError: None of the configured keys opens it.
            IdentityChangedError: The identifier went to somebody else while the turn was under way.
        """
        found = await self._read(lambda tx: self._credentials.secret_in(tx, self._hit, service, name))
        if found is None:
            raise CredentialNotFoundError(
                "The person has no such credential; set_credential(user_id, service, credential) keeps one.",
                service=service,
                name=name,
            )
        return found

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        def checked(tx: Transaction) -> T:
            check_theirs(tx, self._hit)
            return work(tx)

        try:
            return await self._runner.read(checked)
        except GuardRefused:
            pass
        raise identity_changed()
