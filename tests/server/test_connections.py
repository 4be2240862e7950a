"""A real server's connections: what ends them, and what their clients are told."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from muxi_identity import Response, Turn
from muxi_identity.config import FormationConfig
from muxi_identity.conversation.offline import OfflineResponder
from muxi_identity.server.running import Settings
from tests.contract.parties import served
from tests.server.places import CLIENT_KEY, problem, serve, user, write_formation


class Endless(OfflineResponder):
    """Thinks for ever about what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    async def respond(self, turn: Turn) -> Response:
        self.begun.set()
        await asyncio.Event().wait()
        return await super().respond(turn)


async def test_what_is_cut_off_at_the_end_may_be_sent_again(tmp_path: Path) -> None:
    responder = Endless()
    config = FormationConfig.load(write_formation(tmp_path))
    with served(config, settings=Settings(grace=0), responder=responder) as place:
        async with httpx.AsyncClient(base_url=place.url) as http:
            waiting = asyncio.create_task(http.post("/v1/chat", json={"message": "Hello!"}, headers=user("a")))
            await asyncio.to_thread(responder.begun.wait)
            place.server.should_exit = True
            cut = await waiting
    assert "same idempotency key" in problem(cut, 503, "SERVER_UNAVAILABLE")["message"]
    assert int(cut.headers["retry-after"]) >= 1
    assert cut.headers["x-request-id"] == cut.json()["request"]["id"]
    assert place.app.sites.first.metrics._answered["POST", "/chat", 503] == 1


@pytest.mark.parametrize("path", ["/v1/users/resolve", "/v1/memories"])
async def test_what_is_cut_off_while_it_is_read_is_told_so(tmp_path: Path, path: str) -> None:
    sent: list[Message] = []
    reads = asyncio.Event()

    async def receive() -> Message:
        reads.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async with serve(FormationConfig.load(write_formation(tmp_path))) as (app, _):
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
        headers = [(b"x-muxi-client-key", CLIENT_KEY.encode())]
        call = asyncio.create_task(app({**scope, "headers": headers}, receive, send))
        await reads.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        head, body = sent
        assert head["status"] == 503
        assert {b"x-request-id", b"retry-after"} <= {name for name, _ in head["headers"]}
        assert b'"SERVER_UNAVAILABLE"' in body["body"]
        assert [status for _, _, status in app.sites.first.metrics._answered] == [503]
