"""Path parameters: one segment each, decoded after the path was split, so that any identifier fits in one."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import quote, unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor

from muxi_identity.errors import InvalidRequestError

_NOT_IDENTIFIERS = "unlink|replace|rotate"
_NOT_CREDENTIALS = "services|rotate"
_NOT_USERS = "resolve|explain|identifiers|tokens|merge|merges|link-codes|import|export"
_NOT_MEMORIES = "search"


class Segment(Convertor[str]):
    """What stands between two slashes, percent-encoded."""

    regex: ClassVar[str] = "[^/]+"

    def convert(self, value: str) -> str:
        """Decode a parameter; :func:`check` has made sure that it can be."""
        return unquote_to_bytes(value).decode()

    def to_string(self, value: str) -> str:
        """Encode a parameter."""
        return quote(value, safe="")


class User(Segment):
    """Any identifier of a user, but none of the words that stand in the same place of other paths."""

    regex: ClassVar[str] = rf"(?!(?:{_NOT_USERS})(?:/|$))[^/]+"


class Tail(Segment):
    """All that is left of a path, slashes too: for clients that do not encode them."""

    regex: ClassVar[str] = rf"(?!(?:{_NOT_IDENTIFIERS})$).+"


class Credential(Segment):
    """A credential's id, but none of the words that stand in the same place of other paths."""

    regex: ClassVar[str] = rf"(?!(?:{_NOT_CREDENTIALS})$)[^/]+"


class Memory(Segment):
    """A memory's id, but none of the words that stand in the same place of other paths."""

    regex: ClassVar[str] = rf"(?!(?:{_NOT_MEMORIES})$)[^/]+"


def check(path: str) -> None:
    """Check a path as it came, before it is matched with any route.

    Raises:
        InvalidRequestError: Decoded it is no UTF-8.
    """
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise InvalidRequestError("The path holds percent-encoded bytes that are no UTF-8.") from None


def register() -> None:
    """Make the kinds of parameter known by name, as in ``{name:segment}``."""
    for kind in (Segment, User, Tail, Credential, Memory):
        register_url_convertor(kind.__name__.lower(), kind())
