"""``muxi users``, the second half: one person or two, why, and everything about one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from muxi_identity.cli.output import (
    ConfigOption,
    IdentifierArgument,
    JsonOption,
    formation_of,
    parse_argument,
    print_json,
    show,
    show_rows,
)
from muxi_identity.cli.users import ReasonOption, app

__all__ = ["app"]

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Write nothing; show what would happen.")]
_SOURCE = "command line"


@app.command("merge")
def merge(
    primary: IdentifierArgument,
    secondary: IdentifierArgument,
    config: ConfigOption = None,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
    reason: ReasonOption = None,
) -> None:
    """Make one person of two; the first answers for both."""
    with formation_of(config) as formation:
        result = formation.merge_users(
            parse_argument(primary), parse_argument(secondary), dry_run=dry_run, source=_SOURCE, reason=reason
        )
    show(result, as_json=json)


@app.command("unmerge")
def unmerge(
    merge_id: Annotated[str, typer.Argument(metavar="MERGE_ID", help="mrg_..., as the merge gave it.")],
    config: ConfigOption = None,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
    reason: ReasonOption = None,
) -> None:
    """Undo one merge, whatever was merged since."""
    with formation_of(config) as formation:
        result = formation.unmerge_users(merge_id, dry_run=dry_run, source=_SOURCE, reason=reason)
    show(result, as_json=json)


@app.command("split")
def split(
    user: IdentifierArgument,
    identifiers: Annotated[list[str], typer.Argument(metavar="IDENTIFIER...", help="What was linked by mistake.")],
    config: ConfigOption = None,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
    reason: ReasonOption = None,
) -> None:
    """Give identifiers to a new user, with all that was recorded through them."""
    with formation_of(config) as formation:
        result = formation.split_user(
            parse_argument(user),
            [parse_argument(each) for each in identifiers],
            dry_run=dry_run,
            source=_SOURCE,
            reason=reason,
        )
    show(result, as_json=json)


@app.command("explain")
def explain(
    one: IdentifierArgument, other: IdentifierArgument, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """Say why two identifiers are one person, or why not."""
    with formation_of(config) as formation:
        found = formation.explain(parse_argument(one), parse_argument(other))
    if json:
        print_json(found)
    else:
        typer.echo(found["text"])


@app.command("history")
def history(
    user: IdentifierArgument,
    config: ConfigOption = None,
    json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
) -> None:
    """Show what happened to a person, newest first."""
    with formation_of(config) as formation:
        page = formation.get_user_history(parse_argument(user), limit=limit, cursor=cursor)
    if json:
        print_json(page)
        return
    show_rows(
        page["events"], ("at", "event", "other_user_id", "actor", "source", "reason"), nothing="Nothing happened."
    )
    if page["next_cursor"] is not None:
        typer.echo(f"There are more: --cursor {page['next_cursor']}", err=True)


@app.command("export")
def export(
    user: IdentifierArgument,
    config: ConfigOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file, readable by you alone; else standard output.")
    ] = None,
) -> None:
    """Write everything that is kept of a person as one JSON archive."""
    with formation_of(config) as formation:
        archive = formation.export_user(parse_argument(user))
    if output is None:
        print_json(archive)
        return
    try:
        output.touch(mode=0o600, exist_ok=False)
        with output.open("w", encoding="utf-8") as file:
            print_json(archive, file=file)
    except OSError as error:
        typer.echo(f"{output} cannot be written ({error.strerror}); name a file that is not there yet.", err=True)
        raise typer.Exit(2) from None


@app.command("erase")
def erase(
    user: IdentifierArgument,
    config: ConfigOption = None,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
    include_merged: Annotated[
        bool, typer.Option("--include-merged", help="Erase the users that were merged into it as well.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: ReasonOption = None,
) -> None:
    """Delete a person with everything that is theirs. It cannot be undone."""
    with formation_of(config) as formation:
        who = parse_argument(user)
        if not dry_run and not yes:
            counted = formation.delete_user(who, dry_run=True)
            typer.confirm(f"Erase {counted['muxi_user_id']} with {counted['rows_deleted']} rows?", abort=True, err=True)
            who = counted["muxi_user_id"]  # what was asked about, whoever the identifier means by now
        result = formation.delete_user(
            who, include_merged=include_merged, dry_run=dry_run, source=_SOURCE, reason=reason
        )
    show(result, as_json=json)
