"""One request: which formation it is for, who makes it, whom it is about."""

from __future__ import annotations

import enum
import hashlib
import itertools
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Any, cast

from muxi_identity.arguments import check_note
from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.client.operations import Given, checked_channel, given_by_channel
from muxi_identity.errors import ForbiddenError, InvalidRequestError, UnauthorizedError
from muxi_identity.identifiers import Identifier
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import Caller
from muxi_identity.refusals import MAX_SECRET_BYTES
from muxi_identity.server.idempotency import Claim
from muxi_identity.server.keys import Role
from muxi_identity.server.sites import Site

ADMIN_KEY = b"x-muxi-admin-key"
CLIENT_KEY = b"x-muxi-client-key"
USER = b"x-muxi-user-id"
USER_TYPE = b"x-muxi-user-id-type"
USER_SCOPE = b"x-muxi-user-id-scope"
USER_FORM = b"x-muxi-user-id-form"
SOURCE = b"x-muxi-source"
REASON = b"x-muxi-reason"
IDEMPOTENCY_KEY = b"x-muxi-idempotency-key"
ACTOR = b"x-muxi-actor"
REQUEST_ID = b"x-request-id"
_BEARER = b"authorization"
_NOTES = {ACTOR: "actor", SOURCE: "source", REASON: "reason"}
_OURS = (b"x-muxi-", _BEARER)

# Request ids are no secrets: a process draws one number, and counts. A fork draws another.
_process = secrets.token_hex(6)
_numbers = itertools.count(1)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_HEADER = MAX_SECRET_BYTES  # bytes: the longest identifier that there is
_TOKEN = "eyJ"  # noqa: S105 - how the first part of every JWT begins


def _after_fork() -> None:
    global _process
    _process = secrets.token_hex(6)


os.register_at_fork(after_in_child=_after_fork)


