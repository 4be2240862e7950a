"""User tokens: signed, expiring, and good for acting as one identifier of one formation.

For browsers and mobile apps, which can keep no key. A token is a JWT (HS256) under a key that is derived from the
formation's secret; its audience is the formation. It can be read by whoever holds it, so that it never names a secret.

It is pinned to one identifier when it is made: with the type and the scope of its row, or without where that has none.
A spelling alone may come to mean somebody else while the token is good, once the identifier is unlinked and another of
the same spelling linked to them. One that somebody has when the token is made makes no first contact later: else the
holder of an old token could make a second person of that spelling, and the spelling ambiguous for the first.
"""

from __future__ import annotations

import secrets
from typing import Any, TypedDict

import jwt

from muxi_identity.errors import InvalidRequestError, UnauthorizedError
from muxi_identity.formation import Formation
from muxi_identity.identifiers import Identifier
from muxi_identity.identity.lookup import Reference
from muxi_identity.models import iso

MIN_SECONDS = 60
MAX_SECONDS = 30 * 86_400
DEFAULT_SECONDS = 3_600
MAX_CHARACTERS = 4_096
_ALGORITHM = "HS256"
_PURPOSE = "user token"


class UserToken(TypedDict):
    """A token and until when it is good."""

    token: str
    expires_at: str
    identifier: str
    type: str | None
    scope: str | None


class Tokens:
    """Makes and reads the tokens of one formation."""

    def __init__(self, formation: Formation) -> None:
        self._formation = formation
        self._key = formation.derive_key(_PURPOSE)

    async def issue(self, given: object, seconds: int = DEFAULT_SECONDS) -> UserToken:
        """Make a token that acts as ``given``, an identifier in any form or a public id, as what that means now.

        Raises:
            InvalidIdentifierError: It can be nobody's.
            AmbiguousIdentifierError: Untyped, and several people have it.
            InvalidRequestError: It is a secret, or ``seconds`` is out of range.
        """
        if type(seconds) is not int or not MIN_SECONDS <= seconds <= MAX_SECONDS:
            raise InvalidRequestError(
                f"expires_in must be a whole number of seconds from {MIN_SECONDS} to {MAX_SECONDS}."
            )
        reference = await self._formation.pin(self._formation.parse(given))
        if isinstance(reference, Identifier) and reference.secret:
            raise InvalidRequestError(
                "A token can be read by whoever holds it and must not name a secret; name the person by an identifier "
                "that is none, or by the public id."
            )
        now = self._formation.now // 1_000_000
        claims: dict[str, Any] = {
            "aud": self._formation.config.id,
            "iat": now,
            "exp": now + seconds,
            "jti": secrets.token_urlsafe(12),
            **_name(reference),
        }
        return {
            "token": jwt.encode(claims, self._key, algorithm=_ALGORITHM),
            "expires_at": iso((now + seconds) * 1_000_000),
            "identifier": claims["sub"],
            "type": claims.get("typ"),
            "scope": claims.get("scp"),
        }

    def read(self, token: str) -> tuple[Reference, int]:
        """Return the very identifier that a token acts as, and until when (microseconds).

        Raises:
            UnauthorizedError: It is none of this formation's, or has expired.
            InvalidIdentifierError: The formation has come to refuse what it names.
        """
        try:
            if len(token) > MAX_CHARACTERS:
                raise jwt.InvalidTokenError
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                audience=self._formation.config.id,
                # Judged below, by the clock that the formation goes by.
                options={"require": ["aud", "exp", "iat", "sub"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.PyJWTError:
            raise UnauthorizedError(
                "The user token is not one of this formation; ask the server of your application for another."
            ) from None
        if claims["exp"] * 1_000_000 <= self._formation.now:
            raise UnauthorizedError("The user token has expired; ask the server of your application for another.")
        until = int(claims["exp"]) * 1_000_000
        kind = claims.get("typ")
        named = (
            claims["sub"] if kind is None else {"identifier": claims["sub"], "type": kind, "scope": claims.get("scp")}
        )
        reference = self._formation.parse(named)
        if isinstance(reference, Identifier):
            reference = reference._replace(guessed=False, exact=True, known=not claims.get("new", False))
        return reference, until


def _name(reference: Reference) -> dict[str, Any]:
    if not isinstance(reference, Identifier):
        return {"sub": reference.user_id}
    name = {"sub": reference.spelling, "typ": reference.type, "scp": reference.scope, "new": not reference.known}
    return {claim: value for claim, value in name.items() if value}
