"""Four processes for every test of races."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.races.processes import Swarm


@pytest.fixture(scope="session")
def swarm() -> Iterator[Swarm]:
    processes = Swarm(4)
    yield processes
    processes.stop()
