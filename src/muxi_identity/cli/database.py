"""``muxi db``: the schema, and whether everything in it is as it must be."""

from __future__ import annotations

import asyncio
import time

import typer
from sqlalchemy import Connection

from muxi_identity.cli.output import ConfigOption, JsonOption, console, ending_well, load, print_json, show_rows
from muxi_identity.config import FormationConfig
from muxi_identity.storage import migrate
from muxi_identity.storage.checks import Finding, check
from muxi_identity.storage.opening import make_database

app = typer.Typer(no_args_is_help=True, help="The database: bring its schema up to date, check what is in it.")


@app.command("upgrade")
def upgrade(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Bring the schema up to date. Opening a formation does it too; this does it beforehand."""
    with ending_well():
        revision, _ = asyncio.run(_open_and_look(load(config), rules=False))
    if json:
        print_json({"revision": revision, "newest": migrate.newest()})
    else:
        console.print(f"The schema is at revision {revision}.")


@app.command("check")
def check_database(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Check the schema's revision and that what is stored holds together, in every formation of the database.

    Ends with 1 where something is wrong.
    """
    with ending_well():
        revision, findings = asyncio.run(_open_and_look(load(config), rules=True))
    current = revision == migrate.newest()
    if json:
        print_json(
            {
                "revision": revision,
                "newest": migrate.newest(),
                "findings": [finding._asdict() for finding in findings],
                "ok": current and not findings,
            }
        )
    else:
        console.print(
            f"Schema: revision {revision}" + ("." if current else f"; this program knows {migrate.newest()}.")
        )
        show_rows([finding._asdict() for finding in findings], Finding._fields, nothing="Every rule holds.")
    if findings or not current:
        raise typer.Exit(1)


async def _open_and_look(config: FormationConfig, *, rules: bool) -> tuple[str | None, list[Finding]]:
    database = make_database(config.database)
    await database.open()
    try:

        def work(connection: Connection) -> tuple[str | None, list[Finding]]:
            return migrate.current(connection), check(connection, time.time_ns() // 1000) if rules else []

        return await database.read(work)
    finally:
        await database.close()
