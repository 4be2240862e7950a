"""The server itself: is it well, what does it count, how is it set up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from importlib.metadata import version
from time import monotonic
from typing import Any, TypedDict

from fastapi import Request, Response

from muxi_identity.config import FormationConfig
from muxi_identity.errors import ServerUnavailableError, StorageUnavailableError
from muxi_identity.formation import Formation
from muxi_identity.identity.listing import EVERYBODY
from muxi_identity.server.call import Access
from muxi_identity.server.metrics import CONTENT_TYPE
from muxi_identity.server.operations import Calling, Routes

routes = Routes("Server", "The server itself.")

READY_SECONDS = 1.5
"""How long a database has to show that it answers: less than balancers wait."""
_BEGUN = monotonic()
_VERSION = version("muxi-identity")


class Health(TypedDict):
    """That the process answers."""

    status: str
    version: str
    uptime_seconds: int


class Readiness(TypedDict):
    """That requests may be sent here."""

    status: str
    database: str


class Status(TypedDict):
    """One formation as it is served."""

    formation_id: str
    version: str
    uptime_seconds: int
    database: str
    model: str
    cache: dict[str, int]


class MemoryConfiguration(TypedDict):
    """How memory is set up."""

    persistent: dict[str, Any]
    session: dict[str, Any]
    working: dict[str, Any]


class Configuration(TypedDict):
    """How a formation is set up. Secrets are masked."""

    formation_id: str
    memory: MemoryConfiguration
    identity: dict[str, Any]
    llm: dict[str, Any]
    server: dict[str, Any]


def _json(content: dict[str, Any]) -> Response:
    return Response(json.dumps(content), media_type="application/json")


def _uptime() -> int:
    return int(monotonic() - _BEGUN)


@routes.add(
    "GET",
    "/health",
    access=Access.PUBLIC,
    data=Health,
    media="application/json",
    example={"status": "healthy", "version": "0.1.0", "uptime_seconds": 86400},
)
async def health(call: Calling) -> Response:
    """Tell that the process answers. Also at `/health`; it has no envelope."""
    return _json({"status": "healthy", "version": _VERSION, "uptime_seconds": _uptime()})


@routes.add(
    "GET",
    "/ready",
    access=Access.PUBLIC,
    data=Readiness,
    media="application/json",
    example={"status": "ready", "database": "available"},
    raises=(StorageUnavailableError, ServerUnavailableError),
)
async def ready(call: Calling, request: Request) -> Response:
    """Tell whether requests should be sent here: the database answers, and the server is not about to stop.

    At `/ready` it is about every formation of the server.
    """
    served = request.app.state.served
    if served.is_about_to_stop:
        raise ServerUnavailableError("The server is about to stop; ask another one.")
    sites = served.sites if call.of_server else [call.site]
    await _ask({id(site.formation.database): site.formation for site in sites}.values())
    return _json({"status": "ready", "database": "available"})


async def _ask(formations: Iterable[Formation]) -> None:
    """See that the database of each of ``formations`` answers.

    Raises:
        StorageUnavailableError: One does not, or not in time.
    """
    asked = [asyncio.create_task(formation.list_users(EVERYBODY, 1, None)) for formation in formations]
    try:
        await asyncio.wait(asked, timeout=READY_SECONDS)
        if not all(task.done() for task in asked):
            raise StorageUnavailableError("The database does not answer.")
        for task in asked:
            task.result()
    finally:
        for task in asked:
            # Not waited for: a connection on which nothing comes back takes seconds to be given up.
            task.cancel()
            _given_up.add(task)
            task.add_done_callback(_forget)


_given_up: set[asyncio.Task[Any]] = set()


def _forget(task: asyncio.Task[Any]) -> None:
    _given_up.discard(task)
    if not task.cancelled():
        task.exception()  # the answer told of it


@routes.add("GET", "/metrics", access=Access.ADMIN, data=None, media="text/plain")
async def metrics(call: Calling) -> Response:
    """Give the formation's numbers in Prometheus's text format.

    Also at `/metrics`. A scraper that can send no header of ours sends the admin key as its bearer token.
    """
    return Response(call.site.metrics.text(), media_type=CONTENT_TYPE)


@routes.add(
    "GET",
    "/status",
    access=Access.ADMIN,
    data=Status,
    example={
        "formation_id": "default",
        "version": "0.1.0",
        "uptime_seconds": 86400,
        "database": "postgresql",
        "model": "offline",
        "cache": {"hits": 10, "misses": 2, "identifiers": 2, "members": 1},
    },
)
async def get_status(call: Calling) -> Status:
    """Read how the formation does."""
    formation = call.site.formation
    return {
        "formation_id": formation.config.id,
        "version": _VERSION,
        "uptime_seconds": _uptime(),
        "database": formation.database.dialect,
        "model": formation.config.model.name,
        "cache": formation.cache.info(),
    }


_MEMORY: MemoryConfiguration = {
    "persistent": {"provider": "sqlite", "connection_string": "***"},
    "session": {"max_messages": 50, "idle_timeout": 86400.0},
    "working": {"ttl": 86400.0, "max_items": 200},
}


@routes.add(
    "GET",
    "/config",
    access=Access.ADMIN,
    data=Configuration,
    example={
        "formation_id": "default",
        "memory": _MEMORY,
        "identity": {"match": "any", "max_identifiers_per_user": 100},
        "llm": {"model": "offline", "api_key": None},
        "server": {"api_keys": {"admin_key": ["***"], "client_key": ["***"]}, "max_body_bytes": 1048576},
    },
)
async def get_config(call: Calling) -> Configuration:
    """Read how the formation is set up. Addresses, keys and secrets are left out or masked."""
    return _shown(call.site.config)


@routes.add("GET", "/memory", access=Access.ADMIN, data=MemoryConfiguration, example=_MEMORY)
async def get_memory_config(call: Calling) -> MemoryConfiguration:
    """Read how memory is set up."""
    return _memory(call.site.config)


def _shown(config: FormationConfig) -> Configuration:
    rules = config.identity.rules
    return {
        "formation_id": config.id,
        "memory": _memory(config),
        "identity": {
            "cache": {"ttl": config.identity.cache.ttl, "max_entries": config.identity.cache.max_entries},
            "match": config.identity.match,
            "max_identifiers_per_user": rules.max_per_user,
            "types": {
                name: {"secret": rule.secret, "max_per_user": rule.max_per_user} for name, rule in rules.types.items()
            },
        },
        "llm": {"model": config.model.name, "api_key": None if config.model.api_key is None else "***"},
        "server": {
            "api_keys": {
                "admin_key": ["***"] * len(config.server.admin_keys),
                "client_key": ["***"] * len(config.server.client_keys),
            },
            "cors_origins": list(config.server.cors_origins),
            "max_body_bytes": config.server.max_body_bytes,
            "rate_limits": {
                "admin_key": config.server.rate_limits.admin_key,
                "client_key": config.server.rate_limits.client_key,
                "user_token": config.server.rate_limits.user_token,
            },
        },
    }


def _memory(config: FormationConfig) -> MemoryConfiguration:
    return {
        "persistent": {"provider": config.database.provider, "connection_string": "***"},
        "session": {"max_messages": config.session.max_messages, "idle_timeout": config.session.idle_timeout},
        "working": {"ttl": config.working.ttl, "max_items": config.working.max_items},
    }
