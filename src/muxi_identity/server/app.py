"""The application: formations behind one address."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
from collections.abc import AsyncIterator, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from muxi_identity.config import FormationConfig
from muxi_identity.conversation.responder import Responder
from muxi_identity.errors import MuxiError
from muxi_identity.identity.running import SYSTEM_CLOCK, Clock
from muxi_identity.server.call import Call
from muxi_identity.server.gate import Gate
from muxi_identity.server.logs import access_log
from muxi_identity.server.openapi import complete
from muxi_identity.server.operations import SCOPE, Operation
from muxi_identity.server.paths import register
from muxi_identity.server.problems import internal
from muxi_identity.server.routes import GROUPS
from muxi_identity.server.routes.resolve import resolve_directly
from muxi_identity.server.serving import install, problem_from, refuse
from muxi_identity.server.sites import PREFIX, MadeKeys, Sites

_ABOUT = """
One person, many identifiers, one memory. Every call that names a user takes any of their identifiers.

Errors have a stable `code`, a `message` that says what to do, and `details` for programs. A POST that writes and
carries `X-Muxi-Idempotency-Key` can be sent again: it is done once. For `/users/import` the key stands for an
`import_id`, and only `/users/resolve`, which is harmless twice, passes over it.
"""


class Served:
    """An ASGI application that serves formations; what :func:`create_app` returns.

    ``stopping`` is set when the server takes nothing new any more: streams that have no end of their own end then.
    """

    def __init__(self, sites: Sites, on_keys: Callable[[MadeKeys], None] | None, run_tasks: bool) -> None:
        self.sites = sites
        self.stopping = asyncio.Event()
        self.failure: MuxiError | None = None
        """Why it could not start."""
        # Shared with every fork, as the one that is told to stop answers nobody, and those who answer are not told yet.
        self._announced = mmap.mmap(-1, 1)
        self._on_keys = on_keys
        self._run_tasks = run_tasks
        self.api = _make_api(self)
        direct = {("POST", PREFIX + "/users/resolve"): resolve_directly}
        self._gate = Gate(self.api, sites, direct, self.stopping)

    @property
    def operations(self) -> list[Operation]:
        """Every route that it has."""
        return [operation for group in GROUPS for operation in group.operations]

    def announce_stop(self) -> None:
        """Let ``/ready`` say that the server is about to stop, here and in all forks; all else goes on."""
        self._announced[0] = 1

    @property
    def is_about_to_stop(self) -> bool:
        """Whether nothing new should be sent here."""
        return self.stopping.is_set() or self._announced[0] == 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's lifetime."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._gate(scope, receive, send)

    async def turn_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request on a connection that is one too many."""
        await self._gate.turn_away(scope, receive, send)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the formations, and close them when the last request was answered.

        A server does this by the lifespan protocol; this is for whoever calls the application without one.

        Raises:
            ConfigurationError: A formation cannot be opened as configured, or has no keys.
            StorageUnavailableError: A database cannot be reached.
        """
        await self.sites.open(self._on_keys)
        try:
            if self._run_tasks:
                for site in self.sites:
                    site.start_workers()
            yield
        finally:
            self.stopping.set()
            await self.sites.close()
            access_log.flush()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except MuxiError as error:
            # Said in one line; a framework would show the frames instead.
            self.failure = error
            await send({"type": "lifespan.startup.failed", "message": error.message})
        else:
            await send({"type": "lifespan.shutdown.complete"})


def create_app(
    formations: FormationConfig | Sequence[FormationConfig],
    *,
    responder: Responder | None = None,
    clock: Clock = SYSTEM_CLOCK,
    on_keys: Callable[[MadeKeys], None] | None = None,
    run_tasks: bool = True,
    numbers: Path | None = None,
) -> Served:
    """Return an ASGI application that serves ``formations``, the first of them under ``/v1`` as well.

    They are opened when the server starts. Formations in the same database share its connections. ``on_keys`` is told
    in clear, once, the keys that were made for formations that had none; nobody can show them later. Without it none
    are made, and a formation without keys is not served. With
    ``run_tasks``, scheduled tasks run and webhooks are called in this process, along with whatever other does so.
    ``numbers`` is a folder of this server's own, where its workers write their numbers down, so that each of them can
    tell those of all.

    It may be made before a server forks its workers: nothing is opened until a worker starts.

    Raises:
        ConfigurationError: There is no formation, or two of them have the same id.
    """
    configs = [formations] if isinstance(formations, FormationConfig) else list(formations)
    return Served(Sites(configs, responder=responder, clock=clock, numbers=numbers), on_keys, run_tasks)


def _make_api(served: Served) -> FastAPI:
    api = FastAPIOffline(
        static_url="/docs/static",  # beside the page: its files come from here and from nobody else
        title="MUXI identity",
        version=version("muxi-identity"),
        summary="The multi-identity user layer for AI assistants.",
        description=_ABOUT,
        docs_url="/docs",
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.served = served
    register()
    for group in GROUPS:
        for operation in group.operations:
            install(api, operation)

    async def unmatched(request: Request, error: Exception) -> Response:
        call: Call = request.scope[SCOPE]
        if isinstance(error, HTTPException) and error.status_code == 405:
            # The framework names the methods of the first route alone that has this path.
            error.headers = {"Allow": ", ".join(sorted(_methods(api, request.url.path)))}
        return refuse(call, problem_from(error, call))

    async def unexpected(request: Request, _error: Exception) -> Response:
        call: Call = request.scope[SCOPE]
        return refuse(call, internal(call.request_id))  # the gate gets the error as well, and logs it

    api.add_exception_handler(HTTPException, unmatched)
    api.add_exception_handler(Exception, unexpected)
    framework = api.openapi
    document: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not document:
            document.update(complete(framework(), GROUPS))
        return document

    api.openapi = openapi  # type: ignore[method-assign]
    return api


def _methods(api: FastAPI, path: str) -> set[str]:
    return {
        method
        for route in api.routes
        if isinstance(route, APIRoute) and route.path_regex.match(path)
        for method in route.methods or ()
    }
