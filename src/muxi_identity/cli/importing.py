"""``muxi users import`` and ``muxi users export-people``: everybody at once."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from muxi_identity.cli.files import NewFile
from muxi_identity.cli.output import JsonOption, print_json, problems, show
from muxi_identity.cli.people import DryRunOption
from muxi_identity.cli.progress import shown
from muxi_identity.cli.reach import ACTOR, on_formation
from muxi_identity.cli.users import ReasonOption, app
from muxi_identity.cli.wording import in_commands, json_text, visible
from muxi_identity.client.synchronous import FormationClient
from muxi_identity.errors import MuxiError
from muxi_identity.importing.csv_cells import header, lines_of
from muxi_identity.importing.lines import size_of
from muxi_identity.importing.reading import Format
from muxi_identity.models import RefusedRow

__all__ = ["app"]

_FILE = "JSON lines, CSV or Slack's users.list, packed by gzip or not; - is standard input."
_ELSEWHERE = ("refusals", "skips", "finished_before", "numbered_by")
"""What of a report is said in words."""
SOME_REFUSED = 7
"""The exit code of an import that has refused rows; the others are imported."""


@app.command("import")
@on_formation(at_once=False)
def import_people(
    formation: FormationClient,
    people: Annotated[str, typer.Argument(metavar="FILE", help=_FILE)],
    json: JsonOption = False,
    format: Annotated[Format | None, typer.Option(help="What FILE holds; else told by how it begins.")] = None,
    on_conflict: Annotated[
        Literal["raise", "absorb", "merge"],
        typer.Option(
            help="A row names several users: refuse it, join those whom only first contact made, or join any."
        ),
    ] = "raise",
    verified: Annotated[bool, typer.Option("--verified", help="You have proof of every identifier in it.")] = False,
    create_users: Annotated[
        bool, typer.Option("--create-users", help="A user_id (usr_...) that nobody has makes a user.")
    ] = False,
    no_scope: Annotated[bool, typer.Option("--no-scope", help="Link Slack's ids without their workspace.")] = False,
    ignore_column: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A column of the CSV file to be left out; several may be.")
    ] = None,
    dry_run: DryRunOption = False,
    import_id: Annotated[
        str | None, typer.Option(help="Its name, by which it goes on where it was cut off; else FILE's content is it.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="A new file for every refused row's line and why, as JSON lines.")
    ] = None,
    rejected: Annotated[
        Path | None, typer.Option(help="A new file for the refused rows themselves, to be mended and imported.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    reason: ReasonOption = None,
) -> None:
    """Link many people's identifiers, a row a person: JSON lines, CSV, a Slack workspace.

    Rows that cannot be linked are refused and reported, the others go on. The
    same command again goes on where an import was cut off; after its end it
    tries once more what was refused, and leaves the others as they are. Exits
    with 7 where rows were refused.

    Look first: muxi users import people.csv --dry-run
    """
    with contextlib.ExitStack() as stack:
        told = _Told(*(None if path is None else stack.enter_context(NewFile(path)) for path in (report, rejected)))
        source = sys.stdin.buffer if people == "-" else people
        on_progress = None if quiet or json else stack.enter_context(shown(problems, sized=_is_sized(people)))
        try:
            result = formation.import_users(
                source,
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
        except MuxiError as error:
            if error.retryable and not dry_run:
                typer.echo("What is done stays: the same command goes on from there.", err=True)
            raise
    told.check(result["refused"])
    if result["finished_before"] is not None and result["resumed"] == result["rows"]:
        typer.echo(
            f"Nothing was done: the import {result['import_id']} came to its end at {result['finished_before']}. "
            "Without --import-id, or with another one, the file is imported anew.",
            err=True,
        )
    if json:
        print_json(result)
    else:
        show({name: value for name, value in result.items() if name not in _ELSEWHERE}, as_json=False)
        for note in result["refusals"][:20]:
            typer.echo(f"{result['numbered_by']} {note['line']}: {visible(in_commands(note['message']))}", err=True)
    if result["refused"]:
        raise typer.Exit(SOME_REFUSED)


@app.command("export-people")
@on_formation()
def export_people(
    formation: FormationClient,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new file, readable by you alone; else standard output.")
    ] = None,
    format: Annotated[
        Literal["jsonl", "csv"], typer.Option(help="A person a line, or for spreadsheets an identifier a line.")
    ] = "jsonl",
) -> None:
    """Write everybody in rows that `muxi users import --create-users` takes. Keys are left out."""
    with contextlib.nullcontext(sys.stdout.buffer) if output is None else NewFile(output) as file:
        if format == "csv":
            file.write(header())
        for person in formation.export_users():
            file.write(lines_of(person) if format == "csv" else _line(person))


class _Told:
    """Writes each refused row to the files that were asked for."""

    def __init__(self, report: NewFile | None, rejected: NewFile | None) -> None:
        self._report = report
        self._rejected = rejected
        self._written = [0, 0]

    def __call__(self, row: RefusedRow) -> None:
        if self._report is not None:
            self._report.write(_line({name: row[name] for name in ("line", "code", "message")}))
            self._written[0] += 1
        if self._rejected is not None and row["row"]:
            if row["header"] and not self._written[1]:
                self._rejected.write(row["header"] + b"\n")
            self._rejected.write(row["row"] + b"\n")
            self._written[1] += 1

    def check(self, refused: int) -> None:
        """Say what is not in the files that should be."""
        for file, number in zip((self._report, self._rejected), self._written, strict=True):
            if file is not None and number < refused:
                typer.echo(
                    f"{file.path} has {number} of {refused} refused rows: a server tells of the first thousand, and of "
                    "no rows that came from standard input; of what is over a MiB nothing is kept.",
                    err=True,
                )


def _is_sized(people: str) -> bool:
    return Path(people).is_file() if people != "-" else size_of(sys.stdin.buffer) is not None


def _line(value: Mapping[str, Any]) -> bytes:
    return json_text(value).encode() + b"\n"
