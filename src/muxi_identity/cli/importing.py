"""``muxi users import`` and ``muxi users export-people``: everybody at once."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from muxi_identity.cli.output import JsonOption, print_json, problems, show
from muxi_identity.cli.people import DryRunOption
from muxi_identity.cli.reach import ACTOR, on_formation
from muxi_identity.cli.users import ReasonOption, app
from muxi_identity.cli.wording import in_commands, json_text, visible
from muxi_identity.client.synchronous import FormationClient
from muxi_identity.importing.lines import Text
from muxi_identity.importing.reading import Format, guess
from muxi_identity.models import ImportProgress, RefusedRow

__all__ = ["app"]

SOME_REFUSED = 7
"""The exit code of an import that has refused rows; the others are imported."""


@app.command("import")
@on_formation()
def import_people(
    formation: FormationClient,
    people: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines, CSV, Slack's users.list; - is stdin.")],
    json: JsonOption = False,
    format: Annotated[Format | None, typer.Option(help="What FILE holds. [by how it begins]")] = None,
    on_conflict: Annotated[
        Literal["raise", "absorb", "merge"], typer.Option(help="What to do where a row names different users.")
    ] = "raise",
    verified: Annotated[bool, typer.Option("--verified", help="You have proof of all of it.")] = False,
    create_users: Annotated[
        bool, typer.Option("--create-users", help="Make a user of a user_id that nobody has.")
    ] = False,
    no_scope: Annotated[bool, typer.Option("--no-scope", help="Link Slack's ids without their workspace.")] = False,
    ignore_column: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A column of the CSV file to be left out; several may be.")
    ] = None,
    dry_run: DryRunOption = False,
    import_id: Annotated[str | None, typer.Option(help="The import's name, to go on with it. [FILE's content]")] = None,
    report: Annotated[
        Path | None, typer.Option(help="A new file for every refused row's line and why, as JSON lines.")
    ] = None,
    rejected: Annotated[
        Path | None, typer.Option(help="A new file for the refused rows themselves, to be mended and imported.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    reason: ReasonOption = None,
) -> None:
    """Link many people's identifiers, a row a person. Rows that cannot be linked are reported, the others go on.

    Begun again with the same file, an import that was cut off goes on where it stood. Exits with 7 where rows were
    refused.
    """
    with contextlib.ExitStack() as stack:
        told = _Told(stack, report, rejected, people, format)
        on_progress = None if quiet else stack.enter_context(_shown_progress())
        result = formation.import_users(
            sys.stdin.buffer if people == "-" else people,
            format=format,
            on_conflict=on_conflict,
            verified=verified,
            create_users=create_users,
            scoped=not no_scope,
            ignore_columns=ignore_column or (),
            dry_run=dry_run,
            import_id=import_id,
            on_progress=on_progress,
            on_refused=told,
            source=ACTOR,
            reason=reason,
        )
        told.check(result["refused"])
    if json:
        print_json(result)
    else:
        show({name: value for name, value in result.items() if name not in ("refusals", "skips")}, as_json=False)
        for note in result["refusals"][:20]:
            typer.echo(f"line {note['line']}: {visible(in_commands(note['message']))}", err=True)
    if result["refused"]:
        raise typer.Exit(SOME_REFUSED)


@app.command("export-people")
@on_formation()
def export_people(
    formation: FormationClient,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new file, readable by you alone; else standard output.")
    ] = None,
) -> None:
    """Write everybody as JSON lines that `muxi users import` takes. Keys are left out."""
    with contextlib.ExitStack() as stack:
        file = sys.stdout if output is None else _new_file(stack, output)
        for person in formation.export_users():
            file.write(json_text(person) + "\n")


class _Told:
    """Writes each refused row to the files that were asked for."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        report: Path | None,
        rejected: Path | None,
        people: str,
        format: Format | None,
    ) -> None:
        self._header = "" if rejected is None else _header_of(people, format)
        self._report = None if report is None else _new_file(stack, report)
        self._rejected = None if rejected is None else _new_file(stack, rejected)
        self._paths = (report, rejected)
        self._written = [0, 0]

    def __call__(self, row: RefusedRow) -> None:
        if self._report is not None:
            note = {"line": row["line"], "code": row["code"], "message": row["message"]}
            self._report.write(json_text(note) + "\n")
            self._written[0] += 1
        if self._rejected is not None and row["row"]:
            self._rejected.write(self._header + row["row"] + "\n")
            self._header = ""
            self._written[1] += 1

    def check(self, refused: int) -> None:
        """Say what is not in the files that should be."""
        for path, number in zip(self._paths, self._written, strict=True):
            if path is not None and number < refused:
                typer.echo(
                    f"{path} has {number} of {refused} refused rows: a server tells of the first thousand, their lines "
                    "alone, and of what is over a MiB nothing is kept.",
                    err=True,
                )


def _header_of(people: str, format: Format | None) -> str:
    """Return the line that a CSV file begins with: without it the refused rows could not be read again."""
    if people == "-" or not Path(people).is_file():
        return ""
    text = Text(Path(people))
    try:
        if (format or guess(text.head)) != "csv":
            return ""
        first = next((line.text for line in text.lines() if line.text is None or line.text.strip()), None)
    finally:
        text.close()
    return "" if first is None else first.decode("utf-8", "replace") + "\n"


def _new_file(stack: contextlib.ExitStack, path: Path) -> IO[str]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        typer.echo(f"{path} cannot be written ({error.strerror}); name a file that is not there yet.", err=True)
        raise typer.Exit(2) from None
    return stack.enter_context(os.fdopen(descriptor, "w", encoding="utf-8"))


@contextlib.contextmanager
def _shown_progress() -> Iterator[Callable[[ImportProgress], Any]]:
    """Show how far it is: in place on a terminal, else a line now and then."""
    if not problems.is_terminal:
        yield _Lines()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=problems, transient=True) as progress:
        task = progress.add_task("reading")
        yield lambda told: progress.update(task, description=_said(told))


class _Lines:
    """Prints a line when there are half as many rows again as at the last one."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, told: ImportProgress) -> None:
        if told["rows"] >= self._next:
            typer.echo(_said(told), err=True)
            self._next = max(told["rows"] * 3 // 2, 10_000)


def _said(told: ImportProgress) -> str:
    return f"{told['rows']:,} rows: {told['created']:,} users made, {told['refused']:,} refused"
