"""Webhooks: the events that none of them took."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from muxi_identity.errors import EventNotFoundError
from muxi_identity.models import DeadEventPage, RetriedEvent
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import Cursor, Limit

routes = Routes("Webhooks", "Events that a webhook did not take in all its attempts.")

EventInPath = Annotated[str, Path(max_length=256, examples=["evt_7c6b5a49382716f5e4d3"])]


@routes.add(
    "GET",
    "/webhooks/dead",
    access=Access.ADMIN,
    data=DeadEventPage,
    example={
        "events": [
            {
                "event_id": "evt_7c6b5a49382716f5e4d3",
                "type": "identifier:link",
                "muxi_user_id": "usr_1f2e3d4c5b6a79880f1e",
                "webhook": "https://hooks.example.com",
                "attempts": 12,
                "error": "500",
                "created_at": "2026-01-01T00:00:00.000000Z",
                "failed_at": "2026-01-02T00:00:00.000000Z",
            }
        ],
        "count": 1,
        "next_cursor": None,
    },
)
async def list_dead_events(call: Calling, limit: Limit = 50, cursor: Cursor = None) -> DeadEventPage:
    """List the events that were given up, the last one first."""
    return await call.client.list_dead_events(limit=limit, cursor=cursor)


@routes.add(
    "POST",
    "/webhooks/dead/{event_id:segment}/retry",
    access=Access.ADMIN,
    data=RetriedEvent,
    repetition="harmless",
    raises=(EventNotFoundError,),
    example={"event_id": "evt_7c6b5a49382716f5e4d3", "webhooks": 1},
)
async def retry_dead_event(call: Calling, event_id: EventInPath) -> RetriedEvent:
    """Deliver an event anew that was given up."""
    return await call.client.retry_dead_event(event_id)
