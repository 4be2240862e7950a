"""A Slack of its own for tests: the Web API calls that a bot makes, and Socket Mode, on loopback."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from typing import Any

from aiohttp import WSMsgType, web

TEAM, BOT = "T012AB3CD", "U0BOT"


class SlackServer:
    """Speaks Slack's Web API and Socket Mode in a thread. ``posted`` holds what the bot posts, in order."""

    def __init__(self, emails: dict[str, str]) -> None:
        self.posted: queue.Queue[dict[str, Any]] = queue.Queue()
        self.acknowledged: queue.Queue[str] = queue.Queue()
        self.connected = threading.Event()
        self._emails = emails
        self._numbers = itertools.count(1)
        self._socket: web.WebSocketResponse | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._runner = self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/api/{method}", self._call)
        app.router.add_get("/link", self._link)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def _call(self, request: web.Request) -> web.Response:
        # Slack takes forms and JSON, and the calls without arguments have an empty body.
        is_json = request.content_type == "application/json" and request.can_read_body
        form = dict(await request.json() if is_json else await request.post())
        match request.match_info["method"]:
            case "auth.test":
                answer: dict[str, Any] = {"team_id": TEAM, "user_id": BOT, "bot_id": "B0BOT", "team": "t", "user": "b"}
            case "apps.connections.open":
                answer = {"url": f"ws://127.0.0.1:{self.port}/link"}
            case "users.info":
                answer = {"user": {"id": form["user"], "profile": {"email": self._emails.get(str(form["user"]))}}}
            case "chat.postMessage":
                self.posted.put(dict(form))
                answer = {"ts": "1700000009.000900", "channel": form["channel"]}
            case unknown:
                return web.json_response({"ok": False, "error": f"unknown_method {unknown}"})
        return web.json_response({"ok": True, **answer})

    async def _link(self, request: web.Request) -> web.WebSocketResponse:
        socket = self._socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}})
        self.connected.set()
        async for message in socket:
            if message.type is WSMsgType.TEXT and "envelope_id" in message.data:
                self.acknowledged.put(message.json()["envelope_id"])
        return socket

    def send(self, event: dict[str, Any]) -> str:
        """Send an event as Socket Mode does, and return its envelope's id."""
        number = next(self._numbers)
        envelope = {
            "envelope_id": f"envelope-{number}",
            "type": "events_api",
            "accepts_response_payload": False,
            "payload": {
                "type": "event_callback",
                "team_id": TEAM,
                "api_app_id": "A1",
                "event_id": f"Ev{number}",
                "event_time": 1700000000,
                "authorizations": [{"team_id": TEAM, "user_id": BOT, "is_bot": True}],
                "event": {"ts": f"17000000{number:02d}.000100", **event},
            },
        }
        assert self._socket is not None
        asyncio.run_coroutine_threadsafe(self._socket.send_json(envelope), self._loop).result(10)
        return str(envelope["envelope_id"])

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
