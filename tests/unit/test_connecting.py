"""Connecting to a server that is not there: ever longer pauses, kept by everybody who connects."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.postgres import free_port

from muxi_identity.storage import connecting
from muxi_identity.storage.connecting import Connector


async def test_attempts_keep_a_growing_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(connecting, "monotonic", lambda: now[0])
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(random, "uniform", lambda least, most: most)
    connector = Connector(f"postgresql://muxi@127.0.0.1:{free_port()}/muxi", 5.0)
    for _ in range(9):
        with pytest.raises(ConnectionRefusedError):
            await connector.connect()
    assert pauses == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1])


async def test_of_several_that_fail_together_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "monotonic", lambda: 100.0)
    connector = Connector(f"postgresql://muxi@127.0.0.1:{free_port()}/muxi", 5.0)
    failed = await asyncio.gather(*(connector.connect() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(each, ConnectionRefusedError) for each in failed)
    assert connector._failures == 1
