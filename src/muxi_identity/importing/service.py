"""Importing and exporting people, as a formation offers it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

from muxi_identity.errors import InvalidRequestError
from muxi_identity.identity.associating import Associator
from muxi_identity.identity.running import Caller, Runner
from muxi_identity.importing.importer import Importer
from muxi_identity.importing.listing import list_people
from muxi_identity.importing.reading import Format, Reading, Source, asynchronous, describe, name_import
from muxi_identity.importing.records import Record
from muxi_identity.importing.rehearsal import rehearsing
from muxi_identity.importing.rows import Options
from muxi_identity.importing.telling import Listeners
from muxi_identity.models import ImportReport, PersonPage
from muxi_identity.storage.worker import Worker

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Imports:
    """Imports into one formation, and exports out of it."""

    def __init__(self, runner: Runner, associator: Associator) -> None:
        self._runner = runner
        self._associator = associator

    async def run(
        self,
        source: Source,
        options: Options,
        *,
        format: Format | None,
        ignore_columns: Sequence[str],
        import_id: str | None,
        dry_run: bool,
        listeners: Listeners,
        caller: Caller,
        anew: bool = False,
    ) -> ImportReport:
        """Import people; see :class:`muxi_identity.importing.importer.Importer`.

        An import without an id is named by its content, so that one that was cut off goes on where it stood, and begins
        anew where it came to its end; ``anew``: so does the one of ``import_id``, which the caller has named so.

        Raises:
            InvalidRequestError: The source cannot be read, an argument has the wrong shape, or ``import_id`` belongs to
                another import.
            RequestInProgressError: The same import was begun again elsewhere.
        """
        if import_id is not None and not (isinstance(import_id, str) and _ID.fullmatch(import_id)):
            raise InvalidRequestError("import_id is 1 to 128 of A-Z, a-z, 0-9, '.', '_', ':' and '-'.")
        how = describe(
            on_conflict=options.on_conflict,
            verified=options.verified,
            create_users=options.create_users,
            scoped=options.scoped,
            format=format,
            ignore_columns=sorted(ignore_columns),
        )
        reader = Worker("muxi-import-open")  # files block
        try:
            anew = anew or import_id is None
            if import_id is None and not dry_run:
                import_id = await reader.run(name_import, source, how)
            reading = await reader.run(
                lambda: Reading(source, format, self._runner.rules, scoped=options.scoped, ignore=ignore_columns)
            )
        finally:
            reader.stop()
        fingerprint = self._runner.bucket.fingerprint("import options " + how)
        try:
            if dry_run:
                return await self._rehearse(source, reading, options, fingerprint, listeners, caller)
            assert import_id is not None
            record = Record(import_id, secrets.token_hex(8))
            importer = Importer(self._runner, self._associator, options, record, caller, listeners)
            return await importer.run(reading, asynchronous(source), fingerprint, anew=anew)
        finally:
            reading.close()

    async def _rehearse(
        self,
        source: Source,
        reading: Reading,
        options: Options,
        fingerprint: bytes,
        listeners: Listeners,
        caller: Caller,
    ) -> ImportReport:
        async with rehearsing(self._runner) as copy:
            record = Record("dry-run", secrets.token_hex(8))
            importer = Importer(copy.runner, copy.associator, options, record, caller, listeners, copy.prepare)
            report = await importer.run(reading, asynchronous(source), fingerprint)
        return {**report, "dry_run": True}

    async def page(self, limit: int, cursor: str | None) -> PersonPage:
        """Return a page of people in the shape that an import takes.

        Raises:
            InvalidRequestError: The limit is out of range or the cursor is none of ours.
        """
        return await self._runner.read(lambda tx: list_people(tx, limit, cursor))
