"""A server for the benchmarks: the real application, and beside it a constant that the same process answers.

Arguments: the formation's YAML file, and the core to run on (-1: any). Prints its port.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn
from starlette.types import Receive, Scope, Send

from muxi_identity.config import FormationConfig
from muxi_identity.server.app import Served, create_app
from muxi_identity.server.logs import set_up
from muxi_identity.server.running import bind

_CONSTANT = (
    b'{"object":"response","timestamp":1700000000000,"type":"resolve_user","request":{"id":'
    b'"req_00000000000000000000","idempotency_key":null},"success":true,"error":null,"data":{"identifier":'
    b'"person0@example.com","muxi_user_id":"usr_00000000000000000000","created":false}}'
)
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_CONSTANT))]


class WithConstant:
    """The application, with a path that is answered without asking it."""

    def __init__(self, app: Served) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/constant":
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": _CONSTANT})
            return
        await self._app(scope, receive, send)


def main(file: str, core: int) -> None:
    if core >= 0:
        os.sched_setaffinity(0, {core})
    with Path(os.devnull).open("w") as nowhere:  # lines are made and written, as they are in production
        set_up(nowhere)
        listener = bind("127.0.0.1", 0)
        app = create_app(FormationConfig.load(file), run_tasks=False)
        config = uvicorn.Config(WithConstant(app), access_log=False, log_config=None, ws="none", lifespan="on")
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