def check_doubled(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """See that no header of ours is there twice and says two things: proxies and servers differ in which they take.

    Raises:
        InvalidRequestError: One is.
    """
    seen: dict[bytes, bytes] = {}
    for name, value in headers:
        if name.startswith(_OURS) and seen.setdefault(name, value) != value:
            raise InvalidRequestError(f"The header {name.decode('latin-1')} is there twice and says two things.")


class Access(enum.Enum):
    """Who may make a call.

    ``PUBLIC``: anybody. ``USER``: whoever has the client key, the admin key or a token; all it reads and writes is of
    the one user that it names. ``ADMIN``: whoever has the admin key.
    """

    PUBLIC = "public"
    USER = "user"
    ADMIN = "admin"


class Call:
    """One request, as far as it is known: who makes it only after :meth:`authenticate`."""

    # On the class as long as a request has no other: most never do, and making one is a tenth of a cached answer.
    route: str = ""
    status: int = 0
    role: Role | None = None
    caller: bytes = b""
    """What tells this caller from others: the key's digest, the token's identifier."""
    shown_user: str | None = None
    result: Any = None
    claim: Claim | None = None
    """Where the request carries an idempotency key: the right to do it."""
    good_until: int | None = None
    """When the token expires that it came with (microseconds)."""
    of_server: bool = False
    """Whether it was called outside of every formation."""
    takes_rows: bool = False
    """Whether its body may take as long as it likes, as long as something comes."""
    is_late: bool = False
    """Whether its body takes too long: whoever reads it raises RequestTimeoutError."""
    _bound: Reference | None = None
    _events: bool = False

    def __init__(self, site: Site, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        self.site = site
        self.method = method
        self.path = path
        self._headers = headers
        self.begun = perf_counter()
        given = headers.get(REQUEST_ID)
        if given is not None and _REQUEST_ID.fullmatch(text := given.decode("latin-1")):
            self.request_id = text
        else:
            self.request_id = f"req_{_process}{next(_numbers):08x}"

    def header(self, name: bytes) -> str | None:
        """Return a header's text, None where there is none. Names are sent as UTF-8, whatever their characters.

        Raises:
            InvalidRequestError: It is no UTF-8 or too long.
        """
        value = self._headers.get(name)
        if value is None:
            return None
        try:
            if len(value) > _MAX_HEADER:
                raise ValueError
            return value.decode()
        except ValueError:
            raise InvalidRequestError(f"{name.decode()} must be UTF-8 text of at most {_MAX_HEADER} bytes.") from None

    @property
    def idempotency_key(self) -> str | None:
        """The key under which the request may be sent again."""
        value = self._headers.get(IDEMPOTENCY_KEY)
        return None if value is None else value.decode("utf-8", "replace")

    @property
    def wants_events(self) -> bool:
        """Whether the caller asked for an event stream."""
        return self._events or b"text/event-stream" in self._headers.get(b"accept", b"")

    def ask_for_events(self) -> None:
        """Note that the body asks for an event stream."""
        self._events = True

    @property
    def repetition_key(self) -> str | None:
        """The idempotency key for the engine: bound to the caller, since the engine knows of none."""
        key = self.idempotency_key
        return None if key is None else hashlib.sha256(self.caller + b"\0" + key.encode()).hexdigest()

    # Who makes it

    def authenticate(self, access: Access) -> None:
        """Find out who calls, count it, and see whether they may.

        Raises:
            UnauthorizedError: No key and no token, or one that is not good.
            RateLimitedError: They have asked for too much.
            ForbiddenError: The key or token is good, and does not allow this.
        """
        if access is Access.PUBLIC:
            return
        self.role = self._let_in()
        self.site.limiter.take(self.role, self.caller)  # what is forbidden too: else it could be tried without end
        if access is Access.ADMIN and self.role is not Role.ADMIN:
            raise ForbiddenError("This takes the admin key (X-Muxi-Admin-Key).")

    def _let_in(self) -> Role:
        # All that is sent must be good: what a caller believes to be in force is, or the request is refused.
        headers = self._headers
        if (key := headers.get(CLIENT_KEY)) is not None and ADMIN_KEY not in headers and _BEARER not in headers:
            return self._open(Role.CLIENT, key.decode("latin-1"))
        found: list[Role] = []
        for name, role in ((ADMIN_KEY, Role.ADMIN), (CLIENT_KEY, Role.CLIENT)):
            if (key := headers.get(name)) is not None:
                found.append(self._open(role, key.decode("latin-1")))
        if (authorization := headers.get(_BEARER)) is not None:
            found.append(self._bear(authorization.decode("latin-1")))
        if not found:
            raise UnauthorizedError(
                "Send a key (X-Muxi-Client-Key or X-Muxi-Admin-Key) or a user token (Authorization: Bearer ...)."
            )
        if Role.TOKEN in found and len(found) > 1:
            raise UnauthorizedError("Send a key or a user token, not both: they say different things of who calls.")
        return found[0]

    def _open(self, role: Role, key: str) -> Role:
        digest = self.site.keys.opens(role, key)
        if digest is None:
            raise UnauthorizedError(f"X-Muxi-{role.value.title()}-Key is none that this formation knows.")
        self.caller = self.caller or digest
        return role

    def _bear(self, authorization: str) -> Role:
        scheme, _, credentials = authorization.partition(" ")
        credentials = credentials.strip()
        if scheme.lower() != "bearer":
            raise UnauthorizedError("Authorization is understood as Bearer and a user token alone.")
        if credentials.startswith(_TOKEN):
            self._bound, self.good_until = self.site.tokens.read(credentials)
            self.caller = self.caller or repr(self._bound).encode()
            return Role.TOKEN
        # Whoever can send no header of ours, such as a scraper of metrics, sends the key like this.
        for role in (Role.ADMIN, Role.CLIENT):
            if (digest := self.site.keys.opens(role, credentials)) is not None:
                self.caller = self.caller or digest
                return role
        raise UnauthorizedError("The bearer token is none that this formation knows.")

    @property
    def is_admin(self) -> bool:
        """Whether the caller has the admin key."""
        return self.role is Role.ADMIN

    @property
    def client(self) -> AsyncFormationClient:
        """The formation, in the name of whoever calls."""
        return self.site.client(self._actor)

    def acting(self, source: str | None = None) -> Caller:
        """Return who acts, and in which request, for an operation of the engine; ``source`` is the call's own."""
        return Caller(self._actor, source, request_id=self.request_id)

    @property
    def _actor(self) -> str:
        """Whom the history is to name: the kind of key, or in whose name the caller says that they act.

        An application's own word stands behind the kind of its key, so that it cannot pass for an operator's.

        Raises:
            InvalidRequestError: X-Muxi-Actor is too long, or holds what cannot be seen.
        """
        assert self.role is not None
        said = None if self.role is Role.TOKEN else self.note(ACTOR)
        if not said:
            return self.role.value
        return said if self.is_admin else f"{self.role.value}: {said}"

    def note(self, name: bytes) -> str | None:
        """Return the header of an actor, a source or a reason, None where there is none.

        Raises:
            InvalidRequestError: It is too long, or holds what cannot be seen.
        """
        text = self.header(name)
        check_note(_NOTES[name], text)
        return text

    # Whom it is about

    def check_names(self) -> None:
        """Check the headers that name a user, whether or not they are needed.

        Raises:
            InvalidRequestError: One of them is too long.
            InvalidIdentifierError: The type or the scope cannot be one.
        """
        self.header(USER)
        kind, scope = self.header(USER_TYPE), self.header(USER_SCOPE)
        if kind is not None:
            checked_channel(kind, scope)
        elif scope is not None:
            raise InvalidRequestError("X-Muxi-User-ID-Scope says nothing without X-Muxi-User-ID-Type.")

    async def user(self, *others: Given | None) -> Given:
        """Return the one user that the request names: by header, and by whatever ``others`` hold.

        Raises:
            InvalidRequestError: It names nobody, or two.
            InvalidIdentifierError: What it names can be nobody's.
            ForbiddenError: The caller has a token, and it names somebody else.
        """
        named = [self.typed(each) for each in (self.header(USER) or None, *others) if each not in (None, "")]
        parse = self.site.formation.parse
        if self._bound is not None:
            for each in named:
                await self._check_bound(self._bound, parse(each))
            self.shown_user = self._pseudonym(self._bound)
            return cast("Given", self._bound)  # what was parsed is taken as it is
        if not named:
            raise InvalidRequestError("Name the user: X-Muxi-User-ID takes any of their identifiers.")
        reference = parse(named[0])
        if any(parse(each) != reference for each in named[1:]):
            raise InvalidRequestError("The request names two users; name one, or the same one twice.")
        self.shown_user = self._pseudonym(reference)
        return named[0]

    async def user_or_none(self, *others: Given | None) -> Given | None:
        """Return :meth:`user`, None where the request names nobody."""
        if self._bound is None and not self.header(USER) and all(each in (None, "") for each in others):
            return None
        return await self.user(*others)

    @property
    def has_type(self) -> bool:
        """Whether a header names the type of whom the call is about, or a scope that needs one."""
        return USER_TYPE in self._headers or USER_SCOPE in self._headers

    def typed(self, given: Given | None) -> Given:
        """Return ``given`` with the type and scope that the headers name, where it is bare.

        They are a channel's, in which a bare public id is one; with ``X-Muxi-User-ID-Form: pair`` they are the
        identifier's own.
        """
        assert given is not None
        kind = self.header(USER_TYPE)
        if kind is None:
            return given
        if self._headers.get(USER_FORM) == b"pair" and isinstance(given, str):
            scope = self.header(USER_SCOPE)
            return (given, kind) if scope is None else {"identifier": given, "type": kind, "scope": scope}
        secret = self.site.config.identity.rules.rule(kind).secret
        return given_by_channel(given, kind, self.header(USER_SCOPE), secret=secret)

    def named(self, user_id: str) -> Given:
        """Return the user that a path names: it, or for ``me`` whom the header names.

        Raises:
            InvalidRequestError: The header is missing.
        """
        given = self.header(USER) if user_id == "me" else user_id
        if not given:
            raise InvalidRequestError("Name the user: X-Muxi-User-ID takes any of their identifiers.")
        return self.typed(given)

    async def _check_bound(self, bound: Reference, named: Reference) -> None:
        if isinstance(named, Identifier):
            # Named with less than the token says of it, it is still the token's: that is who is acted as.
            if (
                isinstance(bound, Identifier)
                and named.fold == bound.fold
                and (named.guessed or (named.type == bound.type and named.scope in (None, bound.scope)))
            ):
                return
        elif named == bound:
            return
        else:
            found = await self.site.formation.find(bound)
            if found is not None and found["muxi_user_id"] == named.user_id:
                return
        raise ForbiddenError("The token acts as one identifier alone, and the request names somebody else.")

    def _pseudonym(self, reference: Reference) -> str:
        if isinstance(reference, Identifier):
            return self.site.pseudonym(reference.fold)
        return reference.user_id
