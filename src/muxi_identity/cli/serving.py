"""``muxi serve``: formations over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from muxi_identity.cli.output import ending_well
from muxi_identity.errors import ConfigurationError
from muxi_identity.server_config import GRACE_SECONDS, MAX_CONNECTIONS, MAX_WORKERS


class LogFormat(StrEnum):
    """How the log is written."""

    JSON = "json"
    PLAIN = "plain"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def serve(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FORMATION.YAML]...",
            help="The formations, the first under /v1 too. [formation.yaml here, else the default formation]",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 is any free one.", min=0, max=65535)] = 8765,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(help="How to write the log, to standard error. [plain on a terminal, else json]"),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="How much to log.", case_sensitive=False)] = LogLevel.INFO,
    tasks: Annotated[bool, typer.Option("--tasks/--no-tasks", help="Run scheduled tasks, call webhooks.")] = True,
    grace: Annotated[
        int, typer.Option(help="How many seconds requests have to end when the server is told to stop.", min=1)
    ] = GRACE_SECONDS,
    drain: Annotated[
        int, typer.Option(help="How many seconds before that /ready says so and all else is answered.", min=0)
    ] = 0,
    workers: Annotated[
        int, typer.Option(help="How many processes answer; SIGHUP replaces them one by one.", min=1, max=MAX_WORKERS)
    ] = 1,
    connections: Annotated[
        int, typer.Option(help="How many connections a worker has open at a time.", min=1)
    ] = MAX_CONNECTIONS,
    print_keys: Annotated[
        bool,
        typer.Option("--print-keys", help="Print keys that the server makes even where standard output is a file."),
    ] = False,
) -> None:
    """Serve formations over HTTP until a signal comes. Needs the extra "server"."""
    with ending_well():
        _what_serves()(
            files,
            host=host,
            port=port,
            log_level=log_level.value,
            plain_log=None if log_format is None else log_format is LogFormat.PLAIN,
            tasks=tasks,
            grace=grace,
            drain=drain,
            workers=workers,
            connections=connections,
            print_keys=print_keys,
        )


def _what_serves() -> Callable[..., None]:
    try:
        from muxi_identity.cli.served import serve_all  # noqa: PLC0415 (an optional extra)
    except ImportError as error:
        missing = error.name or ""
    else:
        return serve_all
    raise ConfigurationError(
        f"muxi serve needs the extra server ({missing or 'a package'} is missing): pip install 'muxi-identity[server]'"
    )
