"""From an operation to a route: let in, count, read, do once, answer."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from muxi_identity.errors import (
    InvalidRequestError,
    MuxiError,
    NotFoundError,
    StorageUnavailableError,
)
from muxi_identity.server.bodies import read_body
from muxi_identity.server.call import IDEMPOTENCY_KEY, USER, USER_SCOPE, USER_TYPE, Access, Call
from muxi_identity.server.envelope import failure, success
from muxi_identity.server.idempotency import Claim, Stored
from muxi_identity.server.limits import NO_JSON
from muxi_identity.server.openapi import extra_of, responses_of
from muxi_identity.server.operations import SCOPE, Endpoint, Operation
from muxi_identity.server.problems import Problem, internal, problem_of
from muxi_identity.server.sites import PREFIX
from muxi_identity.server.streams import CONTENT_TYPE, EventStream, asks_for_events, event, told

logger = logging.getLogger("muxi_identity.server")

JSON = "application/json"
_MOST_FAULTS = 5


def install(app: FastAPI, operation: Operation) -> None:
    """Add the route of ``operation`` to ``app``."""

    class Served(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            return _handler(operation, super().get_route_handler())

    def add(method: str, *, shown: bool) -> None:
        app.router.add_api_route(
            PREFIX + operation.path,
            _enveloped(operation),
            methods=[method],
            name=operation.name,
            operation_id=operation.name,
            status_code=operation.status,
            response_model=None,
            response_class=Response,  # what it answers is said by ``responses`` alone
            tags=[operation.tag],
            summary=operation.summary,
            description=operation.description,
            responses=responses_of(operation),
            openapi_extra=extra_of(operation),
            include_in_schema=shown,
            route_class_override=Served,
        )

    add(operation.method, shown=True)
    if operation.access is Access.PUBLIC:
        add("HEAD", shown=False)  # what many load balancers ask


def _enveloped(operation: Operation) -> Endpoint:
    endpoint = operation.endpoint

    @functools.wraps(endpoint)
    async def run(**arguments: Any) -> Response:
        call: Call = arguments["call"]
        result = await endpoint(**arguments)
        if isinstance(result, Response):
            return result
        call.result = result
        return reply(call, operation, operation.status, result)

    return run


def reply(call: Call, operation: Operation, status: int, data: Any) -> Response:
    """Return the answer to a call that went well."""
    body = success(operation.name, data, call.request_id, call.idempotency_key)
    return Response(body, status, media_type=JSON)


def describe(problem: Problem, request_id: str) -> dict[str, Any]:
    """Return what an event says of an error."""
    return {
        "error": problem.message,
        "type": problem.code,
        "details": problem.details,
        "request_id": request_id,
    }


def refuse(call: Call, problem: Problem) -> Response:
    """Return the answer to a call that did not. Whoever asked for events is told by one, with the same status."""
    if call.wants_events:
        told = event(describe(problem, call.request_id), "error")
        return Response(told, problem.status, dict(problem.headers), media_type=CONTENT_TYPE)
    body = failure(problem.code, problem.message, problem.details, call.request_id, call.idempotency_key)
    return Response(body, problem.status, dict(problem.headers), media_type=JSON)


def gone() -> Response:
    """Return what is left to answer when a body breaks off: nobody reads it, but the log and the numbers name it."""
    return Response(status_code=499)


def problem_from(error: Exception, call: Call) -> Problem:
    """Return what to tell of whatever a call ended with; what nobody foresaw is logged and not told."""
    if isinstance(error, MuxiError):
        problem = problem_of(error, call.request_id, admin=call.is_admin)
    elif isinstance(error, RequestValidationError):
        return _invalid(error)
    elif isinstance(error, HTTPException):
        return _plain(error, call)
    else:
        problem = internal(call.request_id)
    if problem.status == 500:
        logger.error("a call failed", exc_info=error, extra={"fields": {"request_id": call.request_id}})
    return problem


def _invalid(error: RequestValidationError) -> Problem:
    # What was sent is not repeated: it may be a key, or long.
    faults = [
        {"at": ".".join(str(part) for part in fault["loc"]), "message": fault["msg"]} for fault in error.errors()
    ][:_MOST_FAULTS]
    if any(fault["type"] == "json_invalid" for fault in error.errors()):
        return Problem(400, InvalidRequestError.code, NO_JSON, {"errors": faults})
    message = "; ".join(f"{fault['at']}: {fault['message']}" for fault in faults)
    return Problem(422, InvalidRequestError.code, message, {"errors": faults})


def _plain(error: HTTPException, call: Call) -> Problem:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return Problem(404, NotFoundError.code, not_found(call.path), headers=headers)
    if error.status_code == 405:
        return Problem(
            405, "METHOD_NOT_ALLOWED", f"This address takes {headers.get('Allow', headers.get('allow', ''))}.",
            headers=headers,
        )  # fmt: skip
    if error.status_code == 400:  # the framework raises it for a body alone
        return Problem(400, InvalidRequestError.code, NO_JSON)
    return Problem(error.status_code, InvalidRequestError.code, str(error.detail), headers=headers)


# What the SDK calls that is not about people; its client of whole servers calls outside of every formation.
_OTHER_PRODUCTS = re.compile(
    r"/v1/(a2a|agents|async|audiochat|formation|llm|logging|logs|mcp|overlord|requests|secrets|skills|sops|triggers)(/.*)?"
    r"|/v1/scheduler|/v1/events/[^/]+/[^/]+|/ping|/rpc/.*"
)


def not_found(path: str) -> str:
    """Return what to say of an address that leads nowhere."""
    if _OTHER_PRODUCTS.fullmatch(path):
        return (
            "This is no call of this server: it keeps users, identifiers and what is known of people. It has no "
            "agents, tools, triggers, skills or audio, and deploys no formations."
        )
    return "There is nothing at this address; /docs lists the calls."


def _handler(
    operation: Operation, inner: Callable[[Request], Coroutine[Any, Any, Response]]
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def handle(request: Request) -> Response:
        call: Call = request.scope[SCOPE]
        call.route = operation.template
        if operation.streams == "always":
            call.ask_for_events()
        try:
            call.authenticate(operation.access)
            call.takes_rows = operation.takes_rows
            if operation.takes_rows or operation.access is Access.PUBLIC:
                return await inner(request)  # nobody without a key is waited for
            declared = request.headers.get("content-length")
            if operation.user or operation.typed:
                call.check_names()
            body = await read_body(call, request.receive, None if declared is None else declared.encode("latin-1"))
            if operation.streams == "asked" and asks_for_events(body):
                call.ask_for_events()  # whatever it comes to: a refusal and a repetition are told like a first answer
            again = Request(_as_json(request.scope), _once(body, request.receive))
            if operation.repetition is None or call.idempotency_key is None:
                return await inner(again)
            return await _do_once(operation, call, body, inner, again)
        except ClientDisconnect:
            return gone()
        except Exception as error:  # noqa: BLE001 (the outermost handler)
            return refuse(call, problem_from(error, call))

    return handle


def _as_json(scope: Scope) -> Scope:
    """Return a request's scope with JSON for the type of its body, which there is no other of, whatever it says.

    Else what clients that name none send, such as `curl -d`, would be called no dictionary. No page gains by it: it
    cannot send a key or a token without asking first.
    """
    others = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
    return {**scope, "headers": [*others, (b"content-type", JSON.encode())]}


def _once(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()  # whether the client goes away
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _do_once(
    operation: Operation,
    call: Call,
    body: bytes,
    inner: Callable[[Request], Coroutine[Any, Any, Response]],
    request: Request,
) -> Response:
    key = call.header(IDEMPOTENCY_KEY)
    assert key is not None
    assert call.role is not None
    parts = [
        operation.name,
        request.url.path,
        request.url.query,
        *(call.header(name) or "" for name in (USER, USER_TYPE, USER_SCOPE)),
    ]
    wanted = b"\0".join([*(part.encode("utf-8", "surrogatepass") for part in parts), body])
    claim = await call.site.once.begin(
        key, call.role.encode() + b"\0" + call.caller, wanted, repeatable=operation.repetition == "harmless"
    )
    if isinstance(claim, Stored):
        if operation.streams and call.wants_events:
            return EventStream(told(claim.data))
        return reply(call, operation, claim.status, claim.data)
    call.claim = claim
    try:
        response = await inner(request)
    except Exception as error:
        await settle(claim, error)
        raise
    except BaseException:
        claim.let_go()
        raise
    if not isinstance(response, EventStream):  # that is done when it has ended, and knows best how
        await claim.finish(operation.status, call.result)
    return response


async def settle(claim: Claim, error: Exception) -> None:
    """Give a claim up where it is certain that nothing was done."""
    foreseen = isinstance(error, MuxiError | RequestValidationError | HTTPException)
    if foreseen and not isinstance(error, StorageUnavailableError):
        await claim.give_up()
    else:
        claim.let_go()  # a commit may have gone through all the same
