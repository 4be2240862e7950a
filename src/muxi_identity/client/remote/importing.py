"""Everybody at once, over HTTP: files go as they are, rows as lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import IO, Any, Protocol

from muxi_identity.client.remote.asking import Ask, CallerLike, checked_cursor
from muxi_identity.client.remote.people import notes_of
from muxi_identity.client.remote.transport import Transport
from muxi_identity.errors import InvalidRequestError
from muxi_identity.importing.lines import size_of
from muxi_identity.importing.reading import Reading, describe, name_import
from muxi_identity.models import ImportNote, ImportReport, PersonPage
from muxi_identity.paging import check_limit

_CHUNK = 1 << 16
_AT_ONCE = 200
_PIECE_SECONDS = 1.0


class OptionsLike(Protocol):
    """How an import is to be done, as the engine knows it."""

    @property
    def on_conflict(self) -> str:
        """What becomes of identifiers of different users."""

    @property
    def verified(self) -> bool:
        """Whether there is proof."""

    @property
    def create_users(self) -> bool:
        """Whether a public id that nobody has makes a user."""

    @property
    def scoped(self) -> bool:
        """Whether Slack's ids carry their workspace."""


class ListenersLike(Protocol):
    """Who is told while it goes on."""

    @property
    def on_progress(self) -> Any:
        """Told of each batch."""

    @property
    def on_refused(self) -> Any:
        """Told of each refused row."""


