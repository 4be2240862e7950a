"""Link codes: a person joins two of their own channels, with proof of both."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import WithJsonSchema

from muxi_identity.errors import (
    IdentifierLimitError,
    IdentityChangedError,
    LinkCodeError,
    LinkCodeLimitError,
)
from muxi_identity.models import LinkCode, LinkRedemption
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import NAMING, Flag, OpenBody, UserInBody

routes = Routes("Link codes", "A person joins two of their own channels: asked for in one, typed in the other.")


class CodeBody(OpenBody):
    """For whom; header or token may name them as well."""

    user_id: UserInBody = None


class RedeemBody(OpenBody):
    """The code as it was typed. ``confirm``: join, and do not just show what would be joined."""

    code: Annotated[Any, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 64, "examples": ["ABCD-EFGH"]})]
    confirm: Flag = False
    user_id: UserInBody = None


@routes.add(
    "POST",
    "/users/link-codes",
    access=Access.USER,
    data=LinkCode,
    status=201,
    user=True,
    repetition="harmless",
    raises=(*NAMING, IdentityChangedError),
    body={},
    example={"code": "ABCD-EFGH", "expires_at": "2026-01-01T00:10:00.000000Z"},
)
async def create_link_code(call: Calling, body: CodeBody) -> LinkCode:
    """Make a code for an identifier, good once and for ten minutes.

    Give it only to whoever wrote in under this identifier. Another request makes another one, and ends this; one that
    is sent again with its idempotency key is told the same one.
    """
    return await call.client.create_link_code(await call.user(body.user_id))


@routes.add(
    "POST",
    "/users/link-codes/redeem",
    access=Access.USER,
    data=LinkRedemption,
    user=True,
    repetition="once",
    raises=(*NAMING, LinkCodeError, LinkCodeLimitError, IdentifierLimitError, IdentityChangedError),
    body={"code": "ABCD-EFGH", "confirm": True},
    example={
        "joined": True,
        "already_one": False,
        "yours": [{"type": "email", "hint": "a...m"}],
        "theirs": [{"type": "slack", "hint": "U9...C"}],
        "expires_at": "2026-01-01T00:10:00.000000Z",
        "muxi_user_id": "usr_1f2e3d4c5b6a79880f1e",
        "merge_id": "mrg_7c6b5a49382716f5e4d3",
    },
)
async def redeem_link_code(call: Calling, body: RedeemBody) -> LinkRedemption:
    """Show what a code joins with this identifier's person; with `confirm`, join the two.

    Show the person the preview first: somebody else may have talked them into typing the code.
    """
    return await call.client.redeem_link_code(body.code, await call.user(body.user_id), confirm=body.confirm)
