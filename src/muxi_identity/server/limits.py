"""How much one caller may ask for: requests a minute, bytes a request."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from muxi_identity.errors import RateLimitedError, TooLargeError
from muxi_identity.server.keys import Role
from muxi_identity.server_config import RateLimits

_MOST_CALLERS = 10_000


class RateLimiter:
    """A bucket of tokens for each key and each token's identifier, refilled evenly; a minute's worth at once at most.

    Kept by each process for itself: of several workers, each allows that many.
    """

    def __init__(self, limits: RateLimits, clock: Callable[[], float] = monotonic) -> None:
        self._limits = {
            Role.ADMIN: limits.admin_key,
            Role.CLIENT: limits.client_key,
            Role.TOKEN: limits.user_token,
        }
        self._clock = clock
        # The caller that asked longest ago leaves first: by then its bucket is full again, unless thousands came since.
        self._left: OrderedDict[tuple[Role, bytes], tuple[float, float]] = OrderedDict()

    def take(self, role: Role, caller: bytes) -> None:
        """Count one request.

        Raises:
            RateLimitedError: It is one too many; ``retry_after`` is in whole seconds.
        """
        limit = self._limits[role]
        if limit is None:
            return
        now = self._clock()
        left, at = self._left.pop((role, caller), (float(limit), now))
        left = min(float(limit), left + (now - at) * limit / 60)
        allowed = left >= 1
        self._left[role, caller] = (left - 1 if allowed else left, now)
        if len(self._left) > _MOST_CALLERS:
            self._left.popitem(last=False)
        if not allowed:
            seconds = math.ceil((1 - left) * 60 / limit)
            raise RateLimitedError(
                f"Over {limit} requests a minute; ask again in {seconds} seconds.", retry_after=seconds
            )


async def read_body(receive: Receive, declared: bytes | None, limit: int) -> bytes:
    """Read a request's body, no further than ``limit`` bytes.

    Raises:
        TooLargeError: There is more; nothing of it is kept.
        ClientDisconnect: The client went away.
    """
    if declared is not None and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"The request is larger than {limit} bytes.", limit=limit)
