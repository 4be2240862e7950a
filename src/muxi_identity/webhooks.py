"""The webhooks of a formation's configuration: whom to tell, under which key, and of what."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import urlsplit

from muxi_identity.models import EVENT_TYPES
from muxi_identity.secret import Secret
from muxi_identity.settings import Section, is_url

_MOST_WEBHOOKS = 20
_MAKE_A_SIGNING_KEY = (
    "python -c \"import base64, secrets; print('whsec_' + base64.b64encode(secrets.token_bytes(32)).decode())\""
)


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """Who is told of what happens: the address, which may hold a secret, the key that signs, and the types of event."""

    url: Secret
    key: Secret
    events: frozenset[str] = frozenset(EVENT_TYPES)

    @property
    def origin(self) -> str:
        """Scheme and host: what may be shown of the address."""
        parts = urlsplit(self.url.reveal())
        return f"{parts.scheme}://{parts.netloc}"


def read_webhooks(top: Section) -> tuple[WebhookConfig, ...]:
    """Check and return what stands under ``webhooks``.

    Raises:
        ConfigurationError: Something in it is wrong.
    """
    found: list[WebhookConfig] = []
    for section in top.sections("webhooks", "url", "secret", "events"):
        url = section.text("url", "").strip()
        if not _is_webhook(url):
            section.fail("url", "expected an address that begins with https:// (or http://), without user and password")
        if any(each.url == Secret(url) for each in found):
            section.fail("url", "this address stands here twice; name all its events in one entry")
        key = section.text("secret", "").strip()
        if not _is_signing_key(key):
            section.fail("secret", f"expected whsec_ and 24 to 64 bytes in base64; make one with {_MAKE_A_SIGNING_KEY}")
        events = section.words("events") if section.has("events") else frozenset(EVENT_TYPES)
        for unknown in sorted(events - set(EVENT_TYPES)):
            near = get_close_matches(unknown, EVENT_TYPES, n=1)
            section.fail("events", f'did you mean "{near[0]}"?' if near else f"the events are {', '.join(EVENT_TYPES)}")
        if not events:
            section.fail("events", "expected at least one event; leave the key out for all of them")
        found.append(WebhookConfig(Secret(url), Secret(key), events))
    if len(found) > _MOST_WEBHOOKS:
        top.fail("webhooks", f"expected at most {_MOST_WEBHOOKS} webhooks")
    return tuple(found)


def _is_webhook(url: str) -> bool:
    if not is_url(url):
        return False
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and not parts.fragment


def _is_signing_key(text: str) -> bool:
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return text.startswith("whsec_") and 24 <= len(key) <= 64
