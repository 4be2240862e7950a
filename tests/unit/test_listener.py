"""The listener of an open database: how it comes back, and when it stops asking whether it hears."""

from __future__ import annotations

from typing import Any

import pytest

from muxi_identity.errors import StorageUnavailableError
from muxi_identity.identity.coherence import listener as module
from muxi_identity.identity.coherence.listener import IDLE_SECONDS, Listener


class Cache:
    """One whose answers depend on what is heard."""

    lease = 2.0

    def __init__(self) -> None:
        self.uses = 0
        self.extended = 0

    def extend(self, sent_at: float, since: float) -> None:
        self.extended += 1

    def revoke(self) -> None: ...

    def hear(self, payload: str) -> None: ...


async def test_it_comes_back_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        async def listen(self, *_: Any) -> Any:
            raise StorageUnavailableError("gone")

    pauses: list[float] = []

    async def wait(listener: Listener, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 10:
            listener.joined.clear()

    monkeypatch.setattr(Listener, "wait", wait)
    unreachable: Any = Unreachable()
    listener = Listener(unreachable)
    await listener.join(Cache())
    assert listener._task is not None
    await listener._task
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10]


async def test_no_heartbeat_is_sent_for_a_cache_that_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty seconds after the last question; the next question brings them back."""
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])

    class Loopback:
        """Brings every notification back at once."""

        def __init__(self) -> None:
            self.sent = 0

        async def notify(self, channel: str, payload: str) -> None:
            self.sent += 1
            connection._hear(channel, payload)

    loopback, cache = Loopback(), Cache()
    database: Any = loopback
    listener = Listener(database)
    listener.joined.append(cache)
    connection = module._Connection(listener)

    async def beat(seconds: float) -> int:
        now[0] += seconds
        assert await connection._beat()
        assert cache.extended == loopback.sent
        return loopback.sent

    assert await beat(0) == 1
    assert await beat(IDLE_SECONDS - 1) == 2
    assert await beat(1) == 2
    assert await beat(IDLE_SECONDS) == 2
    cache.uses += 1
    assert await beat(0) == 3
    assert await beat(IDLE_SECONDS - 1) == 4
    assert await beat(1) == 4
