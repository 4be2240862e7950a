"""An import from beginning to end: batches of rows, each settled in one transaction with the record of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar

from muxi_identity.errors import (
    AmbiguousIdentifierError,
    ConflictError,
    IdentityChangedError,
    InvalidRequestError,
    NotFoundError,
    RequestInProgressError,
)
from muxi_identity.identifiers import PublicId
from muxi_identity.identity.associating import Associator
from muxi_identity.identity.history import Event, told_as
from muxi_identity.identity.linking import Linked, link
from muxi_identity.identity.outbox import announce_import
from muxi_identity.identity.people import is_taken_id, new_user
from muxi_identity.identity.running import Caller, Runner, identity_changed
from muxi_identity.identity.transaction import Transaction
from muxi_identity.importing.batches import Batch, Batches
from muxi_identity.importing.entries import Entry
from muxi_identity.importing.reading import Reading
from muxi_identity.importing.records import Record, Standing
from muxi_identity.importing.rows import Note, Options, Row, RowParser, refusal
from muxi_identity.importing.sorting import Sorted, sort_rows
from muxi_identity.importing.telling import Listeners, Teller
from muxi_identity.importing.writing import write_people
from muxi_identity.models import ImportReport, iso
from muxi_identity.storage.errors import ConstraintViolated
from muxi_identity.storage.tables import history, identifiers, users

T = TypeVar("T")

WORTH_COUNTING = 10_000
"""Identifiers linked by one import until the database counts its tables anew."""
_ATTEMPTS = 10
_TELL_EVERY = 100
"""Rows that are linked one by one: thousands of them take a while."""
_TOLD_TOGETHER = (told_as(Event.USER_CREATE), told_as(Event.IDENTIFIER_LINK))


class Importer:
    """Runs one import over one formation.

    ``prepare`` is awaited with each batch before it is looked at: a rehearsal fetches what the batch speaks of.
    """

    def __init__(
        self,
        runner: Runner,
        associator: Associator,
        options: Options,
        record: Record,
        caller: Caller,
        listeners: Listeners,
        prepare: Callable[[Sequence[Row]], Awaitable[None]] | None = None,
    ) -> None:
        self._runner = runner
        self._associator = associator
        self._options = options
        self._record = record
        self._caller = caller
        self._listeners = listeners
        self._prepare = prepare
        self._standing = Standing()
        self._last_at = 0
        self._teller: Teller

    async def run(
        self, reading: Reading, given: AsyncIterator[Any] | None, fingerprint: bytes, *, anew: bool = False
    ) -> ImportReport:
        """Import what ``reading`` yields, or what ``given`` does, from where the record stands.

        ``anew``: one that came to its end begins again.

        Raises:
            InvalidRequestError: The source cannot be read on, or is not what was imported before under this id.
            RequestInProgressError: The same import was begun again elsewhere.
            StorageUnavailableError: The database does not answer; what was done stays, and the import can be resumed.
        """
        begun = await self._runner.change(lambda tx: self._record.begin(tx, fingerprint, anew=anew), self._caller)
        self._standing = begun
        self._teller = Teller(self._listeners, self._record.import_id, reading, begun.settled)
        parser = RowParser(self._runner.rules, self._runner.bucket, self._options)
        batches = Batches(reading, given, parser, self._runner.bucket)
        try:
            if begun.done:
                await self._resume(batches, begun, reading, parser)
            while (batch := await self._next(batches, reading)).rows:
                await self._settle(batch)
        finally:
            await batches.close()
        report = await self._runner.change(partial(self._finish, begun=begun, reading=reading), self._caller)
        if self._standing.counts.linked - begun.counts.linked >= WORTH_COUNTING:
            await self._runner.database.analyze([users, identifiers, history])
        return report

    async def _next(self, batches: Batches, reading: Reading) -> Batch:
        try:
            return await batches.next()
        except InvalidRequestError as error:
            if not reading.is_text:  # an iteration of the caller's has raised it
                raise
            raise InvalidRequestError(f"{error.message} {self._how_far()}") from None

    def _how_far(self) -> str:
        rows = self._standing.settled
        if not rows:
            return "No row came before that."
        if self._prepare is not None:
            return f"Rows before that: {rows:,}. They were tried; in a dry run, nothing is imported."
        return f"Rows before that: {rows:,}. They are imported, but for those that were refused."

    async def _resume(self, batches: Batches, standing: Standing, reading: Reading, parser: RowParser) -> None:
        """Pass over what is done, and link what the last batch has left over."""
        left: list[Row] = []
        async for entries, rows in batches.pass_over(standing):
            left += rows
            await self._tell_again(entries, parser)
            self._teller.progress(self._standing, reading.taken)
        if left:
            first, last = left[0].position, left[-1].position
            await self._link_all(left, self._time(last - first + 1) - first, reading.taken)

    async def _tell_again(self, entries: Sequence[Entry], parser: RowParser) -> None:
        """Tell of the rows that an earlier run has refused."""
        if not self._standing.counts.refused:
            return
        first, last = entries[0].line, entries[-1].line
        notes = await self._runner.read(
            lambda tx: self._record.notes(tx, "refused", after=first - 1, limit=last - first + 1)
        )
        rows = {entry.line: entry for entry in entries}
        for note in notes:
            if note["line"] in rows:
                entry = rows[note["line"]]
                # What is wrong with a row itself can be said again; what it met with, that run alone knew.
                told = parser.parse(entry, 0).note
                if told is None or told.code != note["code"]:
                    told = Note(entry.line, "refused", note["code"], note["message"], entry.raw)
                self._teller.refused(told)

    async def _settle(self, batch: Batch) -> None:
        if self._prepare is not None:
            await self._prepare(batch.rows)
        at = self._time(len(batch.rows))
        base = self._standing
        done, self._standing = await self._change(lambda tx: self._write(tx, batch, base), at)
        self._forget_secrets(batch.rows)
        for row in batch.rows:
            if row.note is not None:
                self._teller.refused(row.note)
        await self._link_all(done.ordinary, at - batch.rows[0].position, batch.read)

    def _write(self, tx: Transaction, batch: Batch, base: Standing) -> tuple[Sorted, Standing]:
        """Settle all rows of a batch that nothing has to be decided about, and note which are left."""
        self._record.hold(tx)
        rows = sort_rows(tx, batch.rows, self._options)
        linked = write_people(tx, rows.new, batch.rows[0].position)
        notes = [row.note for row in batch.rows if row.note is not None]
        counts = base.counts.plus(
            created=len(rows.new),
            linked=linked,
            known=len(rows.known),
            **{kind: sum(note.kind == kind for note in notes) for kind in ("skipped", "refused")},
        )
        pending = [row.position for row in rows.ordinary]
        standing = Standing(base.done + len(batch.rows), pending, 0, counts, batch.digest)
        self._record.write(tx, standing, notes)
        return rows, standing

    async def _link_all(self, rows: Sequence[Row], at: int, read: int | None) -> None:
        """Link rows one by one, ``at`` being the time of position 0; tell how far it is meanwhile, and at the end."""
        for number, row in enumerate(rows, 1):
            await self._link(row, at + row.position)
            if number % _TELL_EVERY == 0 and number < len(rows):
                self._teller.progress(self._standing, read)
        self._teller.progress(self._standing, read)

    async def _link(self, row: Row, at: int) -> None:
        """Link one row as :meth:`Associator.associate` does, in a transaction of its own with the record of it."""
        base = replace(self._standing, pending_done=self._standing.pending_done + 1)
        note = row.note
        if note is None:
            try:
                target = await self._associator.target(None if isinstance(row.user, PublicId) else row.user)
                self._standing = await self._change(lambda tx: self._link_one(tx, row, target, base), at)
            except (IdentityChangedError, RequestInProgressError):
                raise
            except (InvalidRequestError, AmbiguousIdentifierError, NotFoundError, ConflictError) as error:
                note = refusal(row, error)
        if note is not None:
            self._standing = await self._change(partial(self._refuse, base=base, note=note), at)
            self._teller.refused(note)
        self._forget_secrets([row])

    def _link_one(self, tx: Transaction, row: Row, target: str | None, base: Standing) -> Standing:
        self._record.hold(tx)
        tx.subscriptions = tx.subscriptions.without(*_TOLD_TOGETHER)
        created = False
        if isinstance(row.user, PublicId):
            target = row.user.user_id
            if self._options.create_users and tx.find_member(target) is None:
                new_user(tx, established=True, user_id=target)
                created = True
        if row.identifiers:
            linked = link(tx, row.identifiers, target, self._options.on_conflict, row.verified)
        else:
            linked = Linked(target or "")
        created |= linked.created
        counts = base.counts.plus(
            created=int(created),
            linked=len(linked.new),
            merged=len(linked.merge_ids),
            known=int(not (created or linked.new or linked.merge_ids)),
        )
        standing = replace(base, counts=counts)
        self._record.write(tx, standing)
        return standing

    def _refuse(self, tx: Transaction, base: Standing, note: Note) -> Standing:
        self._record.hold(tx)
        standing = replace(base, counts=base.counts.plus(refused=1))
        self._record.write(tx, standing, [note])
        return standing

    def _finish(self, tx: Transaction, begun: Standing, reading: Reading) -> ImportReport:
        self._record.hold(tx)
        counts = asdict(self._standing.counts)
        if begun.finished_at is None or self._standing is not begun:
            self._record.write(tx, self._standing, finished=True)
            announce_import(tx, self._record.import_id, counts)
        return {
            "import_id": self._record.import_id,
            "dry_run": False,
            "rows": self._standing.done,
            "resumed": begun.settled,
            "finished_before": None if begun.finished_at is None else iso(begun.finished_at),
            "numbered_by": reading.numbered_by,
            **counts,  # type: ignore[typeddict-item]
            "refusals": self._teller.explained(self._record.notes(tx, "refused")),
            "skips": self._record.notes(tx, "skipped"),
        }

    async def _change(self, work: Callable[[Transaction], T], at: int) -> T:
        for _ in range(_ATTEMPTS):
            try:
                return await self._runner.change(work, self._caller, at=at)
            except ConstraintViolated as error:
                if not is_taken_id(error):
                    raise
                # Somebody made a user of the same public id just now: next time it is known.
        raise identity_changed()

    def _time(self, number: int) -> int:
        """Return a time for ``number`` rows, a microsecond each, after all that came before."""
        at = max(self._runner.clock.now(), self._last_at + 1)
        self._last_at = at + number
        return at

    def _forget_secrets(self, rows: Sequence[Row]) -> None:
        # A key may have written in bare, when nobody knew it for a secret.
        for row in rows:
            for each in row.identifiers:
                if each.secret:
                    self._runner.cache.forget(each.fold)
