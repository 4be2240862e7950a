"""What ``muxi serve`` does. It takes the extra ``server``, and longer to load than other commands to end."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from muxi_identity.cli.output import load, problems
from muxi_identity.cli.wording import marked
from muxi_identity.config import FormationConfig
from muxi_identity.errors import ConfigurationError
from muxi_identity.server.app import Served, create_app
from muxi_identity.server.keys import Role
from muxi_identity.server.logs import set_up
from muxi_identity.server.running import FormationServer, bind, run
from muxi_identity.server.supervisor import Supervisor

_OFFLINE = "offline"


def serve_all(
    files: list[Path] | None,
    *,
    host: str,
    port: int,
    log_level: str,
    plain_log: bool,
    tasks: bool,
    grace: int,
    workers: int,
) -> None:
    """Serve formations over HTTP until a signal comes.

    Raises:
        ConfigurationError: A formation cannot be opened as configured, or the address cannot be listened at.
        StorageUnavailableError: A database cannot be reached.
    """
    configs = _load_all(files)
    set_up(level=log_level.upper(), plain=plain_log)
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
            problems.print(f"{marked(formation_id)}  {role.value}_key  {key}", soft_wrap=True)
    problems.print(
        "[yellow]These keys are shown this once and kept as hashes; `muxi keys forget` makes the server make others."
        "[/yellow]",
        soft_wrap=True,
    )
