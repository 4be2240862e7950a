"""How far an import is: a bar on a terminal where its size is known, counters where not, and lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from muxi_identity.models import ImportProgress

SECONDS = 10.0
"""Between two lines, where there is no terminal."""
_Told = Callable[[ImportProgress], object]


@contextlib.contextmanager
def shown(console: Console, *, sized: bool) -> Iterator[_Told]:
    """Give what shows progress on ``console``; ``sized``: how much there is to read is known."""
    if not console.is_terminal:
        yield _Lines()
        return
    columns: tuple[ProgressColumn, ...] = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *((BarColumn(None), TaskProgressColumn(), DownloadColumn(), TimeRemainingColumn()) if sized else ()),
        *(() if sized else (TimeElapsedColumn(),)),
    )
    with Progress(*columns, console=console, transient=True, expand=sized) as progress:
        yield _Bar(progress, progress.add_task("reading", total=None))


class _Bar:
    """Moves a bar, and says beside it how many rows there were, and how many come in a second."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._before: int | None = None

    def __call__(self, told: ImportProgress) -> None:
        if self._before is None:  # rows of an earlier run are none of this one's pace
            self._before = told["resumed"]
        elapsed = self._progress.tasks[0].elapsed
        pace = (told["rows"] - self._before) / elapsed if elapsed else 0.0
        self._progress.update(
            self._task,
            description=_said(told) + (f", {pace:,.0f}/s" if pace else ""),
            completed=told["read"] or 0,
            total=told["size"],
        )


class _Lines:
    """Prints a line now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, told: ImportProgress) -> None:
        now = time.monotonic()
        if now - self._last >= SECONDS:
            self._last = now
            read, size = told["read"], told["size"]
            part = f", {100 * read / size:.0f} % of {decimal(size)}" if read is not None and size else ""
            typer.echo(_said(told) + part, err=True)


def _said(told: ImportProgress) -> str:
    if not told["rows"] and told["read"]:  # on its way to a server, which tells of rows at the end
        return "sending"
    refused = f", {told['refused']:,} refused" if told["refused"] else ""
    return f"{told['rows']:,} rows{refused}"
