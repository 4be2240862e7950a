"""Arguments of the public calls, checked the same for every client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from muxi_identity.errors import InvalidIdentifierError, InvalidRequestError
from muxi_identity.identity.deciding import MODES, OnConflict
from muxi_identity.refusals import parse_scope, parse_type

Given: TypeAlias = str | int | tuple[str | int, str | None] | list[Any] | Mapping[str, Any]
"""An identifier as a caller may give it; what does not fit raises InvalidIdentifierError."""


def checked_mode(on_conflict: OnConflict) -> OnConflict:
    """Return ``on_conflict`` if it is one of the three.

    Raises:
        InvalidRequestError: It is not.
    """
    if on_conflict not in MODES:
        raise InvalidRequestError('on_conflict must be "raise", "absorb" or "merge".')
    return on_conflict


def checked_flag(name: str, value: bool) -> bool:
    """Return ``value`` if it is a bool: the text "false" must not count as proof.

    Raises:
        InvalidRequestError: It is not.
    """
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be True or False.")
    return value


def checked_channel(type: object, scope: object) -> tuple[str, str | None]:
    """Return a channel's type and scope in their normal form.

    Raises:
        InvalidIdentifierError: One of them cannot be one.
    """
    if type is None:
        raise InvalidIdentifierError("A channel needs a type, such as 'slack'.", reason="wrong_type")
    return parse_type(type), None if scope is None else parse_scope(scope)


def given_by_channel(value: Given, type: str, scope: str | None, *, secret: bool = False) -> Given:
    """Return ``value`` with the channel's type and scope if it is bare and no public id.

    ``secret`` says that the channel's type is one: a public id is no proof of anything, and must not pass for a key.
    """
    if not isinstance(value, str | int) or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lstrip().startswith("usr_") and not secret:
        return value
    return (value, type) if scope is None else {"identifier": value, "type": type, "scope": scope}
