"""One call as it is to be sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from muxi_identity.arguments import check_idempotency_key, is_storable
from muxi_identity.client.remote.naming import Named
from muxi_identity.errors import InvalidRequestError

MAX_CURSOR = 512
MAX_SEGMENT = 256
_NOBODY = "-"
_PLACES = (".", "..")


class CallerLike(Protocol):
    """Who acts, as the engine knows them; over HTTP the server knows who by the key, and why by the call."""

    @property
    def source(self) -> str | None:
        """By what way."""

    @property
    def reason(self) -> str | None:
        """Why."""


class SearchLike(Protocol):
    """Which people are wanted, as the engine knows it; times are microseconds since 1970."""

    @property
    def prefix(self) -> str | None:
        """How an identifier of theirs begins."""

    @property
    def type(self) -> str | None:
        """Of which type it is."""

    @property
    def created_from(self) -> int | None:
        """When they were made at the earliest."""

    @property
    def created_before(self) -> int | None:
        """Before when they were made."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One call. Its body and its headers are not shown: they hold keys, and what people said.

    ``path`` is percent-encoded. ``admin``: it takes the admin key. ``keyed``: it is sent under an idempotency key
    (``key``, else one made for it), so that it is done once however often it is sent; anything else may be repeated as
    it is. ``notes`` are further headers. ``patience``: how many seconds more than others it may take.
    """

    method: str
    path: str
    user: Named | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = field(default=None, repr=False)
    admin: bool = False
    keyed: bool = False
    key: str | None = field(default=None, repr=False)
    notes: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    patience: float = 0.0


def segment(given: object) -> str:
    """Return ``given`` as one segment of a path; what can be no id becomes one that nothing has."""
    if not isinstance(given, str) or not 0 < len(given) <= MAX_SEGMENT or not is_storable(given):
        return _NOBODY
    return _NOBODY if given in _PLACES else quote(given, safe="")


def own_segment(name: str, given: str) -> str:
    """Return a text that its owner chose, checked already, as one segment of a path.

    Raises:
        InvalidRequestError: It is "." or "..", which proxies take for a way up, to another call.
    """
    if given in _PLACES:
        raise InvalidRequestError(f"{name} cannot be {given!r} over HTTP: it would be taken for a part of the address.")
    return quote(given, safe="")


def checked_cursor(cursor: object, call: str) -> str | None:
    """Return a cursor if it is one in shape; whether it is one of theirs the server sees.

    Raises:
        InvalidRequestError: It is none.
    """
    if cursor is None:
        return None
    if isinstance(cursor, str) and 0 < len(cursor) <= MAX_CURSOR and is_storable(cursor):
        return cursor
    raise InvalidRequestError(f"cursor is not one that {call} gave; pass next_cursor of the page before.")


def header_key(given: object) -> str:
    """Return an idempotency key as a header can hold it: as it is, else its digest.

    Raises:
        InvalidRequestError: It can be none.
    """
    key = check_idempotency_key(given)
    if key.isascii() and key.isprintable() and key == key.strip():
        return key
    return hashlib.sha256(key.encode()).hexdigest()
