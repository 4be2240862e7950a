"""``muxi users``: who is who."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

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
from muxi_identity.client.synchronous import FormationClient

app = typer.Typer(no_args_is_help=True, help="Who is who, who is one person, and why.")

ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; the history keeps it.")]


@app.command("list")
@on_formation()
def list_users(
    formation: FormationClient,
    json: JsonOption = False,
    identifier: Annotated[str | None, typer.Option(help="How an identifier of theirs begins.")] = None,
    type: Annotated[str | None, typer.Option(help="Of which type that identifier is.")] = None,
    created_from: Annotated[str | None, typer.Option(help="Made at this time or later, in ISO 8601.")] = None,
    created_before: Annotated[str | None, typer.Option(help="Made before this time, in ISO 8601.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
) -> None:
    """List people, oldest first: all of them, or those that a search finds."""
    page = formation.list_users(
        identifier=identifier,
        type=type,
        created_from=created_from,
        created_before=created_before,
        limit=limit,
        cursor=cursor,
    )
    if json:
        print_json(page)
        return
    columns = ("muxi_user_id", "established", "identifier_count", "merged_users", "created_at")
    show_rows(page["users"], columns, nothing="There is nobody.")
    show_cursor(page["next_cursor"])


@app.command("show")
@on_formation()
def show_user(formation: FormationClient, user: IdentifierArgument, json: JsonOption = False) -> None:
    """Show one person with all identifiers."""
    record = formation.get_user(parse_argument(user))
    records = formation.get_user_identifiers(record["muxi_user_id"], detailed=True)
    if json:
        print_json({**record, "identifiers": records})
        return
    show(record, as_json=False)
    typer.echo()
    columns = ("identifier", "type", "scope", "verified", "source", "expires_at", "created_at")
    show_rows(records, columns, nothing="No identifier is linked: the public id alone leads here.")


@app.command("create")
@on_formation()
def create_user(
    formation: FormationClient,
    user_id: Annotated[str | None, typer.Argument(metavar="[USER_ID]", help="The public id, usr_...")] = None,
    json: JsonOption = False,
    reason: ReasonOption = None,
) -> None:
    """Make a user without identifiers."""
    show(formation.create_user(user_id, source=ACTOR, reason=reason), as_json=json)


@app.command("link")
@on_formation()
def link(
    formation: FormationClient,
    identifiers: Annotated[
        list[str], typer.Argument(metavar="IDENTIFIER...", help="VALUE, TYPE=VALUE, JSON, or - for standard input.")
    ],
    json: JsonOption = False,
    user: Annotated[str | None, typer.Option("--user", help="Whom to link them to: any identifier, or usr_...")] = None,
    on_conflict: Annotated[
        Literal["raise", "absorb", "merge"],
        typer.Option(help="What to do where they belong to different users."),
    ] = "raise",
    verified: Annotated[bool, typer.Option("--verified", help="You have proof that they are this person's.")] = False,
    reason: ReasonOption = None,
) -> None:
    """Link identifiers to one person, all or none."""
    linked = formation.associate_user_identifiers(
        [parse_argument(each) for each in identifiers],
        None if user is None else parse_argument(user),
        on_conflict=on_conflict,
        verified=verified,
        source=ACTOR,
        reason=reason,
    )
    show(linked, as_json=json)


@app.command("unlink")
@on_formation()
def unlink(
    formation: FormationClient,
    identifier: IdentifierArgument,
    json: JsonOption = False,
    force: Annotated[bool, typer.Option("--force", help="Even if it is the person's last one.")] = False,
    reason: ReasonOption = None,
) -> None:
    """Unlink an identifier from whoever has it."""
    result = formation.unlink_user_identifier(parse_argument(identifier), force=force, source=ACTOR, reason=reason)
    show(result, as_json=json)


@app.command("resolve")
@on_formation()
def resolve(
    formation: FormationClient,
    identifier: IdentifierArgument,
    json: JsonOption = False,
    create: Annotated[bool, typer.Option("--create", help="Make a user where nobody is found.")] = False,
) -> None:
    """Tell who an identifier means."""
    show(formation.resolve_user(parse_argument(identifier), create_user=create), as_json=json)
