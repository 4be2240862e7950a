"""``muxi serve``: formations over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from muxi_identity.cli.output import ending_well, load, problems
from muxi_identity.errors import ConfigurationError
from muxi_identity.server import create_app
from muxi_identity.server.keys import Role
from muxi_identity.server.logs import set_up
from muxi_identity.server.running import GRACE_SECONDS, FormationServer, bind, run

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
) -> None:
    """Serve formations over HTTP until a signal comes."""
    with ending_well():
        configs = [load(path) for path in files] if files else [load(None)]
        set_up(level=log_level.upper(), plain=log_format is LogFormat.PLAIN)
        app = create_app(configs, on_keys=_show_keys, run_tasks=tasks)
        try:
            listener = bind(host, port)
        except OSError as error:
            raise ConfigurationError(
                f"{host}:{port} cannot be listened at ({error.strerror}); choose another with --host or --port."
            ) from None
        port = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        for config in configs:
            problems.print(f"[bold]{config.id}[/bold]  http://{shown}:{port}/api/{config.id}/v1", soft_wrap=True)
            if config.model.name == _OFFLINE:
                problems.print(
                    f"[yellow]warning:[/yellow] {config.id} answers chats by rules, without a language model; set "
                    "llm.model for one.",
                    soft_wrap=True,
                )
        problems.print(
            f"[dim]http://{shown}:{port}/v1 is {configs[0].id}, http://{shown}:{port}/docs lists the calls.[/dim]",
            soft_wrap=True,
        )
        run(FormationServer(app, host=host, port=port, grace=grace), [listener])
        if app.failure is not None:
            raise app.failure


def _show_keys(made: Mapping[str, Mapping[Role, str]]) -> None:
    for formation_id, keys in made.items():
        for role, key in keys.items():
            problems.print(f"{escape(formation_id)}  {role.value}_key  {key}", soft_wrap=True)
    problems.print(
        "[yellow]These keys are shown this once and kept as hashes; `muxi keys forget` makes the server make others."
        "[/yellow]",
        soft_wrap=True,
    )
