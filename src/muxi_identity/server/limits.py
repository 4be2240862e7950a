"""How much one caller may ask for: requests a minute."""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable
from hashlib import blake2b
from time import monotonic

from muxi_identity.errors import RateLimitedError
from muxi_identity.server.keys import Role
from muxi_identity.server_config import RateLimits

_SETS, _WAYS = 4_096, 4
_ENTRY = struct.Struct("=8sd")
NO_JSON = "The body is no JSON in UTF-8. Send an object such as the one that /docs shows, as application/json."
_HAIR = 1e-6  # seconds: what adding up of fractions may be wrong by


class RateLimiter:
    """A bucket of tokens for each key and each token's identifier, refilled evenly; a minute's worth at once at most.

    Counted together by all processes that were forked after it was made: the buckets lie in memory that they share.
    There is no lock, which a worker could take with it when it dies: of two requests that arrive in the same
    microsecond one may go uncounted. Time is the machine's monotonic clock, alike for all of them.

    A bucket is kept as the time at which it will be full again. There is room for 16,384 callers; after that, the one
    whose bucket is fullest of four makes room.
    """

    def __init__(self, limits: RateLimits, clock: Callable[[], float] = monotonic) -> None:
        self._limits = {
            Role.ADMIN: limits.admin_key,
            Role.CLIENT: limits.client_key,
            Role.TOKEN: limits.user_token,
        }
        self._clock = clock
        self._buckets = mmap.mmap(-1, _SETS * _WAYS * _ENTRY.size)

    def take(self, role: Role, caller: bytes) -> None:
        """Count one request.

        Raises:
            RateLimitedError: It is one too many; ``retry_after`` is in whole seconds.
        """
        limit = self._limits[role]
        if limit is None:
            return
        share = 60 / limit
        now = self._clock()
        mark = blake2b(caller, digest_size=8, person=role.encode()).digest()
        at, full = self._find(mark)
        full = max(full, now)
        wait = full - now - (60 - share)
        if wait > _HAIR:
            seconds = max(1, math.ceil(wait - _HAIR))
            raise RateLimitedError(
                f"Over {limit} requests a minute; ask again in {seconds} seconds.", retry_after=seconds
            )
        # By a slice: packing in place writes zeros first, which another process would read.
        self._buckets[at : at + _ENTRY.size] = _ENTRY.pack(mark, full + share)

    def _find(self, mark: bytes) -> tuple[int, float]:
        """Return where a caller's bucket is or goes, and when it is full."""
        begin = int.from_bytes(mark[:4], "big") % _SETS * _WAYS * _ENTRY.size
        fullest = (math.inf, begin)
        for at in range(begin, begin + _WAYS * _ENTRY.size, _ENTRY.size):
            found, full = _ENTRY.unpack_from(self._buckets, at)
            if found == mark:
                return at, full
            fullest = min(fullest, (full, at))
        return fullest[1], 0.0
