"""The working memory of the people of one formation."""

from __future__ import annotations

from muxi_identity.arguments import check_flag, check_text
from muxi_identity.config import FormationConfig
from muxi_identity.context.access import Access
from muxi_identity.context.redaction import find_secret
from muxi_identity.context.working.rows import KINDS, MAX_CONTENT, NewItem, add_items, clear_items, read_items
from muxi_identity.errors import InvalidRequestError, SecretRefusedError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import Caller
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import WorkingCleared, WorkingItem, iso
from muxi_identity.paging import check_limit

MAX_TTL = 30 * 86400.0  # seconds; what should last longer is a memory


class WorkingMemory:
    """The working memory of the people of one formation. Shared at once between the identifiers of a person."""

    def __init__(self, access: Access, config: FormationConfig) -> None:
        self._access = access
        self._ttl = config.working.ttl
        self._most = config.working.max_items

    async def get(self, reference: Reference, limit: int) -> list[WorkingItem]:
        """Return the newest items that have not expired.

        Raises:
            UserNotFoundError: Nobody has ``reference``.
            InvalidRequestError: The limit is out of range.
        """
        check_limit(limit)
        return await self._access.read(reference, lambda tx, hit: read_items(tx, hit, min(limit, self._most)))

    async def add(
        self,
        reference: Reference,
        content: str,
        kind: str,
        ttl: float | None,
        shareable: bool,
        caller: Caller,
    ) -> WorkingItem:
        """Keep an item for ``ttl`` seconds, the formation's where it is None. The same again lasts anew.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            SecretRefusedError: It looks like a key or a password.
            TooLargeError: It is longer than an item may be.
            InvalidRequestError: An argument has the wrong shape.
        """
        item = checked_item("content", content, kind, check_flag("shareable", shareable))
        seconds = self._ttl if ttl is None else self._checked_ttl(ttl)

        def work(tx: Transaction, hit: Hit) -> WorkingItem:
            add_items(tx, hit, [item], ttl=seconds, max_items=self._most)
            return {
                "kind": item.kind,
                "content": item.content,
                "shareable": item.shareable,
                "created_at": iso(tx.now),
                "expires_at": iso(tx.now + int(seconds * 1e6)),
            }

        return await self._access.write(reference, work, caller)

    async def clear(self, reference: Reference, caller: Caller) -> WorkingCleared:
        """Delete all items of the person, whichever identifier they came through.

        Raises:
            UserNotFoundError: Nobody has ``reference``.
        """

        def work(tx: Transaction, hit: Hit) -> WorkingCleared:
            return {"items_cleared": clear_items(tx, hit)}

        return await self._access.write(reference, work, caller, create=False)

    def _checked_ttl(self, ttl: object) -> float:
        most = max(MAX_TTL, self._ttl)
        if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 1 <= ttl <= most:
            raise InvalidRequestError(
                f"ttl must be from 1 to {most:.0f} seconds; what should last longer is kept with add_memory."
            )
        return float(ttl)


def checked_item(name: str, content: object, kind: str, shareable: bool) -> NewItem:
    """Return the item to be kept for what the caller passed as ``name``, on one line.

    Raises:
        SecretRefusedError: It looks like a key or a password.
        TooLargeError: It is longer than an item may be.
        InvalidRequestError: It is no text, or of no kind that there is.
    """
    if kind not in KINDS:
        raise InvalidRequestError(f"kind must be one of {', '.join(KINDS)}.")
    text = " ".join(check_text(name, content, MAX_CONTENT).split())
    found = find_secret(text)
    if found is not None:
        raise SecretRefusedError(
            f"{name} looks like {found}; keep it with set_credential, where it is encrypted and never enters a prompt."
        )
    return NewItem(text, kind, shareable)
