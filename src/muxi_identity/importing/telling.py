"""Who is told while an import goes on, and what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from muxi_identity.importing.reading import Reading
from muxi_identity.importing.records import MOST_NOTES, Standing
from muxi_identity.importing.rows import Note
from muxi_identity.models import ImportNote, ImportProgress, RefusedRow

OnProgress = Callable[[ImportProgress], object]
OnRefused = Callable[[RefusedRow], object]


@dataclass(slots=True)
class Listeners:
    """Who is told while an import goes on, on its event loop. What they raise ends it; it can be resumed."""

    on_progress: OnProgress | None = None
    on_refused: OnRefused | None = None


class Teller:
    """Tells the listeners of one run of an import, and remembers why it has refused what it refused."""

    def __init__(self, listeners: Listeners, import_id: str, reading: Reading, resumed: int) -> None:
        self._listeners = listeners
        self._import_id = import_id
        self._header, self._size = reading.header, reading.size
        self._resumed = resumed
        self._reasons: dict[int, str] = {}

    def progress(self, standing: Standing, read: int | None) -> None:
        """Tell how far it is."""
        if self._listeners.on_progress is not None:
            self._listeners.on_progress(
                {
                    "import_id": self._import_id,
                    "rows": standing.settled,
                    "resumed": self._resumed,
                    "read": read,
                    "size": self._size,
                    **asdict(standing.counts),  # type: ignore[typeddict-item]
                }
            )

    def refused(self, note: Note) -> None:
        """Tell of a row that was refused; other notes are told of by the report alone."""
        if note.kind != "refused":
            return
        if len(self._reasons) < MOST_NOTES:
            self._reasons[note.line] = note.message
        if self._listeners.on_refused is not None:
            self._listeners.on_refused(
                {
                    "line": note.line,
                    "code": note.code,
                    "message": note.message,
                    "row": note.raw,
                    "header": self._header,
                }
            )

    def explained(self, notes: list[ImportNote]) -> list[ImportNote]:
        """Return the recorded notes with the sentences that were told."""
        return [{**note, "message": self._reasons.get(note["line"], note["message"])} for note in notes]
