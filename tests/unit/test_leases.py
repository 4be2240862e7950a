"""Two listeners of one process that keep one cache true: what neither may have heard is not answered any longer."""

from __future__ import annotations

from typing import Any

import pytest

from muxi_identity.identity.cache import Hit, IdentityCache
from muxi_identity.identity.coherence import listening
from muxi_identity.identity.coherence.listening import Listening

NAME = "alice@email.com"
LEASE = 2.0


def test_a_gap_between_two_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(listening, "monotonic", lambda: now[0])
    cache = IdentityCache(3600, 10)
    cache.lease_until = 0.0
    nowhere: Any = None
    first, second = (Listening(nowhere, "f", cache, LEASE) for _ in range(2))
    first.extend(100.0, 99.0)
    token, generation = cache.bucket_tokens.take(b"bucket"), cache.member_tokens.generation
    cache.put(NAME, Hit(1, 2, 2, "usr_alice"), token, generation)
    # What was committed between 100 and 101 the first may have missed, if it has gone deaf, and the second did.
    now[0] = 101.5
    second.extend(101.2, 101.0)
    assert cache.lease_until == 102.0
    assert token.alive
    # The first hears: nobody missed anything.
    first.extend(101.3, 99.0)
    second.extend(101.4, 101.0)
    assert cache.lease_until == 103.4
    assert token.alive
    # It does not, and another one begins: the lease runs out, and the cache begins empty.
    now[0] = 103.0
    third = Listening(nowhere, "f", cache, LEASE)
    third.extend(102.9, 102.5)
    assert cache.lease_until == 103.4
    now[0] = 103.5
    third.extend(103.5, 102.5)
    assert cache.lease_until == 105.5
    assert not token.alive
