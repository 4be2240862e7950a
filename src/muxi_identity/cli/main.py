"""All commands together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from muxi_identity import demo
from muxi_identity.cli import access, database, importing, serving, talking

app = typer.Typer(
    name="muxi",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they hold people's words, and keys
    help="One person, many identifiers, one memory.",
)
app.add_typer(importing.app, name="users")
app.add_typer(database.app, name="db")
app.add_typer(access.keys, name="keys")
app.command("chat")(talking.chat)
app.command("serve")(serving.serve)
app.command("token")(access.token)


@app.command("demo")
def show_demo() -> None:
    """Show one person on several channels, in one terminal."""
    demo.main()


def _show_version(value: bool) -> None:
    if value:
        typer.echo(version("muxi-identity"))
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """One person, many identifiers, one memory."""


def main() -> None:
    """Run the command line."""
    app()
