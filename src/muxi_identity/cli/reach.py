"""Where the formation of a command is: in a file here, or behind a server."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from muxi_identity.cli.output import ADDRESSES, ConfigOption, ending_well, load
from muxi_identity.client.synchronous import FormationClient
from muxi_identity.errors import ConfigurationError

ACTOR = "command line"
_PANEL = "Where the formation is"
_KEYS = frozenset({"client_key", "admin_key", "user_token"})
_VARIABLES = {
    **ADDRESSES,
    "formation_id": "MUXI_FORMATION",
    "client_key": "MUXI_CLIENT_KEY",
    "admin_key": "MUXI_ADMIN_KEY",
    "user_token": "MUXI_USER_TOKEN",
}

Key = Literal["client_key", "admin_key"]


def _option(flag: str, metavar: str, help: str) -> Any:
    name = flag.removeprefix("--").replace("-", "_")
    variable = _VARIABLES["formation_id" if name == "formation" else name]
    # Read from the environment below, where --config can put it aside.
    return Annotated[
        str | None, typer.Option(flag, metavar=metavar, help=f"{help} ({variable})", rich_help_panel=_PANEL)
    ]


_PLAIN_SIGHT = "Everybody here can read it in the list of processes: rather set the variable, or be asked."
_OPTIONS: dict[str, Any] = {
    "config": ConfigOption,
    "url": _option("--url", "URL", "The address of a served formation."),
    "server_url": _option("--server-url", "URL", "The address of a server of several formations."),
    "formation_id": _option("--formation", "ID", "Which of them."),
    "client_key": _option("--client-key", "KEY", f"A key of the served formation. {_PLAIN_SIGHT}"),
    "admin_key": _option("--admin-key", "KEY", "The same."),
    "user_token": _option("--user-token", "TOKEN", "The same, for one identifier."),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a formation is, and what opens it there."""

    config: Path | None
    remote: dict[str, str] = field(repr=False)

    @classmethod
    def read(cls, config: Path | None, given: dict[str, str | None], key: Key) -> Place:
        """Return the place that options name, else the environment, else the formation of this folder.

        A key that is missing is asked for where there is somebody to ask. --config means here, whatever the
        environment says.

        Raises:
            ConfigurationError: The options name two places, or no key opens the one that they name.
        """
        options = {name: value for name, value in given.items() if value is not None}
        if config is not None:
            if options:
                raise ConfigurationError(
                    "--config is for a formation of this machine; --url, --server-url, --formation and keys are for a "
                    "served one. Pass the one or the others."
                )
            return cls(config, {})
        remote = _environment(options) | options
        if not remote.keys() & ADDRESSES.keys():
            if options:
                raise ConfigurationError("Keys and --formation are for a served formation: pass --url or --server-url.")
            return cls(None, {})
        if not remote.keys() & _KEYS:
            remote[key] = _asked(key)
        return cls(None, remote)

    def open(self) -> FormationClient:
        """Return a client of the formation."""
        if self.remote:
            return FormationClient(**self.remote, actor=ACTOR)  # type: ignore[arg-type]
        return FormationClient(load(self.config), actor=ACTOR)


def _environment(options: dict[str, str]) -> dict[str, str]:
    found = {name: value for name, variable in _VARIABLES.items() if (value := os.environ.get(variable))}
    named = {name: options[name] for name in ADDRESSES.keys() & options.keys()}
    if named and found.keys() & ADDRESSES.keys() and not named.items() <= found.items():
        return {}  # its keys are those of another server
    if options.keys() & _KEYS:
        return {name: value for name, value in found.items() if name not in _KEYS}
    return found


def _asked(key: Key) -> str:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        variable = _VARIABLES[key]
        if os.environ.get(variable):
            raise ConfigurationError(
                f"{variable} is for the server that the environment names, and the options name another: name this "
                f"one in the environment as well, or pass --{key.replace('_', '-')}."
            )
        raise ConfigurationError(f"No key was given: set {variable}.")
    answer: str = typer.prompt(key.replace("_", " ").capitalize(), hide_input=True, err=True)
    return answer


@contextlib.contextmanager
def _open(config: Path | None, given: dict[str, str | None], key: Key, at_once: bool) -> Iterator[FormationClient]:
    with ending_well():
        formation = Place.read(config, given, key).open()
        with formation if at_once else contextlib.closing(formation):
            yield formation


def on_formation(
    key: Key = "admin_key", *, at_once: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function whose first parameter is a formation: options say which, here or on a server.

    ``key`` is asked for where a server is named and no key is. Errors end the command with a message and an exit code.
    A command that may have to change nothing is given the formation before it is open, and not ``at_once``.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        _, *own = signature.parameters.values()
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in _OPTIONS.items()
        ]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            config = arguments.pop("config")
            given = {name: arguments.pop(name) for name in _VARIABLES}
            with _open(config, given, key, at_once) as formation:
                command(formation, **arguments)

        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + more
        # What the command line reads a command's options from.
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate
