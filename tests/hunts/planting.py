"""Faults that are planted in a worker or in the database, so that the checker can be shown to catch them."""

from __future__ import annotations

from collections.abc import Hashable

from sqlalchemy import text

from muxi_identity.config import FormationConfig
from muxi_identity.context import access
from muxi_identity.conversation import turn
from muxi_identity.identity.cache import Hit, Tokens
from muxi_identity.identity.coherence import polling
from muxi_identity.identity.coherence.listening import Listening
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import OWNED_TABLES
from tests.hunts.witness import connect

FENCE, NOTIFICATION, GUARD = "fence removed", "notification dropped", "guard key removed"
POLL = "file asked too seldom"


def plant_in_worker(fault: str | None) -> None:
    """Break this process for good."""
    if fault == FENCE:
        Tokens.raise_fence = _no_stripe  # type: ignore[method-assign]
        Tokens.lower_fence = _nothing  # type: ignore[method-assign]
    elif fault == NOTIFICATION:
        Listening.hear = _nothing  # type: ignore[method-assign]
    elif fault == POLL:
        polling.POLL_SECONDS *= 6
    elif fault == GUARD:
        access.hold_theirs = _dawdle
        turn.hold_theirs = _dawdle


async def plant_in_database(fault: str | None, config: FormationConfig) -> None:
    """Break the database for good."""
    if fault == GUARD:
        admin = await connect(config)
        try:
            for table in OWNED_TABLES:
                key = f"fk_{table.name.removeprefix('muxi_')}_provenance"
                await admin.execute(f"ALTER TABLE {table.name} DROP CONSTRAINT {key}")
        finally:
            await admin.close()


def _no_stripe(self: Tokens, key: Hashable) -> int:
    return 0


def _nothing(*arguments: object) -> None:
    """Stand in for what would have prevented the worst."""


def _dawdle(tx: Transaction, hit: Hit, *, alone: bool = False) -> None:
    """Hold nothing, and give others the time to come between, which they else seldom have."""
    tx.connection.execute(text("SELECT pg_sleep(0.02)"))
