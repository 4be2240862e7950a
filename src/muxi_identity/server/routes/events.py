"""Events: what happens to one person, as it happens."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header, Request, Response

from muxi_identity.context.feed.service import Listener
from muxi_identity.errors import MuxiError
from muxi_identity.server.call import Access, Call
from muxi_identity.server.keys import Role
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import NAMING, UserInQuery
from muxi_identity.server.serving import describe, problem_from
from muxi_identity.server.streams import EventStream, event

routes = Routes("Events", "What happens to one person, as it happens.")

_ID = re.compile(r"\d{1,18}")

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=64,
        description="The id of the last event that arrived: what came after it is told first, of a day at most.",
    ),
]


@routes.add("GET", "/events", access=Access.USER, data=None, user=True, streams="always", raises=NAMING)
async def stream_events(
    call: Calling, request: Request, user_id: UserInQuery = None, last_event_id: LastEventId = None
) -> Response:
    """Listen to the turns and the task runs of a person, without end.

    `listening` comes first, then `turn` for each turn that is recorded and `job` for each run of a task that ends,
    whichever worker or process they come from. With a user token, turns are those of the token's own identifier alone,
    whose sessions it may read; runs are the person's, as tasks are. With a key, turns of all their channels are told.
    Each event has an id to go on from (`Last-Event-ID`). The stream ends with `error` when the person became another
    one (`IDENTITY_CHANGED`) or the token has expired (`UNAUTHORIZED`). An event stream whatever the `Accept` header
    says.
    """
    reference = call.site.formation.parse(await call.user(user_id))
    after = int(last_event_id) if last_event_id is not None and _ID.fullmatch(last_event_id) else None
    listener = await call.site.formation.feed.listen(
        reference, own=call.role is Role.TOKEN, after=after, until=call.good_until
    )
    call.shown_user = listener.user_id
    return EventStream(_told(call, listener), stopping=request.app.state.served.stopping)


async def _told(call: Call, listener: Listener) -> AsyncIterator[bytes]:
    call.site.metrics.streams += 1
    try:
        async with listener:
            yield event({"type": "listening", "user_id": listener.user_id}, "listening")
            async for each in listener:
                yield event({"type": each.kind, **each.data}, each.kind, str(each.at))
    except MuxiError as error:  # the head is sent: it is told by an event
        yield event(describe(problem_from(error, call), call.request_id), "error")
    finally:
        call.site.metrics.streams -= 1
