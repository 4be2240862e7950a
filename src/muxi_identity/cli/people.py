"""``muxi users``, the second half: one person or two, why, and everything about one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from muxi_identity.cli.files import NewFile
from muxi_identity.cli.output import (
    IdentifierArgument,
    JsonOption,
    parse_argument,
    print_json,
    show,
    show_cursor,
    show_rows,
)
from muxi_identity.cli.reach import ACTOR, on_formation
from muxi_identity.cli.users import ReasonOption, app
from muxi_identity.cli.wording import json_text, visible
from muxi_identity.client.synchronous import FormationClient

__all__ = ["app"]

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Write nothing; show what would happen.")]


@app.command("merge")
@on_formation()
def merge(
    formation: FormationClient,
    primary: IdentifierArgument,
    secondary: IdentifierArgument,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
    reason: ReasonOption = None,
) -> None:
    """Make one person of two; the first answers for both."""
    result = formation.merge_users(
        parse_argument(primary), parse_argument(secondary), dry_run=dry_run, source=ACTOR, reason=reason
    )
    show(result, as_json=json)


@app.command("unmerge")
@on_formation()
def unmerge(
    formation: FormationClient,
    merge_id: Annotated[str, typer.Argument(metavar="MERGE_ID", help="mrg_..., as the merge gave it.")],
    json: JsonOption = False,
    dry_run: DryRunOption = False,
    reason: ReasonOption = None,
) -> None:
    """Undo one merge, whatever was merged since."""
    result = formation.unmerge_users(merge_id, dry_run=dry_run, source=ACTOR, reason=reason)
    show(result, as_json=json)


@app.command("split")
@on_formation()
def split(
    formation: FormationClient,
    user: IdentifierArgument,
    identifiers: Annotated[list[str], typer.Argument(metavar="IDENTIFIER...", help="What was linked by mistake.")],
    json: JsonOption = False,
    dry_run: DryRunOption = False,
    reason: ReasonOption = None,
) -> None:
    """Give identifiers to a new user, with all that was recorded through them."""
    result = formation.split_user(
        parse_argument(user),
        [parse_argument(each) for each in identifiers],
        dry_run=dry_run,
        source=ACTOR,
        reason=reason,
    )
    show(result, as_json=json)


@app.command("explain")
@on_formation()
def explain(
    formation: FormationClient, one: IdentifierArgument, other: IdentifierArgument, json: JsonOption = False
) -> None:
    """Say why two identifiers are one person, or why not."""
    found = formation.explain(parse_argument(one), parse_argument(other))
    if json:
        print_json(found)
    else:
        typer.echo(visible(found["text"], lines=True))


@app.command("history")
@on_formation()
def history(
    formation: FormationClient,
    user: IdentifierArgument,
    json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
) -> None:
    """Show what happened to a person, newest first."""
    page = formation.get_user_history(parse_argument(user), limit=limit, cursor=cursor)
    if json:
        print_json(page)
        return
    show_rows(
        page["events"], ("at", "event", "other_user_id", "actor", "source", "reason"), nothing="Nothing happened."
    )
    show_cursor(page["next_cursor"])


@app.command("export")
@on_formation()
def export(
    formation: FormationClient,
    user: IdentifierArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file, readable by you alone; else standard output.")
    ] = None,
) -> None:
    """Write everything that is kept of a person as one JSON archive."""
    archive = formation.export_user(parse_argument(user))
    if output is None:
        print_json(archive)
        return
    with NewFile(output) as file:
        file.write(json_text(archive, indent=2).encode() + b"\n")


@app.command("erase")
@on_formation()
def erase(
    formation: FormationClient,
    user: IdentifierArgument,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
    include_merged: Annotated[
        bool, typer.Option("--include-merged", help="Erase the users that were merged into it as well.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: ReasonOption = None,
) -> None:
    """Delete a person with everything that is theirs. It cannot be undone."""
    who = parse_argument(user)
    if not dry_run and not yes:
        counted = formation.delete_user(who, dry_run=True)
        who = counted["muxi_user_id"]  # what is asked about, whoever the identifier means by then
        typer.confirm(f"Erase {visible(who)} with {counted['rows_deleted']} rows?", abort=True, err=True)
    result = formation.delete_user(who, include_merged=include_merged, dry_run=dry_run, source=ACTOR, reason=reason)
    show(result, as_json=json)
