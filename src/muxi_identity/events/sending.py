"""One delivery: a POST to a webhook, and what came of it."""

from __future__ import annotations

from typing import NamedTuple

import aiohttp

from muxi_identity.events.signing import signed_headers
from muxi_identity.webhooks import WebhookConfig

SEND_SECONDS = 15.0
_LONGEST_WAIT = 86_400


class Outcome(NamedTuple):
    """``error`` is None where the webhook took the event; ``wait_seconds``: for how long it asked to be left alone."""

    error: str | None = None
    wait_seconds: int = 0


def new_http() -> aiohttp.ClientSession:
    """Return a session for deliveries: it keeps no cookies, and takes no proxy from the environment."""
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=SEND_SECONDS),
        auto_decompress=False,
    )


async def send(http: aiohttp.ClientSession, webhook: WebhookConfig, event_id: str, body: str, at: int) -> Outcome:
    """Send an event to a webhook, once, at ``at`` (microseconds). Redirects are not followed, and no reply is read."""
    content = body.encode()
    headers = {
        "content-type": "application/json",
        "user-agent": "muxi-identity",
        **signed_headers(webhook.key.reveal(), event_id, at, content),
    }
    try:
        async with http.post(webhook.url.reveal(), data=content, headers=headers, allow_redirects=False) as response:
            if 200 <= response.status < 300:
                return Outcome()
            return Outcome(f"HTTP {response.status}", _asked_to_wait(response.headers.get("retry-after", "")))
    except TimeoutError:
        return Outcome(f"no answer in {SEND_SECONDS:g} seconds")
    except (aiohttp.ClientError, OSError, ValueError) as error:  # its text names the address, which may hold a secret
        return Outcome(f"not delivered: {type(error).__name__}")


def _asked_to_wait(retry_after: str) -> int:
    return min(int(retry_after), _LONGEST_WAIT) if retry_after.isascii() and retry_after.isdigit() else 0
