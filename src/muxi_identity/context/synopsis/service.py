"""The synopses of the people of one formation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from muxi_identity.arguments import is_storable
from muxi_identity.context.access import Access
from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.memories.records import facts_of
from muxi_identity.context.memories.rows import MAX_FACTS, members_cte
from muxi_identity.context.memories.search import IS_FACT, newest_memories
from muxi_identity.context.preferences.rows import read_preferences
from muxi_identity.context.synopsis.rows import Kept, keep, read_kept
from muxi_identity.context.synopsis.rules import RECENT_MEMORIES, draft
from muxi_identity.errors import ModelError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import Caller
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import Synopsis, iso

MAX_WRITTEN = 2_000
"""Characters that are kept of what a writer wrote."""


class SynopsisWriter(Protocol):
    """Writes a synopsis from what is known of a person."""

    async def write(self, draft: str, facts: Sequence[Fact], preferences: Mapping[str, Any]) -> str:
        """Return the synopsis; ``draft`` is what the plain rules made.

        Raises:
            ModelError: It cannot; the draft is given then, and nothing is kept.
        """


class _Read(NamedTuple):
    """What one snapshot shows: what is kept and, where that does not stand, what a new text is made of."""

    kept: Kept
    draft: str = ""
    facts: Sequence[Fact] = ()
    preferences: Mapping[str, Any] = {}


class Synopses:
    """The synopses of the people of one formation: kept until what they rest on changes."""

    def __init__(self, access: Access, writer: SynopsisWriter | None = None) -> None:
        self._access = access
        self._writer = writer

    async def get(self, reference: Reference, caller: Caller) -> Synopsis:
        """Return the synopsis of the person: what is kept, else a new one, which is kept then.

        Several calls at once may each make one; whichever comes last is kept, and only if what it was made of is
        still what is known.

        Raises:
            UserNotFoundError: Nobody has the reference.
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        read = await self._access.read(reference, _read)
        kept = read.kept
        if kept.text is not None and kept.built_at is not None:
            return {"muxi_user_id": kept.public_id, "text": kept.text, "built_at": iso(kept.built_at)}
        if not read.draft:
            return {"muxi_user_id": kept.public_id, "text": "", "built_at": None}
        try:
            text = read.draft
            if self._writer is not None:
                text = await self._writer.write(read.draft, read.facts, read.preferences)
        except ModelError:
            now = self._access.runner.clock.now()  # nothing is kept: the next call asks again
            return {"muxi_user_id": kept.public_id, "text": read.draft, "built_at": iso(now)}
        text = (text.strip()[:MAX_WRITTEN] or read.draft) if is_storable(text) else read.draft

        def work(tx: Transaction, hit: Hit) -> str:
            keep(tx, hit, kept, text)
            return iso(tx.now)

        built_at = await self._access.write(reference, work, caller, create=False)
        return {"muxi_user_id": kept.public_id, "text": text, "built_at": built_at}


def _read(tx: Transaction, hit: Hit) -> _Read:
    kept = read_kept(tx, hit)
    if kept.text is not None:
        return _Read(kept)
    dialect, members = tx.database.dialect, members_cte(tx, hit)
    facts = tx.connection.execute(newest_memories(dialect, tx.formation_id, members, MAX_FACTS, IS_FACT)).all()
    recent = tx.connection.execute(newest_memories(dialect, tx.formation_id, members, RECENT_MEMORIES)).all()
    preferences = {record["key"]: record["value"] for record in read_preferences(tx, hit)}
    return _Read(kept, draft(facts, recent, preferences), facts_of(facts), preferences)
