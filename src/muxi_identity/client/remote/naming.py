"""Whom a call is about, as it is sent: read for its shape here, judged by the server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from muxi_identity.arguments import is_storable
from muxi_identity.identifiers import Form, PublicId, parse_reference, read_form
from muxi_identity.refusals import MAX_SECRET_BYTES, clean

USER = "X-Muxi-User-ID"
USER_TYPE = "X-Muxi-User-ID-Type"
USER_SCOPE = "X-Muxi-User-ID-Scope"
USER_FORM = "X-Muxi-User-ID-Form"
"""``pair`` says that value and type belong together as they are: a channel's bare ``usr_...`` is a public id."""


@dataclass(frozen=True, slots=True)
class InChannel:
    """A bare identifier that came through a channel, with the channel's type and scope.

    Which of its types are secret a formation decides, and with it whether a public id may be used there: the server.
    """

    value: str | int
    type: str
    scope: str | None


@dataclass(frozen=True, slots=True)
class Named:
    """A user or an identifier. Not shown: it may be a secret.

    ``headers`` name it alone; ``body`` does, with ``beside`` for headers.
    """

    body: Any
    headers: dict[str, str]
    beside: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "Named(...)"


def name_user(given: object) -> Named:
    """Return what ``user_id`` names.

    Raises:
        InvalidIdentifierError: It has no shape of an identifier, or holds what none may hold.
    """
    if isinstance(given, str) and len(given) <= MAX_SECRET_BYTES and given.strip().startswith("usr_"):
        reference = parse_reference(given)
        assert isinstance(reference, PublicId)
        return Named(reference.user_id, {USER: reference.user_id})
    return name_identifier(given)


def name_identifier(given: object) -> Named:
    """Return what an identifier is sent as.

    Raises:
        InvalidIdentifierError: It has no shape of an identifier, or holds what none may hold.
    """
    if isinstance(given, InChannel):
        form = read_form(given.value, type=given.type, scope=given.scope)
        value = clean(form.text, limit=MAX_SECRET_BYTES)
        headers = _headers(value, form)
        if not value.startswith("usr_"):
            return Named(_body(form), headers)
        # Whether a public id may stand for somebody in this channel the server knows.
        return Named(form.text, headers, {name: each for name, each in headers.items() if name != USER})
    form = read_form(given)
    value = clean(form.text, limit=MAX_SECRET_BYTES)
    headers = _headers(value, form)
    if form.type is not None and value.startswith("usr_"):
        headers[USER_FORM] = "pair"
    return Named(_body(form), headers)


def name_successor(given: object, *, secret: bool) -> Any:
    """Return an identifier that takes the place of another as it stands in a body.

    Bare, it has the type of the other one, which the server knows; so whether it can be somebody's is judged there.

    Raises:
        InvalidIdentifierError: It has no shape of an identifier, or holds what cannot be sent.
    """
    form = read_form(given)
    if form.type is not None:
        return name_identifier(given).body
    if not is_storable(form.text):
        clean(form.text, "The secret" if secret else "The identifier", limit=MAX_SECRET_BYTES)
    return _body(form)


def _headers(value: str, form: Form) -> dict[str, str]:
    headers = {USER: value}
    if form.type is not None:
        headers[USER_TYPE] = form.type
    if form.scope is not None:
        headers[USER_SCOPE] = form.scope
    return headers


def _body(form: Form) -> Any:
    if not (form.scope or form.verified or form.expires_at or form.metadata):
        # The two forms that a server's cache knows.
        return form.text if form.type is None else [form.text, form.type]
    whole = {
        "identifier": form.text,
        "type": form.type,
        "scope": form.scope,
        "verified": form.verified,
        "expires_at": None if form.expires_at is None else form.expires_at.isoformat(),
        "metadata": form.metadata,
    }
    return {name: value for name, value in whole.items() if value is not None}
