"""The part of a formation's configuration that ``muxi serve`` reads: keys, limits, origins.

A key is hashed as soon as it is read: nothing that is kept, shown or compared later is the key itself.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from muxi_identity.settings import Section

MIN_KEY_CHARACTERS = 16
MAX_KEY_CHARACTERS = 512
MAX_WORKERS = 64
MAX_CONNECTIONS = 1_000
"""How many a worker has open at a time, unless something else is said."""
GRACE_SECONDS = 30
"""How long the last requests have when a server is told to stop, unless something else is said."""
_HASHED = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How many requests a minute are answered for each admin key, client key and user token; None is no limit."""

    admin_key: int | None = None
    client_key: int | None = None
    user_token: int | None = 600


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How a formation is served. ``admin_keys`` and ``client_keys`` are SHA-256 digests; any of them opens the door.

    ``max_body_bytes`` is the largest request that is read, ``cors_origins`` which web pages may call (none, unless
    they are named).
    """

    admin_keys: tuple[bytes, ...] = ()
    client_keys: tuple[bytes, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = 1_048_576
    rate_limits: RateLimits = RateLimits()


def hash_key(key: str) -> bytes:
    """Return what is kept of a key (32 bytes). Keys are long and random: no salt, and no slow hash, is needed."""
    return hashlib.sha256(key.encode()).digest()


def read_server(top: Section) -> ServerConfig:
    """Read the section ``server``.

    Raises:
        ConfigurationError: A key in it, or a secret that it names, is missing or wrong.
    """
    section = top.section("server", "api_keys", "cors_origins", "max_body_bytes", "rate_limits")
    keys = section.section("api_keys", "admin_key", "client_key")
    admin_keys, client_keys = _digests(keys, "admin_key"), _digests(keys, "client_key")
    if set(admin_keys) & set(client_keys):
        keys.fail("client_key", "is an admin key as well: whoever has it could do everything; make another one")
    limits = section.section("rate_limits", "admin_key", "client_key", "user_token")
    default = RateLimits()
    return ServerConfig(
        admin_keys,
        client_keys,
        _origins(section),
        section.count("max_body_bytes", ServerConfig().max_body_bytes),
        RateLimits(
            limits.optional_count("admin_key", default.admin_key),
            limits.optional_count("client_key", default.client_key),
            limits.optional_count("user_token", default.user_token),
        ),
    )


def _digests(section: Section, name: str) -> tuple[bytes, ...]:
    found = []
    for key in section.texts(name):
        hashed = _HASHED.fullmatch(key)
        if hashed is not None:
            found.append(bytes.fromhex(hashed[1]))
            continue
        if not MIN_KEY_CHARACTERS <= len(key) <= MAX_KEY_CHARACTERS or not (key.isascii() and key.isprintable()):
            section.fail(
                name,
                f"expected keys of {MIN_KEY_CHARACTERS} to {MAX_KEY_CHARACTERS} printable ASCII characters, or "
                '"sha256:" and 64 hexadecimal digits; "muxi keys new" makes both',
            )
        if " " in key:
            section.fail(name, "a key cannot hold a space")
        found.append(hash_key(key))
    return tuple(dict.fromkeys(found))


def _origins(section: Section) -> tuple[str, ...]:
    origins = section.texts("cors_origins")
    for origin in origins:
        parts = urlsplit(origin)
        bare = f"{parts.scheme}://{parts.netloc}"
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != bare:
            section.fail("cors_origins", 'expected origins such as "https://app.example.com", without a path')
    return tuple(dict.fromkeys(origins))
