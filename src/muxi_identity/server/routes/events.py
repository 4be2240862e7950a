"""Events: what happens to one person, as it happens."""

from __future__ import annotations

from fastapi import Request, Response

from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import NAMING, UserInQuery
from muxi_identity.server.streams import EventStream

routes = Routes("Events", "What happens to one person, as it happens.")


@routes.add("GET", "/events", access=Access.USER, data=None, user=True, streams=True, raises=NAMING)
async def stream_events(call: Calling, request: Request, user_id: UserInQuery = None) -> Response:
    """Listen to the turns and the task runs of a person, without end.

    `listening` comes first, then `turn` for each reply and `job` for each run of a task that this process makes. An
    event stream whatever the `Accept` header says.
    """
    call.ask_for_events()
    user = await call.user(user_id)
    found = await call.client.get_user(user)
    return EventStream(call.site.bus.listen(found["muxi_user_id"]), stopping=request.app.state.served.stopping)
