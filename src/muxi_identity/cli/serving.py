"""``muxi serve``: formations over HTTP."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from muxi_identity.cli.output import ending_well, load
from muxi_identity.config import FormationConfig
from muxi_identity.errors import ConfigurationError
from muxi_identity.server import create_app
from muxi_identity.server.app import Served
from muxi_identity.server.connections import MAX_CONNECTIONS
from muxi_identity.server.logs import set_up
from muxi_identity.server.running import GRACE_SECONDS, Settings, allow_connections, bind
from muxi_identity.server.sites import MadeKeys
from muxi_identity.server.supervisor import MAX_WORKERS, Supervisor

logger = logging.getLogger("muxi_identity.server")

_OFFLINE = "offline"


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
    """Serve formations over HTTP until a signal comes."""
    with ending_well():
        configs = _load_all(files)
        plain = sys.stderr.isatty() if log_format is None else log_format is LogFormat.PLAIN
        set_up(level=log_level.value, plain=plain)
        # Elsewhere they would be written down, in a journal or a file that outlives them.
        on_keys = _show_keys if print_keys or sys.stdout.isatty() else None
        allow_connections(connections)
        try:
            listener = bind(host, port)
        except OSError as error:
            raise ConfigurationError(
                f"{host}:{port} cannot be listened at ({error.strerror}); choose another with --host or --port."
            ) from None
        settings = Settings(host=host, port=listener.getsockname()[1], grace=grace, connections=connections)
        with listener, _folder() as numbers:

            def make(configs: Sequence[FormationConfig]) -> Served:
                return create_app(configs, on_keys=on_keys, run_tasks=tasks, numbers=Path(numbers))

            asyncio.run(_prepare(configs, on_keys))
            _introduce(configs, f"[{host}]" if ":" in host else host, settings.port)
            Supervisor(
                make(configs),
                listener,
                settings,
                workers=workers,
                drain=drain,
                reload=lambda: make(_load_all(files)),
            ).run()


def _load_all(files: list[Path] | None) -> list[FormationConfig]:
    return [load(path) for path in files] if files else [load(None)]


async def _prepare(configs: Sequence[FormationConfig], on_keys: Callable[[MadeKeys], None] | None) -> None:
    """Bring the schema up to date and make the keys, once, and say at once what keeps the workers from starting."""
    async with create_app(configs, on_keys=on_keys, run_tasks=False).running():
        pass


def _introduce(configs: Sequence[FormationConfig], host: str, port: int) -> None:
    for config in configs:
        told = {"formation": config.id, "url": f"http://{host}:{port}/api/{config.id}/v1"}
        logger.info("a formation is served", extra={"fields": told})
        if config.model.name == _OFFLINE:
            logger.warning(
                "chats are answered by rules, without a language model; set llm.model for one",
                extra={"fields": {"formation": config.id}},
            )
    told = {"formation": configs[0].id, "url": f"http://{host}:{port}/v1", "docs": f"http://{host}:{port}/docs"}
    logger.info("the first formation has the short address too", extra={"fields": told})


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="muxi-numbers-")
    except OSError as error:
        raise ConfigurationError(
            f"There is no folder for temporary files ({error.strerror}), where workers count together: set TMPDIR."
        ) from None


def _show_keys(made: MadeKeys) -> None:
    for formation_id, keys in made.items():
        for role, key in keys.items():
            typer.echo(f"{formation_id}  {role.value}_key  {key}")
    logger.warning(
        "keys were made: they are printed this once and kept as hashes; `muxi keys forget` makes the server make others"
    )