class RemoteImports:
    """Imports into a served formation, and exports out of it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def run(
        self,
        source: Any,
        options: OptionsLike,
        *,
        format: str | None,
        ignore_columns: Sequence[str],
        import_id: str | None,
        dry_run: bool,
        listeners: ListenersLike,
        caller: CallerLike,
        anew: bool = False,
    ) -> ImportReport:
        """Send rows, and return what the server reports at the end.

        ``on_progress`` hears of what was sent of a file, and of rows at the end alone; ``on_refused`` of the refusals
        that the report holds, with the rows of what can be read again.

        Raises:
            ServerUnavailableError: The server broke off. Begun again with the same ``import_id``, it goes on.
        """
        how = describe(
            on_conflict=options.on_conflict,
            verified=options.verified,
            create_users=options.create_users,
            scoped=options.scoped,
            format=format,
            ignore_columns=sorted(ignore_columns),
        )
        anew = anew or import_id is None
        if import_id is None and not dry_run:
            import_id = await _aside(name_import, source, how)
        query: dict[str, Any] = {
            "format": format,
            "on_conflict": options.on_conflict,
            "import_id": import_id,
            **notes_of(caller),
        }
        flags = {"verified": options.verified, "create_users": options.create_users, "dry_run": dry_run, "anew": anew}
        query.update({name: "true" for name, wanted in flags.items() if wanted})
        if not options.scoped:
            query["scoped"] = "false"
        ask = Ask("POST", "/users/import", query=query, admin=True)
        sending = _Sending(import_id or "", listeners.on_progress)
        report = await self._transport.upload(ask, _body(source, sending), ignore_columns, ImportReport)
        if not _is_file(source):
            report["numbered_by"] = "row"  # that each is a line on its way is nobody's business
        if listeners.on_refused is not None and report["refusals"]:
            header, rows = await _aside(_refused_rows, source, format, ignore_columns, report["refusals"])
            for note in report["refusals"]:
                listeners.on_refused({**note, "row": rows.get(note["line"], b""), "header": header})
        sending.end(report)
        return report

    async def page(self, limit: int, cursor: str | None) -> PersonPage:
        """Return a page of people in the shape that an import takes."""
        check_limit(limit)
        query = {"limit": limit, "cursor": checked_cursor(cursor, "export_users")}
        return await self._transport.call(Ask("GET", "/users/export/pages", query=query, admin=True), PersonPage)


class _Sending:
    """Tells how much of a file was sent."""

    def __init__(self, import_id: str, on_progress: Any) -> None:
        self._import_id = import_id
        self._on_progress = on_progress
        self._size: int | None = None
        self._sent: int | None = None

    def begin(self, size: int | None) -> None:
        """Note how many bytes there are."""
        self._size, self._sent = size, 0

    def add(self, number: int) -> None:
        """Tell that so many more were sent."""
        self._sent = (self._sent or 0) + number
        self._tell(dict.fromkeys(_COUNTS, 0), self._import_id)

    def end(self, report: ImportReport) -> None:
        """Tell what became of them."""
        self._tell({name: value for name, value in report.items() if name in _COUNTS}, report["import_id"])

    def _tell(self, counts: Mapping[str, Any], import_id: str) -> None:
        if self._on_progress is not None:
            self._on_progress({"import_id": import_id, "read": self._sent, "size": self._size, **counts})


_COUNTS = ("rows", "resumed", "created", "linked", "known", "merged", "skipped", "refused")


def _refused_rows(
    source: Any, format: Any, ignore: Sequence[str], refusals: Sequence[ImportNote]
) -> tuple[bytes, dict[int, bytes]]:
    """Return the header of a file, and the rows that a server has refused: it tells their lines alone."""
    wanted = {note["line"] for note in refusals}
    found: dict[int, bytes] = {}
    if not isinstance(source, str | os.PathLike) or Path(source).is_fifo():
        return b"", found
    try:
        reading = Reading(source, format, None, scoped=True, ignore=ignore)
    except InvalidRequestError:  # it has changed since
        return b"", found
    with contextlib.suppress(InvalidRequestError), contextlib.closing(reading):
        while len(found) < len(wanted) and (entries := reading.some(_AT_ONCE)):
            found.update({entry.line: entry.raw for entry in entries if entry.line in wanted})
    return reading.header, found


def _is_file(source: Any) -> bool:
    return isinstance(source, str | os.PathLike) or (hasattr(source, "read") and not isinstance(source, Mapping))


def _body(source: Any, sending: _Sending) -> AsyncIterator[bytes]:
    if isinstance(source, str | os.PathLike):
        return _of_path(Path(source), sending)
    if _is_file(source):
        return _of_file(source, sending)
    if isinstance(source, AsyncIterable):
        return _of_rows_to_come(source)
    rows = iter([source]) if isinstance(source, Mapping) else None
    if rows is None and isinstance(source, Iterable) and not isinstance(source, bytes | bytearray | memoryview):
        rows = iter(source)
    if rows is None:
        raise InvalidRequestError("An import takes a path, an open file, or an iterable of rows.")
    return _of_rows(rows)


async def _of_path(path: Path, sending: _Sending) -> AsyncIterator[bytes]:
    file = await _aside(_opened, path)
    try:
        async for chunk in _of_file(file, sending):
            yield chunk
    finally:
        file.close()


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidRequestError(f"{path} cannot be read ({error.strerror}).") from None


async def _of_file(file: Any, sending: _Sending) -> AsyncIterator[bytes]:
    file = getattr(file, "buffer", file)
    sending.begin(await _aside(size_of, file))
    while piece := await _aside(getattr(file, "read1", file.read), _CHUNK):
        chunk = piece.encode("utf-8", "surrogatepass") if isinstance(piece, str) else piece
        yield chunk
        sending.add(len(chunk))


async def _of_rows(rows: Iterator[Any]) -> AsyncIterator[bytes]:
    while some := await _aside(_some, rows):
        yield b"".join(_line(row) for row in some)


def _some(rows: Iterator[Any]) -> list[Any]:
    """Return the next rows: many that come quickly, few that come slowly, none at the end."""
    found: list[Any] = []
    late = monotonic() + _PIECE_SECONDS
    for row in islice(rows, _AT_ONCE):
        found.append(row)
        if monotonic() > late:
            break
    return found


async def _of_rows_to_come(rows: AsyncIterable[Any]) -> AsyncIterator[bytes]:
    async for row in rows:
        yield _line(row)


def _line(given: Any) -> bytes:
    """Return the lines of a row, or of the members of a page of Slack's users.list."""
    page = getattr(given, "data", given)
    members = page.get("members") if isinstance(page, Mapping) and "identifiers" not in page else None
    rows = members if isinstance(members, list) else [given]
    try:
        return b"".join(json.dumps(row, allow_nan=False, default=_plain).encode() + b"\n" for row in rows)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequestError("A row holds what JSON does not have.") from None


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError


async def _aside(work: Any, *arguments: Any) -> Any:
    """Run what may block in a thread."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)
