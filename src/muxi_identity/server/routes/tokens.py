"""User tokens, for browsers and mobile apps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from muxi_identity.errors import AmbiguousIdentifierError, InvalidIdentifierError
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import AnyIdentifier, Body
from muxi_identity.server.tokens import DEFAULT_SECONDS, MAX_SECONDS, MIN_SECONDS, UserToken

routes = Routes("Tokens", "Keys for one identifier, for a while.")


class TokenBody(Body):
    """Whom the token acts as, and for how many seconds."""

    user_id: AnyIdentifier
    expires_in: Annotated[int, Field(ge=MIN_SECONDS, le=MAX_SECONDS)] = DEFAULT_SECONDS


@routes.add(
    "POST",
    "/users/tokens",
    access=Access.ADMIN,
    data=UserToken,
    status=201,
    repetition="harmless",
    raises=(InvalidIdentifierError, AmbiguousIdentifierError),
    body={"user_id": ["user_123", "internal"], "expires_in": 3600},
    example={
        "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...",
        "expires_at": "2026-01-01T01:00:00.000000Z",
        "identifier": "user_123",
        "type": "internal",
        "scope": None,
    },
)
async def create_user_token(call: Calling, body: TokenBody) -> UserToken:
    """Make a token that acts as one identifier until it expires.

    Give it to a page or an app of the person whom your application has signed in. It is bound to the identifier as it
    is linked now, with the type and the scope that the answer shows: one of the same spelling that is linked to
    somebody else later is not its own. It cannot be called back; a new `MUXI_SECRET_KEY` would end all of them.
    """
    return await call.site.tokens.issue(body.user_id, body.expires_in)
