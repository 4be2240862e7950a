"""The record of an import: how far it has come, written by the transactions that do it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from sqlalchemy import delete, insert, select, update
from sqlalchemy.sql import ColumnElement

from muxi_identity.errors import InvalidRequestError, RequestInProgressError
from muxi_identity.identity.transaction import Transaction
from muxi_identity.importing.rows import SKIPPED, Note
from muxi_identity.models import ImportNote
from muxi_identity.storage.tables import import_notes, imports

KEEP_SECONDS = 30 * 86_400
"""How long an import is remembered after its last step."""
MOST_NOTES = 1_000
"""Of each kind, in a report."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was done so far; see :class:`muxi_identity.models.ImportReport`."""

    created: int = 0
    linked: int = 0
    known: int = 0
    merged: int = 0
    skipped: int = 0
    refused: int = 0

    def plus(self, **more: int) -> Counts:
        """Return these with ``more``."""
        return Counts(**{name: value + more.get(name, 0) for name, value in asdict(self).items()})


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an import has come.

    The first ``done`` rows are settled, but for those of ``pending`` (positions, the last of the batch) from
    ``pending_done`` on. ``digest`` stands for these rows.
    """

    done: int = 0
    pending: Sequence[int] = ()
    pending_done: int = 0
    counts: Counts = field(default_factory=Counts)
    digest: bytes = b""
    finished_at: int | None = None
    """When it came to its end, if it did (microseconds)."""

    @property
    def settled(self) -> int:
        """How many rows need nothing more."""
        return self.done - len(self.pending) + self.pending_done


class Record:
    """The record of one import, for whoever has the claim."""

    def __init__(self, import_id: str, claim: str) -> None:
        self.import_id = import_id
        self._claim = claim

    def begin(self, tx: Transaction, fingerprint: bytes, *, anew: bool = False) -> Standing:
        """Make the record, or take it over with all that it says; ``anew``: but for that of one that came to its end.

        Raises:
            InvalidRequestError: The id belongs to an import that was to be done otherwise.
            RaceLost: Another process made it just now.
        """
        self._forget_old(tx)
        statement = select(imports).where(self._mine(tx))
        row = tx.connection.execute(statement.with_for_update() if tx.database.lock_rows else statement).one_or_none()
        if row is None:
            start = Standing()
            tx.connection.execute(
                insert(imports).values(
                    formation_id=tx.formation_id,
                    import_id=self.import_id,
                    fingerprint=fingerprint,
                    started_at=tx.now,
                    **self._values(tx, start),
                )
            )
            return start
        if row.fingerprint != fingerprint:
            raise InvalidRequestError(
                "That import_id belongs to an import with other options; use the same ones, or another id."
            )
        if anew and row.finished_at is not None:
            start = Standing()
            notes = (import_notes.c.formation_id == tx.formation_id) & (import_notes.c.import_id == self.import_id)
            tx.connection.execute(delete(import_notes).where(notes))
            fresh = {**self._values(tx, start), "started_at": tx.now, "finished_at": None}
            tx.connection.execute(update(imports).where(self._mine(tx)).values(**fresh))
            return start
        tx.connection.execute(update(imports).where(self._mine(tx)).values(claim=self._claim, updated_at=tx.now))
        return Standing(
            row.done,
            json.loads(row.pending),
            row.pending_done,
            Counts(**json.loads(row.counts)),
            row.digest,
            row.finished_at,
        )

    def hold(self, tx: Transaction) -> None:
        """Keep the record from being taken over until the transaction ends.

        Raises:
            RequestInProgressError: It was taken over.
        """
        statement = select(imports.c.claim).where(self._mine(tx))
        claim = tx.connection.execute(statement.with_for_update() if tx.database.lock_rows else statement).scalar()
        if claim != self._claim:
            raise RequestInProgressError(
                "The same import was begun again elsewhere, and goes on there; this one has stopped."
            )

    def write(self, tx: Transaction, standing: Standing, notes: Sequence[Note] = (), *, finished: bool = False) -> None:
        """Write how far it has come now, with the notes that came since. It is held."""
        values = self._values(tx, standing)
        values["finished_at"] = tx.now if finished else None
        tx.connection.execute(update(imports).where(self._mine(tx)).values(**values))
        tx.database.insert_rows(
            tx.connection,
            import_notes,
            ("formation_id", "import_id", "line", "kind", "code"),
            [(tx.formation_id, self.import_id, note.line, note.kind, note.code) for note in notes],
        )

    def notes(self, tx: Transaction, kind: str, *, after: int = 0, limit: int = MOST_NOTES) -> list[ImportNote]:
        """Return the notes of a kind by line. Why a row was refused in a sentence is known to the run that did."""
        statement = (
            select(import_notes.c.line, import_notes.c.code)
            .where(
                import_notes.c.formation_id == tx.formation_id,
                import_notes.c.import_id == self.import_id,
                import_notes.c.kind == kind,
                import_notes.c.line > after,
            )
            .order_by(import_notes.c.line)
            .limit(limit)
        )
        return [
            {
                "line": row.line,
                "code": row.code,
                "message": SKIPPED.get(row.code, f"Refused by an earlier run: {row.code}."),
            }
            for row in tx.connection.execute(statement)
        ]

    def _values(self, tx: Transaction, standing: Standing) -> dict[str, object]:
        return {
            "digest": standing.digest,
            "done": standing.done,
            "pending": json.dumps(list(standing.pending)),
            "pending_done": standing.pending_done,
            "counts": json.dumps(asdict(standing.counts)),
            "claim": self._claim,
            "updated_at": tx.now,
        }

    def _mine(self, tx: Transaction) -> ColumnElement[bool]:
        return (imports.c.formation_id == tx.formation_id) & (imports.c.import_id == self.import_id)

    def _forget_old(self, tx: Transaction) -> None:
        old = (imports.c.formation_id == tx.formation_id) & (imports.c.updated_at < tx.now - KEEP_SECONDS * 1_000_000)
        ids = select(imports.c.import_id).where(old, imports.c.import_id != self.import_id)
        gone = list(tx.connection.execute(ids).scalars())
        for table in (import_notes, imports) if gone else ():
            tx.connection.execute(
                delete(table).where(table.c.formation_id == tx.formation_id, table.c.import_id.in_(gone))
            )
