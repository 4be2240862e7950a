"""``muxi serve``: formations over HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from muxi_identity.cli.output import ending_well, load, problems
from muxi_identity.config import FormationConfig
from muxi_identity.errors import ConfigurationError
from muxi_identity.server import create_app
from muxi_identity.server.app import Served
from muxi_identity.server.keys import Role
from muxi_identity.server.logs import set_up
from muxi_identity.server.running import GRACE_SECONDS, FormationServer, bind, run
from muxi_identity.server.supervisor import MAX_WORKERS, Supervisor

_OFFLINE = "offline"


class LogFormat(StrEnum):
    """How the log is written."""

    JSON = "json"
    PLAIN = "plain"


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
    log_format: Annotated[LogFormat, typer.Option(help="How to write the log, to standard error.")] = LogFormat.JSON,
    log_level: Annotated[str, typer.Option(help="How much to log: DEBUG, INFO, WARNING, ERROR.")] = "INFO",
    tasks: Annotated[bool, typer.Option("--tasks/--no-tasks", help="Run scheduled tasks, call webhooks.")] = True,
    grace: Annotated[
        int, typer.Option(help="How many seconds requests have to end when the server is told to stop.", min=1)
    ] = GRACE_SECONDS,
    workers: Annotated[
        int, typer.Option(help="How many processes answer; SIGHUP replaces them one by one.", min=1, max=MAX_WORKERS)
    ] = 1,
) -> None:
    """Serve formations over HTTP until a signal comes."""
    with ending_well():
        configs = _load_all(files)
        set_up(level=log_level.upper(), plain=log_format is LogFormat.PLAIN)
        app = create_app(configs, on_keys=_show_keys, run_tasks=tasks)
        try:
            listener = bind(host, port)
        except OSError as error:
            raise ConfigurationError(
                f"{host}:{port} cannot be listened at ({error.strerror}); choose another with --host or --port."
            ) from None
        port = listener.getsockname()[1]
        _introduce(configs, f"[{host}]" if ":" in host else host, port, workers)
        if workers > 1:
            asyncio.run(_prepare(configs))
            _supervise(files, configs, tasks, listener, host=host, workers=workers, grace=grace)
            return
        run(FormationServer(app, host=host, port=port, grace=grace), [listener])
        if app.failure is not None:
            raise app.failure


def _load_all(files: list[Path] | None) -> list[FormationConfig]:
    return [load(path) for path in files] if files else [load(None)]


def _introduce(configs: Sequence[FormationConfig], host: str, port: int, workers: int) -> None:
    for config in configs:
        problems.print(f"[bold]{config.id}[/bold]  http://{host}:{port}/api/{config.id}/v1", soft_wrap=True)
        if config.model.name == _OFFLINE:
            problems.print(
                f"[yellow]warning:[/yellow] {config.id} answers chats by rules, without a language model; set "
                "llm.model for one.",
                soft_wrap=True,
            )
    problems.print(
        f"[dim]http://{host}:{port}/v1 is {configs[0].id}, http://{host}:{port}/docs lists the calls.[/dim]",
        soft_wrap=True,
    )
    if workers > 1:
        problems.print(f"[dim]{workers} workers answer, under process {os.getpid()}.[/dim]", soft_wrap=True)


async def _prepare(configs: Sequence[FormationConfig]) -> None:
    """Bring the schema up to date and make the keys, once, and say at once what keeps the workers from starting."""
    async with create_app(configs, on_keys=_show_keys, run_tasks=False).running():
        pass


def _supervise(
    files: list[Path] | None,
    configs: Sequence[FormationConfig],
    tasks: bool,
    listener: socket.socket,
    *,
    host: str,
    workers: int,
    grace: int,
) -> None:
    with tempfile.TemporaryDirectory(prefix="muxi-numbers-") as numbers:

        def make(configs: Sequence[FormationConfig]) -> Served:
            return create_app(configs, on_keys=_show_keys, run_tasks=tasks, numbers=Path(numbers))

        Supervisor(
            make(configs),
            listener,
            host=host,
            workers=workers,
            grace=grace,
            reload=lambda: make(_load_all(files)),
        ).run()


def _show_keys(made: Mapping[str, Mapping[Role, str]]) -> None:
    for formation_id, keys in made.items():
        for role, key in keys.items():
            problems.print(f"{escape(formation_id)}  {role.value}_key  {key}", soft_wrap=True)
    problems.print(
        "[yellow]These keys are shown this once and kept as hashes; `muxi keys forget` makes the server make others."
        "[/yellow]",
        soft_wrap=True,
    )
