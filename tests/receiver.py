"""A webhook that tests run: a real HTTP server on the loopback address, which answers as it is told."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aiohttp import web
from standardwebhooks.webhooks import Webhook

from muxi_identity.config import FormationConfig
from muxi_identity.models import EVENT_TYPES
from muxi_identity.secret import Secret
from muxi_identity.webhooks import WebhookConfig

PATIENCE = 30.0


def new_signing_key() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class Received(NamedTuple):
    """One request, whose signature was right."""

    id: str
    timestamp: int
    payload: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.payload["type"])

    @property
    def user_id(self) -> str:
        return str(self.payload["data"]["muxi_user_id"])


class Receiver:
    """Keeps what it received. ``answers`` are the next statuses (200 after them), and ``refusing`` the users of whom
    it will hear nothing; ``gate``, while it is not set, holds every reply back."""

    def __init__(self) -> None:
        self.key = new_signing_key()
        self.received: list[Received] = []
        self.answers: list[int] = []
        self.refusing: set[str] = set()
        self.headers: dict[str, str] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.came = asyncio.Condition()
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/hook/{token}", self._hook)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.gate.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _hook(self, request: web.Request) -> web.Response:
        body = await request.read()
        self._verify(body, {name.lower(): value for name, value in request.headers.items()})
        assert request.headers["content-type"] == "application/json"
        received = Received(request.headers["webhook-id"], int(request.headers["webhook-timestamp"]), json.loads(body))
        assert received.payload["id"] == received.id
        async with self.came:
            self.received.append(received)
            status = self.answers.pop(0) if self.answers else 200
            if received.user_id in self.refusing:
                status = 503
            self.came.notify_all()
        await self.gate.wait()
        return web.Response(status=status, headers=self.headers)

    def _verify(self, body: bytes, headers: dict[str, str]) -> None:
        """Check as the specification's own library does, which also refuses a time that is not now: a test's may be."""
        theirs = Webhook(self.key)
        at = int(headers["webhook-timestamp"])
        if abs(at - time.time()) < 240:
            theirs.verify(body, headers)
            return
        expected = theirs.sign(headers["webhook-id"], datetime.fromtimestamp(at, UTC), body.decode())
        assert headers["webhook-signature"] == expected

    async def wait_for(self, number: int) -> None:
        async with self.came:
            await asyncio.wait_for(self.came.wait_for(lambda: len(self.received) >= number), PATIENCE)

    @property
    def types(self) -> list[str]:
        return [each.type for each in self.received]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/secret-path"

    def webhook(self, events: Sequence[str] = EVENT_TYPES) -> WebhookConfig:
        return WebhookConfig(Secret(self.url), Secret(self.key), frozenset(events))


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()


def told(config: FormationConfig, *webhooks: WebhookConfig) -> FormationConfig:
    """Return the formation with these webhooks."""
    return dataclasses.replace(config, webhooks=webhooks)
