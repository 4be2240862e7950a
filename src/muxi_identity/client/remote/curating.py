"""Joining people, taking them apart, why they are one, and everything about one of them."""

from __future__ import annotations

from muxi_identity.arguments import is_storable
from muxi_identity.client.remote.asking import Ask, CallerLike, checked_cursor, segment
from muxi_identity.client.remote.naming import Named, name_identifier, name_successor
from muxi_identity.client.remote.people import ME, name_all, notes_of
from muxi_identity.client.remote.transport import Transport
from muxi_identity.errors import EmbeddedOnlyError, InvalidRequestError
from muxi_identity.models import (
    DeadEventPage,
    DeliveryReport,
    Explanation,
    HistoryPage,
    LinkCode,
    LinkRedemption,
    MergeResult,
    ReplaceResult,
    RetriedEvent,
    SplitResult,
    UnmergeResult,
    UserArchive,
)
from muxi_identity.paging import check_limit

MAX_MERGE_ID = 64
EXPORT_SECONDS = 600.0


class RemoteCurator:
    """What operators do with the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def merge(self, primary: Named, secondary: Named, *, dry_run: bool, caller: CallerLike) -> MergeResult:
        """Make two users one person."""
        body = {"primary": primary.body, "secondary": secondary.body, "dry_run": dry_run, **notes_of(caller)}
        ask = Ask("POST", "/users/merge", body=body, admin=True, keyed=True)
        return await self._transport.call(ask, MergeResult)

    async def unmerge(self, merge_id: str, *, dry_run: bool, caller: CallerLike) -> UnmergeResult:
        """Undo a merge."""
        body = {"dry_run": dry_run, **notes_of(caller)}
        if not isinstance(merge_id, str) or not 0 < len(merge_id) <= MAX_MERGE_ID or not is_storable(merge_id):
            raise InvalidRequestError("merge_id must be the text that a merge returned: mrg_ and what follows it.")
        ask = Ask("POST", f"/users/merges/{segment(merge_id)}/undo", body=body, admin=True, keyed=True)
        return await self._transport.call(ask, UnmergeResult)

    async def split(self, person: Named, identifiers: object, *, dry_run: bool, caller: CallerLike) -> SplitResult:
        """Let identifiers leave for a new user."""
        notes = notes_of(caller)
        body = {"identifiers": name_all(identifiers), "dry_run": dry_run, **notes}
        ask = Ask("POST", f"{ME}/split", user=person, body=body, admin=True, keyed=True)
        return await self._transport.call(ask, SplitResult)

    async def replace(
        self, old: object, new: object, *, secrets: bool, verified: bool, caller: CallerLike
    ) -> ReplaceResult:
        """Let one identifier succeed another."""
        notes = notes_of(caller)
        body = {"old": name_identifier(old).body, "new": name_successor(new, secret=secrets), **notes}
        if not secrets:
            body["verified"] = verified
        path = "/users/identifiers/rotate" if secrets else "/users/identifiers/replace"
        return await self._transport.call(Ask("POST", path, body=body, admin=True, keyed=True), ReplaceResult)

    async def history(self, person: Named, limit: int, cursor: str | None) -> HistoryPage:
        """Return a page of what was done to a person."""
        check_limit(limit)
        query = {"limit": limit, "cursor": checked_cursor(cursor, "get_user_history")}
        return await self._transport.call(
            Ask("GET", f"{ME}/history", user=person, query=query, admin=True), HistoryPage
        )

    async def explain(self, a: Named, b: Named) -> Explanation:
        """Return why two are one person, or why not."""
        ask = Ask("POST", "/users/explain", body={"a": a.body, "b": b.body}, admin=True)
        return await self._transport.call(ask, Explanation)


class RemoteLinkCodes:
    """The link codes of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, reference: Named, caller: CallerLike) -> LinkCode:
        """Make a code for whoever ``reference`` means."""
        ask = Ask("POST", "/users/link-codes", user=reference, body={}, keyed=True)
        return await self._transport.call(ask, LinkCode)

    async def redeem(self, reference: Named, code: object, *, confirm: bool, caller: CallerLike) -> LinkRedemption:
        """Show what ``code`` joins; with ``confirm`` join them."""
        body = {"code": code if isinstance(code, str) else None, "confirm": confirm}
        ask = Ask("POST", "/users/link-codes/redeem", user=reference, body=body, keyed=True)
        return await self._transport.call(ask, LinkRedemption)


class RemoteExports:
    """Archives of the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def export(self, reference: Named) -> UserArchive:
        """Return everything that is kept of a person."""
        ask = Ask("GET", f"{ME}/export", user=reference, admin=True, patience=EXPORT_SECONDS)
        return await self._transport.call(ask, UserArchive)


class RemoteEvents:
    """The events of a served formation that no webhook took."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def deliver(self, limit: int) -> DeliveryReport:
        """Refuse to deliver events.

        Raises:
            EmbeddedOnlyError: Always.
        """
        raise _delivered_there("deliver_events")

    async def run(self, concurrency: int, poll_seconds: float) -> None:
        """Refuse to deliver events.

        Raises:
            EmbeddedOnlyError: Always.
        """
        raise _delivered_there("run_events")

    async def list_dead(self, limit: int, cursor: str | None) -> DeadEventPage:
        """Return a page of events that were given up."""
        check_limit(limit)
        query = {"limit": limit, "cursor": checked_cursor(cursor, "list_dead_events")}
        return await self._transport.call(Ask("GET", "/webhooks/dead", query=query, admin=True), DeadEventPage)

    async def retry_dead(self, event_id: str, caller: CallerLike) -> RetriedEvent:
        """Deliver an event anew that was given up."""
        ask = Ask("POST", f"/webhooks/dead/{segment(event_id)}/retry", admin=True, keyed=True)
        return await self._transport.call(ask, RetriedEvent)


def _delivered_there(call: str) -> EmbeddedOnlyError:
    return EmbeddedOnlyError(
        f"{call} delivers events from the process that has the formation open; a server delivers its own. What no "
        "webhook took is in list_dead_events."
    )
