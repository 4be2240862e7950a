"""What commands have in common: the formation that they work on, what they print, and how they end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from muxi_identity.cli.wording import in_commands, json_text, marked, visible
from muxi_identity.client.operations import Given
from muxi_identity.config import FormationConfig
from muxi_identity.errors import (
    AccessError,
    ConfigurationError,
    ConflictError,
    InvalidRequestError,
    ModelError,
    MuxiError,
    NotFoundError,
    RateLimitedError,
    ServerUnavailableError,
    StorageUnavailableError,
)

ADDRESSES = {"url": "MUXI_URL", "server_url": "MUXI_SERVER_URL"}
"""Where the environment says that a formation is served."""
DEFAULT_FILE = Path("formation.yaml")
_TYPED = re.compile(r"([a-z][a-z0-9_.-]{0,63})=(.+)", re.DOTALL)

# In this order: the first that fits. 2 is what every command line gives back for one that it cannot read.
_EXITS: tuple[tuple[type[MuxiError], int], ...] = (
    (InvalidRequestError, 2),
    (NotFoundError, 3),
    (ConflictError, 4),
    (StorageUnavailableError, 5),
    (ModelError, 5),
    (ServerUnavailableError, 5),
    (RateLimitedError, 5),
    (ConfigurationError, 6),
    (AccessError, 8),
)

# Where nobody looks on, nothing is cut to the width of a screen. What people say between colons is no picture.
console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 400)
problems = Console(stderr=True, highlight=False, emoji=False)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The formation's YAML file; else formation.yaml here, else the default formation.",
        exists=True,
        dir_okay=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
IdentifierArgument = Annotated[
    str,
    typer.Argument(
        metavar="IDENTIFIER",
        help="VALUE, TYPE=VALUE, a public id, JSON, or - to read it from standard input.",
    ),
]


def load(path: Path | None) -> FormationConfig:
    """Return the configuration that a command works with.

    Raises:
        ConfigurationError: The file, a key in it or a secret that it names is missing or wrong; or no file is named
            and the environment says that the formation is on a server.
    """
    if path is None:
        for variable in ADDRESSES.values():
            if os.environ.get(variable):
                raise ConfigurationError(
                    f"{variable} says that the formation is on a server, and this command works on the formation's own "
                    "file and database: name its YAML file, or unset the variable."
                )
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    return FormationConfig.default() if path is None else FormationConfig.load(path)


@contextlib.contextmanager
def ending_well() -> Iterator[None]:
    """Turn an error of the library into one line on standard error and an exit code."""
    try:
        yield
    except MuxiError as error:
        show_error(error)
        code = next((code for kind, code in _EXITS if isinstance(error, kind)), 1)
        raise typer.Exit(code) from None


def show_error(error: MuxiError) -> None:
    """Print what an error says, on standard error."""
    problems.print(f"[red]error:[/red] {marked(in_commands(error.message))}", soft_wrap=True)


def parse_argument(text: str) -> Given:
    """Return the identifier that somebody typed: ``VALUE``, ``TYPE=VALUE``, JSON, or ``-`` for standard input.

    Raises:
        InvalidRequestError: It begins like JSON and is none.
    """
    if text == "-":
        text = sys.stdin.readline().strip()  # keeps a key out of the list of processes and the shell's history
    if text.startswith(("{", "[")):
        try:
            found: Given = json.loads(text)
        except ValueError:
            raise InvalidRequestError(
                """An identifier that begins with { or [ is read as JSON: '{"identifier": "...", "type": "..."}'."""
            ) from None
        return found
    typed = _TYPED.fullmatch(text)
    return text if typed is None else (typed[2], typed[1])


def show(result: Any, *, as_json: bool) -> None:
    """Print one result: its fields for people, or JSON."""
    if as_json:
        print_json(result)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in result.items():
        table.add_row(f"[dim]{marked(name)}[/dim]", marked(_text(value)))
    console.print(table)


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, nothing: str) -> None:
    """Print rows as a table for people."""
    if not rows:
        console.print(f"[dim]{nothing}[/dim]")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(marked(_text(row[column])) for column in columns))
    console.print(table)


def show_cursor(cursor: str | None) -> None:
    """Say how to see the next page, where there is one."""
    if cursor is not None:
        typer.echo(f"There are more: --cursor {visible(cursor)}", err=True)


def print_json(result: Any) -> None:
    """Print JSON, and nothing around it."""
    typer.echo(json_text(result, indent=2))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value) or "-"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
