"""People by the thousand: in from files, directories and Slack workspaces, and out again.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from collections.abc import Sequence

from muxi_identity.client.asynchronous.importing import AsyncImportCalls
from muxi_identity.client.blocking import BlockingCalls
from muxi_identity.client.exports import UserExport
from muxi_identity.identity.deciding import OnConflict
from muxi_identity.importing.reading import Format, Source
from muxi_identity.importing.telling import OnProgress, OnRefused
from muxi_identity.models import ImportReport


class ImportCalls(BlockingCalls):
    """Calls about everybody."""

    _async: AsyncImportCalls

    def import_users(
        self,
        people: Source,
        *,
        format: Format | None = None,
        on_conflict: OnConflict = "raise",
        verified: bool = False,
        create_users: bool = False,
        scoped: bool = True,
        ignore_columns: Sequence[str] = (),
        dry_run: bool = False,
        import_id: str | None = None,
        on_progress: OnProgress | None = None,
        on_refused: OnRefused | None = None,
        source: str | None = None,
        reason: str | None = None,
    ) -> ImportReport:
        """Link many people's identifiers: what :meth:`associate_user_identifiers` does, for each row.

        ``people`` is a path, an open file, or an iterable (asynchronous too) of rows such as ``{"identifiers": [...],
        "user_id": ..., "verified": ..., "metadata": ..., "external_id": ...}``, of members of a Slack workspace, or of
        pages of Slack's ``users.list``. ``format`` of a file is ``"jsonl"``, ``"csv"`` or ``"json"``, and guessed where
        it is left out; gzip is unpacked. ``on_conflict`` and ``verified`` are those of each link. ``create_users``
        makes a user of a ``user_id`` that nobody has. ``scoped=False`` links Slack's ids without their workspace.
        ``ignore_columns`` names columns of a CSV file that are no identifiers.

        A row that cannot be linked is refused and reported with its line; the others go on. Rows are written in
        batches, in the order of the source as far as it makes a difference, and memory stays bounded. An import that
        was cut off goes on where it stood when it is begun again with the same ``import_id`` and rows; a file has one
        by its content, of others the report tells it. After its end, one of an id that you gave is only reported again
        (``finished_before`` is set then), and a file without one is imported anew: what is known stays as it is, what
        was refused is tried again. ``dry_run`` writes nothing and reports what would be. ``on_progress`` is called
        after each batch at the latest (of a file with the bytes that were read), ``on_refused`` for each refused row,
        on the event loop.

        Raises:
            InvalidRequestError: The source cannot be read, an argument has the wrong shape, or the id belongs to
                another import.
            RequestInProgressError: The same import was begun again elsewhere, and goes on there.
            IdentityChangedError: Others kept changing the same people; begin it again, and it goes on.

        >>> workspace = {"members": [{"id": "U98765ABC", "team_id": "T012", "profile": {"email": "alice@email.com"}}]}
        >>> report = formation.import_users(workspace)
        >>> report["created"], report["linked"], report["refused"]
        (1, 2, 0)
        """
        return self._run(
            self._async.import_users(
                people,
                format=format,
                on_conflict=on_conflict,
                verified=verified,
                create_users=create_users,
                scoped=scoped,
                ignore_columns=ignore_columns,
                dry_run=dry_run,
                import_id=import_id,
                on_progress=on_progress,
                on_refused=on_refused,
                source=source,
                reason=reason,
            )
        )

    def export_users(self) -> UserExport:
        """Return everybody, to be iterated over, in the rows that :meth:`import_users` takes.

        Read page by page: who comes or changes meanwhile is met once or not at all. Keys are left out, and a user who
        was merged is part of whom it was merged into. Imported elsewhere with ``create_users=True``, people keep their
        public ids.

        >>> linked = formation.associate_user_identifiers(["alice@email.com"], verified=True)
        >>> for person in formation.export_users():
        ...     print(person["identifiers"])
        [{'identifier': 'alice@email.com', 'type': 'email', 'verified': True}]
        """
        return UserExport(self._run, self._async.export_users())
