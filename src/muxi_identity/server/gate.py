"""The first and the last to see a request: finds its formation, counts it, logs it, and lets nothing escape."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muxi_identity.errors import FormationNotFoundError, ServerUnavailableError
from muxi_identity.server.call import Call, check_doubled
from muxi_identity.server.cors import allow_origin, preflight
from muxi_identity.server.logs import Line, access_log
from muxi_identity.server.operations import SCOPE
from muxi_identity.server.paths import check
from muxi_identity.server.serving import JSON, problem_from, refuse
from muxi_identity.server.sites import OF_THE_SERVER, PREFIX, Sites

Direct = Callable[[Call, Receive], Awaitable[bytes | Response]]
"""Answers a call with the body of a good answer, or with another whole one."""
_NO_ROUTE = "-"
_JSON_HEADER = (b"content-type", JSON.encode())
_CLOSE = (b"connection", b"close")
_NO_STORE = (b"cache-control", b"no-store")
"""On every answer of a formation: it is about somebody, and the next request for it may come from somebody else."""
_ALWAYS = frozenset({PREFIX + "/health", PREFIX + "/ready"})
"""What is answered though there are too many connections: a server that is busy is neither dead nor broken."""


class Gate:
    """An ASGI application around the one that has the routes.

    ``direct`` holds calls that are answered here, by method and path: those for which a framework's routing would
    take longer than the answer. Once ``stopping`` is set, each answer asks for its connection to be closed.
    """

    def __init__(
        self, app: ASGIApp, sites: Sites, direct: Mapping[tuple[str, str], Direct], stopping: asyncio.Event
    ) -> None:
        self._app = app
        self._stopping = stopping
        self._sites = sites
        self._direct = direct
        self._direct_to_first: dict[tuple[str, bytes | None], tuple[Direct, str]] = {
            (method, path.encode()): (answer, path) for (method, path), answer in direct.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        headers = dict(scope["headers"])
        doubled = len(headers) != len(scope["headers"])
        if b"origin" not in headers and not doubled:
            known = self._direct_to_first.get((scope["method"], scope.get("raw_path")))
            if known is not None:
                await self._answer_directly(*known, headers, scope, receive, send)
                return
        raw = _raw_path(scope)
        site, path = self._sites.locate(raw)
        call = scope[SCOPE] = Call(site or self._sites.first, scope["method"], path, headers)
        call.of_server = raw in OF_THE_SERVER
        origin = headers.get(b"origin")
        answer = self._answering(call, origin, send)
        try:
            if doubled:
                check_doubled(scope["headers"])
            if site is None:
                raise FormationNotFoundError("This server has no formation of that id.")
            elif origin is not None and (allowed := preflight(site.config.server.cors_origins, headers, call.method)):
                await allowed(scope, receive, answer)
            elif (direct := self._direct.get((call.method, path))) is not None:
                told = await direct(call, receive)
                whole = told if isinstance(told, Response) else Response(told, media_type=JSON)
                await whole(scope, receive, answer)
            else:
                check(path)
                inner = {**scope, "path": path, "raw_path": path.encode("latin-1")}
                await self._app(inner, receive, answer)
        except asyncio.CancelledError:
            if not call.status:
                await _cut(call)(scope, receive, answer)
            raise
        except Exception as error:  # noqa: BLE001 (the outermost handler)
            problem = problem_from(error, call)
            if not call.status:
                await refuse(call, problem)(scope, receive, answer)
        finally:
            self._record(call)

    async def turn_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer that there are too many connections, and close this one."""
        headers = dict(scope["headers"])
        site, path = self._sites.locate(_raw_path(scope))
        if path in _ALWAYS:
            await self(scope, receive, send)
            return
        call = Call(site or self._sites.first, scope["method"], path, headers)
        error = ServerUnavailableError("The server has as many connections as it takes; call again later.")
        response = refuse(call, problem_from(error, call))
        response.headers["Connection"] = "close"
        await response(scope, receive, self._answering(call, headers.get(b"origin"), send))
        self._record(call)

    async def _answer_directly(
        self, direct: Direct, path: str, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer what is called most, by a server's own client: no page's origin, no framework, no closure."""
        call = scope[SCOPE] = Call(self._sites.first, scope["method"], path, headers)
        try:
            told = await direct(call, receive)
            if type(told) is bytes:
                body, head = told, [_JSON_HEADER]
                call.status = status = 200
            else:
                assert isinstance(told, Response)
                body, head = bytes(told.body), [pair for pair in told.raw_headers if pair[0] != b"content-length"]
                call.status = status = told.status_code
            head += [
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", call.request_id.encode()),
                _NO_STORE,
            ]
            if self._stopping.is_set():
                head.append(_CLOSE)
            head += allow_origin(call.site.config.server.cors_origins, None)
            await send({"type": "http.response.start", "status": status, "headers": head})
            await send({"type": "http.response.body", "body": body})
        except asyncio.CancelledError:
            if not call.status:
                await _cut(call)(scope, receive, self._answering(call, None, send))
            raise
        finally:
            self._record(call)

    def _answering(self, call: Call, origin: bytes | None, send: Send) -> Send:
        """Return how an answer is sent: with the headers that each has, and its status noted."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", call.request_id.encode()),
                    *([_NO_STORE] if call.path.startswith(PREFIX) else ()),
                    *allow_origin(call.site.config.server.cors_origins, origin),
                ]
                if self._stopping.is_set():
                    message["headers"].append(_CLOSE)
            await send(message)

        return answer

    def _record(self, call: Call) -> None:
        seconds = perf_counter() - call.begun
        site, route = call.site, call.route or _NO_ROUTE
        site.metrics.answered(call.method if call.route else _NO_ROUTE, route, call.status, seconds)
        access_log.write(
            Line(
                call.request_id,
                site.config.id,
                call.method,
                route,
                call.status,
                round(seconds * 1000, 3),
                call.role,
                call.shown_user,
            )
        )


def _raw_path(scope: Scope) -> str:
    """Return the path undecoded: a slash within an identifier must not become one between two segments."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")


def _cut(call: Call) -> Response:
    """Return the answer to a call that is cancelled since the server has no more time to stop.

    The server below would answer 500, which nobody can tell from a mistake, and nobody sends again.
    """
    error = ServerUnavailableError(
        "The server stopped before it had answered, and may have done it all the same. Call again; send a write under "
        "the same idempotency key."
    )
    return refuse(call, problem_from(error, call))
