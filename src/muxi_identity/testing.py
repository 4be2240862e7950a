"""A pytest plugin: throw-away formations for the tests of whoever builds on this library.

Installed with the package; a test asks for a fixture by name::

    def test_remembers(muxi_formation):
        muxi_formation.chat("My budget is $5,000", user_id="user_123")
        assert "$5,000" in muxi_formation.chat("What's my budget?", user_id="user_123").text
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.client.synchronous import FormationClient


@pytest.fixture
def muxi_formation() -> Iterator[FormationClient]:
    """Give a synchronous client of a formation that is thrown away after the test."""
    with FormationClient.ephemeral() as formation:
        yield formation


@pytest.fixture
def async_muxi_formation() -> AsyncFormationClient:
    """Give an asynchronous client of a throw-away formation.

    It opens on the test's own event loop, with the first call; close it there (``async with``) or leave it to be
    collected.
    """
    return AsyncFormationClient.ephemeral()
