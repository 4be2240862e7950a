"""What ``muxi serve`` does. It takes the extra ``server``, and longer to load than other commands to end."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from muxi_identity.cli.output import load
from muxi_identity.cli.wording import visible
from muxi_identity.config import FormationConfig
from muxi_identity.errors import ConfigurationError
from muxi_identity.server.app import Served, create_app
from muxi_identity.server.logs import set_up
from muxi_identity.server.running import Settings, allow_connections, bind
from muxi_identity.server.sites import MadeKeys
from muxi_identity.server.supervisor import Supervisor

logger = logging.getLogger("muxi_identity.server")

_OFFLINE = "offline"


def serve_all(
    files: list[Path] | None,
    *,
    host: str,
    port: int,
    log_level: str,
    plain_log: bool | None,
    tasks: bool,
    grace: int,
    drain: int,
    workers: int,
    connections: int,
    print_keys: bool,
) -> None:
    """Serve formations over HTTP until a signal comes. ``plain_log=None``: plain on a terminal alone.

    Raises:
        ConfigurationError: A formation cannot be opened as configured, or the address cannot be listened at.
        StorageUnavailableError: A database cannot be reached.
    """
    configs = _load_all(files)
    set_up(level=log_level, plain=sys.stderr.isatty() if plain_log is None else plain_log)
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
            typer.echo(f"{visible(formation_id)}  {role.value}_key  {key}")
    logger.warning(
        "keys were made: they are printed this once and kept as hashes; `muxi keys forget` makes the server make others"
    )
