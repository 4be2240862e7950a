"""Where a formation is served, and what opens it there."""

from __future__ import annotations

import ipaddress
import logging
import math
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from muxi_identity.errors import ConfigurationError
from muxi_identity.secret import Secret

logger = logging.getLogger("muxi_identity.remote")

DEFAULT_TIMEOUT = 30.0
DEFAULT_RETRIES = 2
MAX_TIMEOUT = 3600.0
MAX_RETRIES = 10
_MAX_KEY = 4_096
_VERSION = "/v1"


@dataclass(frozen=True, slots=True)
class Place:
    """A formation's address with its keys, none of which is ever shown.

    ``timeout``: how many seconds one attempt at a call may take; ``retries``: how many more attempts there are.
    """

    base: str
    formation_id: str | None
    admin_key: Secret | None
    client_key: Secret | None
    user_token: Secret | None
    timeout: float
    retries: int
    actor: str | None

    @property
    def origin(self) -> str:
        """The server, as messages name it."""
        parts = urlsplit(self.base)
        return f"{parts.scheme}://{parts.netloc}"


def read_place(
    *,
    url: object,
    server_url: object,
    formation_id: object,
    client_key: object,
    admin_key: object,
    user_token: object,
    timeout: object,
    retries: object,
    actor: str | None,
) -> Place:
    """Return the place that the arguments of a client name.

    ``url`` is a formation's own address; ``server_url`` that of a server of several, where ``formation_id`` says
    which.

    Raises:
        ConfigurationError: They name none, or two, or one of them cannot be one.
    """
    if url is not None and server_url is not None:
        raise ConfigurationError("Pass url (a formation's own address) or server_url with formation_id, not both.")
    if formation_id is not None and not (isinstance(formation_id, str) and formation_id.strip()):
        raise ConfigurationError("formation_id must be the id of a formation, a text.")
    if server_url is not None:
        if formation_id is None:
            raise ConfigurationError("server_url is that of a server of several formations: pass formation_id as well.")
        base = f"{_address('server_url', server_url)}/api/{quote(str(formation_id), safe='')}{_VERSION}"
    else:
        base = _address("url", url) + _VERSION
    admin, client, token = _key("admin_key", admin_key), _key("client_key", client_key), _key("user_token", user_token)
    if token is not None and (admin is not None or client is not None):
        raise ConfigurationError("Pass keys or a user_token, not both: a token acts as one identifier alone.")
    if admin is client is token is None:
        raise ConfigurationError(
            "A served formation is opened by a client_key, an admin_key or a user_token; pass one."
        )
    place = Place(base, formation_id, admin, client, token, _timeout(timeout), _retries(retries), actor)
    if _in_clear(base):
        logger.warning("keys and messages go to %s unencrypted; use https", place.origin)
    return place


def _address(name: str, given: object) -> str:
    if not isinstance(given, str):
        raise ConfigurationError(f"{name} must be a text such as https://muxi.example.com.")
    text = given.strip().rstrip("/").removesuffix(_VERSION)
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable() or " " in text:
        raise ConfigurationError(f"{name} must be an address such as https://muxi.example.com.")
    if parts.username is not None or parts.password is not None:
        # An address is shown in messages and logs.
        raise ConfigurationError(f"{name} must not hold a name or a password; pass a key as client_key or admin_key.")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{name} must end with its path, without ? and #.")
    return text


def _key(name: str, given: object) -> Secret | None:
    if given is None:
        return None
    text = given.reveal() if isinstance(given, Secret) else given
    if not isinstance(text, str) or not text.strip():
        raise ConfigurationError(f"{name} must be a text; it is empty or none. Is the variable that holds it set?")
    text = text.strip()
    if not (text.isascii() and text.isprintable()) or " " in text or len(text) > _MAX_KEY:
        raise ConfigurationError(f"{name} must be printable ASCII without spaces, of at most {_MAX_KEY} characters.")
    return Secret(text)


def _timeout(given: object) -> float:
    number = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
    if not number or not 0 < given <= MAX_TIMEOUT:  # type: ignore[operator]
        raise ConfigurationError(f"timeout must be a number of seconds above 0 and at most {MAX_TIMEOUT:.0f}.")
    return float(given)  # type: ignore[arg-type]


def _retries(given: object) -> int:
    if type(given) is not int or not 0 <= given <= MAX_RETRIES:
        raise ConfigurationError(f"retries must be a whole number from 0 to {MAX_RETRIES}.")
    return given


def _in_clear(base: str) -> bool:
    parts = urlsplit(base)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True
