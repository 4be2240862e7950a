"""``muxi keys`` and ``muxi token``: what opens a served formation."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Literal

import typer

from muxi_identity.cli.output import (
    ConfigOption,
    IdentifierArgument,
    JsonOption,
    console,
    ending_well,
    load,
    parse_argument,
    print_json,
)
from muxi_identity.client.served import ServedFormation
from muxi_identity.config import FormationConfig
from muxi_identity.server.keys import Role, forget_made_keys, new_key
from muxi_identity.server.tokens import DEFAULT_SECONDS, MAX_SECONDS, MIN_SECONDS, Tokens, UserToken
from muxi_identity.server_config import hash_key
from muxi_identity.storage.sharing import SharedDatabases

keys = typer.Typer(no_args_is_help=True, help="Keys of a served formation: make them, hash them, forget them.")


@keys.command("new")
def new(
    role: Annotated[Literal["client", "admin"], typer.Argument(help="Which kind.")] = "client",
    json: JsonOption = False,
) -> None:
    """Make a key and print it with its hash. Nothing is stored.

    The hash can stand in the YAML file in place of the key, under server.api_keys; a list holds several at once, for
    as long as one takes over from another.
    """
    key = new_key(Role(role))
    if json:
        print_json({"role": role, "key": key, "hash": _shown(key)})
    else:
        console.print(f"{role}_key   {key}\nhash        {_shown(key)}", soft_wrap=True)


@keys.command("hash")
def hash_(json: JsonOption = False) -> None:
    """Read a key from standard input and print its hash."""
    key = sys.stdin.readline().strip()
    if not key:
        raise typer.BadParameter("standard input holds no key")
    if json:
        print_json({"hash": _shown(key)})
    else:
        console.print(_shown(key), soft_wrap=True)


@keys.command("forget")
def forget(config: ConfigOption = None) -> None:
    """Forget the keys that the server made for itself: it makes and prints others when it starts next."""
    with ending_well():
        number = asyncio.run(_forget(load(config)))
    console.print(f"{number} forgotten." if number else "The server has made none.")


def token(
    identifier: IdentifierArgument,
    config: ConfigOption = None,
    json: JsonOption = False,
    expires_in: Annotated[
        int, typer.Option(help="For how many seconds it is good.", min=MIN_SECONDS, max=MAX_SECONDS)
    ] = DEFAULT_SECONDS,
) -> None:
    """Make a user token: it acts as one identifier until it expires."""
    with ending_well():
        made = asyncio.run(_issue(load(config), parse_argument(identifier), expires_in))
    if json:
        print_json(made)
    else:
        typer.echo(made["token"])


def _shown(key: str) -> str:
    return f"sha256:{hash_key(key).hex()}"


async def _forget(config: FormationConfig) -> int:
    databases = SharedDatabases()
    served = ServedFormation(config, databases)
    try:
        return await forget_made_keys(await served.open())
    finally:
        await served.close()
        await databases.close()


async def _issue(config: FormationConfig, given: object, seconds: int) -> UserToken:
    databases = SharedDatabases()
    served = ServedFormation(config, databases)
    try:
        return await Tokens(await served.open()).issue(given, seconds)
    finally:
        await served.close()
        await databases.close()
