"""Resolving, the call that is made most: answered without the framework, from the cache where it can be."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from muxi_identity.errors import (
    AmbiguousIdentifierError,
    InvalidIdentifierError,
    InvalidRequestError,
    UserNotFoundError,
)
from muxi_identity.models import ResolvedUser
from muxi_identity.server.bodies import read_body
from muxi_identity.server.call import Access, Call
from muxi_identity.server.envelope import success
from muxi_identity.server.keys import Role
from muxi_identity.server.limits import NO_JSON
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.problems import Problem
from muxi_identity.server.routes.shapes import AnyIdentifier, Body, Flag
from muxi_identity.server.serving import gone, problem_from, refuse

routes = Routes("Resolving", "Who an identifier means.")

_PATH = "/users/resolve"


class ResolveBody(Body):
    """Whom to look for, and whether to make a user where nobody is found."""

    identifier: AnyIdentifier
    create_user: Flag = False


@routes.add(
    "POST",
    _PATH,
    access=Access.USER,
    data=ResolvedUser,
    typed=True,
    raises=(UserNotFoundError, AmbiguousIdentifierError, InvalidIdentifierError),
    body={"identifier": "alice@email.com", "create_user": True},
    example={"identifier": "alice@email.com", "muxi_user_id": "usr_1f2e3d4c5b6a79880f1e", "created": True},
)
async def resolve_user(call: Calling, body: ResolveBody) -> ResolvedUser:
    """Resolve an identifier to its user.

    `create_user` makes one at first contact. It can be sent again without harm: `created` is then false.
    """
    return await _resolve(call, body.identifier, body.create_user)


async def _resolve(call: Call, identifier: Any, create_user: bool) -> ResolvedUser:
    call.check_names()
    if call.role is Role.TOKEN:
        identifier = await call.user(identifier)
    elif type(identifier) is list:
        identifier = tuple(identifier)  # the form that the cache knows
    elif type(identifier) is str:
        identifier = call.typed(identifier)
    found = await call.client.resolve_user(identifier, create_user=create_user)
    call.shown_user = found["muxi_user_id"]
    return found


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    identifier: Any
    create_user: bool = False


_decode = msgspec.json.Decoder(_Asked).decode


async def resolve_directly(call: Call, receive: Receive) -> bytes | Response:
    """Answer ``POST /users/resolve``, as :func:`resolve_user` does, with the body of a good answer alone."""
    call.route = _PATH
    try:
        call.authenticate(Access.USER)
        body = await read_body(call, receive, None)
        asked = _decode(body)
        found = None
        if type(asked.identifier) is str and call.role is not Role.TOKEN and not call.has_type:
            found = call.site.cached(asked.identifier)
        if found is None:
            found = await _resolve(call, asked.identifier, asked.create_user)
        else:
            call.shown_user = found["muxi_user_id"]
        return success("resolve_user", found, call.request_id, call.idempotency_key)
    except msgspec.ValidationError as error:
        return refuse(call, Problem(422, InvalidRequestError.code, f"body: {error}"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the last: thousands of brackets
        return refuse(call, Problem(400, InvalidRequestError.code, NO_JSON))
    except ClientDisconnect:
        return gone()
    except Exception as error:  # noqa: BLE001 (the outermost handler)
        return refuse(call, problem_from(error, call))
