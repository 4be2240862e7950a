"""The fence: what a look-up reads while a change is under way is never cached."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from muxi_identity.identity.cache import Fence, Hit, IdentityCache

OLD = Hit(7, 2, 2, "usr_old")


@pytest.mark.parametrize("fence_of", [lambda fence: fence.members([2]), lambda fence: fence.buckets([b"bucket"])])
def test_a_look_up_that_began_behind_a_fence_caches_nothing(fence_of: Callable[[Fence], None]) -> None:
    cache = IdentityCache(ttl=60.0, max_entries=10)
    fence = Fence(cache)
    fence_of(fence)
    token, generation = cache.bucket_tokens.take(b"bucket"), cache.member_tokens.generation
    fence.lower()
    cache.put("alice", OLD, token, generation)
    assert cache.get("alice") is None


def test_after_a_fence_answers_are_cached_again() -> None:
    cache = IdentityCache(ttl=60.0, max_entries=10)
    fence = Fence(cache)
    fence.members([2])
    fence.buckets([b"bucket"])
    fence.lower()
    cache.put("alice", OLD, cache.bucket_tokens.take(b"bucket"), cache.member_tokens.generation)
    assert cache.get("alice") == OLD
