"""``muxi db``: the schema, and whether everything in it is as it must be."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from muxi_identity.cli.output import ConfigOption, JsonOption, console, ending_well, load, print_json
from muxi_identity.cli.wording import marked
from muxi_identity.config import FormationConfig
from muxi_identity.context.inspection import inspect_formation
from muxi_identity.errors import ConfigurationError
from muxi_identity.identity.keys import key_file
from muxi_identity.storage import migrate
from muxi_identity.storage.backup import copy_database, copy_private
from muxi_identity.storage.checks import BROKEN, NOTICE, Finding, check, rows_can_be_asked
from muxi_identity.storage.opening import make_database

app = typer.Typer(no_args_is_help=True, help="The database: bring its schema up to date, back it up, check it.")

_BEHIND = Finding(
    None,
    "schema-behind",
    1,
    "The schema is older than this program, or there is none: what is stored was not checked.",
    "Run `muxi db upgrade` (opening a formation does it too), then check again.",
)
_AHEAD = Finding(
    None,
    "schema-newer",
    1,
    "The schema is newer than this program: what newer code writes it may not know, and take for broken.",
    "Check with the version that upgraded the schema, or a newer one.",
    NOTICE,
)
_NO_KEY = Finding(
    None,
    "key-not-given",
    1,
    "There is no key: whether identifiers are found and credentials open was not checked.",
    "Set MUXI_SECRET_KEY, or put muxi.key back beside the database file.",
    NOTICE,
)


_BY_SQL = (
    "Statements are for {}. Back up first, stop what uses the database (processes remember what was), begin with the "
    "line above the first of them, which has it stop at an error, and check again afterwards."
)
# What lets no statement be run behind one that was refused.
_SHELLS = {"sqlite": ("sqlite3", ".bail on"), "postgres": ("psql", r"\set ON_ERROR_STOP on")}


@app.command("upgrade")
def upgrade(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Bring the schema up to date. Opening a formation does it too; this does it beforehand."""
    with ending_well():
        revision = asyncio.run(_upgrade(load(config)))
    if json:
        print_json({"revision": revision, "newest": migrate.newest()})
    else:
        console.print(f"The schema is at revision {revision}.")


@app.command("backup")
def backup(
    file: Annotated[Path, typer.Argument(help="The copy to be made; muxi.key is put beside it, as FILE with .key.")],
    config: ConfigOption = None,
    json: JsonOption = False,
    with_key: Annotated[bool, typer.Option(help="Copy the key too; without it the copy opens for nobody.")] = True,
) -> None:
    """Copy a SQLite database, whole and as of one moment, while it is in use.

    On PostgreSQL use pg_dump or pg_basebackup.
    """
    with ending_well():
        loaded = load(config)
        if loaded.database.path is None:
            raise ConfigurationError(
                "This is for SQLite; a PostgreSQL database is backed up by pg_dump or pg_basebackup."
            )
        copy_database(loaded.database.path, file)
        key = key_file(loaded.database.path)
        copied = with_key and loaded.secret_key is None and key.is_file()
        if copied:
            copy_private(key, key_file(file))
    if json:
        print_json({"file": str(file), "key": str(key_file(file)) if copied else None})
        return
    console.print(f"{marked(str(file))} is written.", soft_wrap=True)
    console.print(
        f"Its key is {marked(str(key_file(file)))}." if copied else "Back up its key too: without it nobody is found.",
        soft_wrap=True,
    )


@app.command("check")
def check_database(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Check that the schema is up to date and whole, and that all that is stored holds together.

    All formations of the database are checked; what only the key can tell (that identifiers are found, that
    credentials open), of the configured one. Nothing is changed, and nobody who uses the database waits.
    Ends with 1 where something is wrong.
    """
    with ending_well():
        loaded = load(config)
        revision, findings = asyncio.run(_look(loaded))
    newest = migrate.newest()
    ok = all(finding.level != BROKEN for finding in findings)
    if json:
        shown = [finding._asdict() for finding in findings]
        print_json({"revision": revision, "newest": newest, "findings": shown, "ok": ok})
    else:
        console.print(
            f"Schema: revision {revision}" + ("." if revision == newest else f"; this program's is {newest}.")
        )
        shell, stop = _SHELLS[loaded.database.provider]
        by_sql = [finding for finding in findings if finding.statements]
        for finding in findings:
            if finding in by_sql[:1]:
                console.print(marked(stop), soft_wrap=True)
            _print(finding)
        if ok:
            console.print("Every rule holds.")
        elif by_sql:
            console.print(_BY_SQL.format(shell), soft_wrap=True)
    if not ok:
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    where = "whole database" if finding.formation_id is None else f"formation {finding.formation_id}"
    colour = "red" if finding.level == BROKEN else "yellow"
    console.print(f"[{colour}]{finding.rule}[/{colour}]  {marked(where)}, {finding.rows}")
    parts = [("", finding.about), ("", ", ".join(finding.keys)), ("", finding.meaning), ("To mend it: ", finding.mend)]
    for label, said in [*parts, *(("  ", f"{statement};") for statement in finding.statements)]:
        if said:
            console.print(f"  {label}{marked(said)}", soft_wrap=True)


async def _upgrade(config: FormationConfig) -> str | None:
    database = make_database(config.database)
    await database.open()
    try:
        return await database.read(migrate.current)
    finally:
        await database.close()


async def _look(config: FormationConfig) -> tuple[str | None, list[Finding]]:
    database = make_database(config.database)
    await database.open(upgrade=False)
    try:

        def work(connection: Connection) -> Any:
            revision, now = migrate.current(connection), time.time_ns() // 1000
            if migrate.is_behind(revision):
                return revision, [_BEHIND]  # its tables are not those that the rules speak of
            found, secret = check(connection, now), _secret(config)
            if revision is not None and revision != migrate.newest():
                migrate.check_serves(revision)
                found.append(_AHEAD)
            if secret is None:
                found.append(_NO_KEY._replace(formation_id=config.id))
            elif rows_can_be_asked(found):
                found += inspect_formation(connection, config, secret, now)
            return revision, found

        revision, findings = await database.read(work)
        return revision, findings
    finally:
        await database.close()


def _secret(config: FormationConfig) -> str | None:
    """Return the formation's key, None where there is none: nothing is made by looking."""
    if config.secret_key is not None:
        return config.secret_key.reveal()
    path = None if config.database.path is None else key_file(config.database.path)
    if path is None or not path.is_file():
        return None
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        unreadable = path
    raise ConfigurationError(f"{unreadable} cannot be read; mend its permissions.")
