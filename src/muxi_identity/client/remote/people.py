"""Users and identifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from muxi_identity.arguments import check_note
from muxi_identity.client.remote.asking import Ask, CallerLike, SearchLike, checked_cursor, header_key
from muxi_identity.client.remote.naming import Named, name_identifier, name_user
from muxi_identity.client.remote.transport import Transport
from muxi_identity.errors import InvalidRequestError, UserNotFoundError
from muxi_identity.models import (
    DeleteResult,
    IdentifierRecord,
    LinkResult,
    ResolvedUser,
    UnlinkResult,
    UserPage,
    UserRecord,
    iso_or_none,
)
from muxi_identity.paging import check_limit

MAX_IDENTIFIERS = 1_000  # in one call
ME = "/users/me"
"""The user that the headers name: a path lands in logs, and an identifier may be a secret."""


class _Identifiers(TypedDict):
    identifiers: list[IdentifierRecord]


class People:
    """The operations on users and identifiers of one served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def parse(self, given: object) -> Named:
        """Return what names a user, in the shape in which it is sent.

        Raises:
            InvalidIdentifierError: It has no shape of an identifier.
        """
        return name_user(given)

    async def resolve(self, reference: Named, *, create: bool, caller: CallerLike) -> ResolvedUser:
        """Return who ``reference`` means."""
        return await self._resolve(reference, create)

    async def find(self, reference: Named) -> ResolvedUser | None:
        """Return who ``reference`` means, None where nobody does."""
        try:
            return await self._resolve(reference, False)
        except UserNotFoundError:
            return None

    async def _resolve(self, reference: Named, create: bool) -> ResolvedUser:
        body: dict[str, Any] = {"identifier": reference.body}
        if create:
            body["create_user"] = True
        # Harmless twice: no key, so that a server need not store its answer.
        ask = Ask("POST", "/users/resolve", body=body, notes=reference.beside)
        return await self._transport.call(ask, ResolvedUser)

    async def create_user(self, user_id: str | None, caller: CallerLike) -> UserRecord:
        """Make a user."""
        chosen = None if user_id is None else name_user(user_id).body
        if chosen is not None and not (isinstance(chosen, str) and chosen.startswith("usr_")):
            raise InvalidRequestError("user_id must look like usr_alice: usr_ and up to 64 letters, digits, _ or -.")
        body = {"muxi_user_id": chosen, **notes_of(caller)}
        return await self._transport.call(Ask("POST", "/users", body=body, admin=True, keyed=True), UserRecord)

    async def get_user(self, reference: Named) -> UserRecord:
        """Return the record of a person."""
        return await self._transport.call(Ask("GET", ME, user=reference, admin=True), UserRecord)

    async def list_users(self, search: SearchLike, limit: int, cursor: str | None) -> UserPage:
        """Return a page of the people who ``search`` finds."""
        check_limit(limit)
        query = {
            "identifier": search.prefix,
            "type": search.type,
            "created_from": iso_or_none(search.created_from),
            "created_before": iso_or_none(search.created_before),
            "limit": limit,
            "cursor": checked_cursor(cursor, "list_users"),
        }
        return await self._transport.call(Ask("GET", "/users", query=query, admin=True), UserPage)

    async def delete_user(
        self, reference: Named, *, include_merged: bool, dry_run: bool, caller: CallerLike
    ) -> DeleteResult:
        """Delete a person."""
        notes = notes_of(caller)
        asked = {"include_merged": include_merged, "dry_run": dry_run}
        ask = Ask(
            "DELETE",
            ME,
            user=reference,
            query={name: "true" for name, wanted in asked.items() if wanted},
            notes={"X-Muxi-Source": notes["source"], "X-Muxi-Reason": notes["reason"]},
            admin=True,
            keyed=True,
        )
        return await self._transport.call(ask, DeleteResult)

    async def identifiers_of(self, reference: Named) -> list[IdentifierRecord]:
        """Return a person's identifiers in linking order."""
        ask = Ask("GET", "/users/identifiers/me", user=reference, admin=True)
        return (await self._transport.call(ask, _Identifiers))["identifiers"]

    async def associate(
        self,
        given: Sequence[object],
        user_id: object,
        *,
        on_conflict: str,
        verified: bool,
        idempotency_key: str | None,
        caller: CallerLike,
    ) -> LinkResult:
        """Link identifiers to one person."""
        body = {
            "identifiers": name_all(given),
            "muxi_user_id": None if user_id is None else name_user(user_id).body,
            "on_conflict": on_conflict,
            "verified": verified,
            **notes_of(caller),
        }
        key = None if idempotency_key is None else header_key(idempotency_key)
        ask = Ask("POST", "/users/identifiers", body=body, admin=True, keyed=True, key=key)
        return await self._transport.call(ask, LinkResult)

    async def unlink(self, identifier: object, *, force: bool, caller: CallerLike) -> UnlinkResult:
        """Unlink an identifier from whoever has it."""
        named = name_identifier(identifier)
        body = {"identifier": named.body, "force": force, **notes_of(caller)}
        ask = Ask("POST", "/users/identifiers/unlink", body=body, notes=named.beside, admin=True, keyed=True)
        return await self._transport.call(ask, UnlinkResult)


def name_all(given: object) -> list[Any]:
    """Return what several identifiers are sent as.

    Raises:
        InvalidRequestError: They are no list, or none.
        InvalidIdentifierError: One has no shape of an identifier.
    """
    if isinstance(given, str | bytes | bytearray | memoryview) or not isinstance(given, Sequence) or not given:
        raise InvalidRequestError(
            "identifiers must be a list with at least one identifier; each is 'value', ('value', 'type') or "
            "{'identifier': 'value', 'type': 'type'}."
        )
    if len(given) > MAX_IDENTIFIERS:
        raise InvalidRequestError(f"One call takes at most {MAX_IDENTIFIERS} identifiers, not {len(given)}.")
    return [name_identifier(each).body for each in given]


def notes_of(caller: CallerLike) -> Mapping[str, str | None]:
    """Return what the history is to say of a call besides.

    Raises:
        InvalidRequestError: It is no text, or too long.
    """
    check_note("source", caller.source)
    check_note("reason", caller.reason)
    return {"source": caller.source, "reason": caller.reason}
