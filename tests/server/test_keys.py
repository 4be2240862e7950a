"""Keys that the server makes: once, when all else has gone well, and never without somebody who is shown them."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from muxi_identity.config import FormationConfig
from muxi_identity.errors import ConfigurationError, StorageUnavailableError
from muxi_identity.server import create_app
from muxi_identity.server.keys import KeyRing, Role, forget_made_keys
from muxi_identity.server.sites import MadeKeys, Site
from muxi_identity.server_config import hash_key
from tests.formations import dump


async def open_and_close(*configs: FormationConfig) -> list[MadeKeys]:
    """Open formations as a server does; return what it was told of keys."""
    told: list[MadeKeys] = []
    async with create_app(configs, on_keys=told.append, run_tasks=False).running():
        pass
    return told


def named(config: FormationConfig, id: str) -> FormationConfig:
    return dataclasses.replace(config, id=id)


async def test_they_are_made_once_and_kept_as_hashes(database_config: FormationConfig) -> None:
    (made,) = await open_and_close(database_config)
    (keys,) = made.values()
    assert list(keys) == [Role.ADMIN, Role.CLIENT]
    assert await open_and_close(database_config) == []
    rows = await dump(database_config)
    for key in keys.values():
        assert key not in str(rows)
        assert key.encode().hex() not in str(rows)

    app = create_app(database_config, run_tasks=False)  # they are there, so that nobody need be told
    async with app.running():
        (site,) = app.sites
        assert site.keys.opens(Role.ADMIN, keys[Role.ADMIN])
        assert not site.keys.opens(Role.ADMIN, keys[Role.CLIENT])
        assert await forget_made_keys(site.formation) == 2
    with pytest.raises(ConfigurationError, match="there is no admin key") as caught:
        async with create_app(database_config, run_tasks=False).running():
            pass
    assert caught.value.message.startswith(f"{database_config.id}: ")
    (others,) = await open_and_close(database_config)
    assert others != made


async def test_what_is_configured_is_not_made(database_config: FormationConfig) -> None:
    server = dataclasses.replace(database_config.server, admin_keys=(hash_key("a" * 20),))
    (made,) = await open_and_close(dataclasses.replace(database_config, server=server))
    assert [list(keys) for keys in made.values()] == [[Role.CLIENT]]


async def test_none_are_made_before_every_formation_is_open(database_config: FormationConfig) -> None:
    address = "postgresql://u:p@127.0.0.1:1/x"
    persistent = {"provider": "postgres", "connection_string": address}
    bad = FormationConfig.from_mapping({"id": "unreachable", "memory": {"persistent": persistent}})
    told: list[MadeKeys] = []
    with pytest.raises(StorageUnavailableError, match=r"^unreachable: "):
        async with create_app([database_config, bad], on_keys=told.append, run_tasks=False).running():
            pass
    assert told == []
    (made,) = await open_and_close(database_config)
    assert list(made) == [database_config.id]


async def test_those_that_were_made_are_told_though_another_cannot_be(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_keys = Site.take_keys

    async def lose(site: Site, *, make: bool) -> dict[Role, str]:
        if site.config.id == "second":
            raise StorageUnavailableError("It went away.")
        return await take_keys(site, make=make)

    monkeypatch.setattr(Site, "take_keys", lose)
    told: list[MadeKeys] = []
    both = [named(database_config, "first"), named(database_config, "second")]
    with pytest.raises(StorageUnavailableError, match=r"^second: "):
        async with create_app(both, on_keys=told.append, run_tasks=False).running():
            pass
    assert [list(made) for made in told] == [["first"]]


async def test_processes_that_start_at_once_have_one_key(database_config: FormationConfig) -> None:
    found = await asyncio.gather(*(open_and_close(database_config) for _ in range(3)))
    assert sum(len(told) for told in found) == 1


def test_any_of_several_keys_opens() -> None:
    ring = KeyRing([hash_key("a" * 20), hash_key("b" * 20)], [])
    assert ring.opens(Role.ADMIN, "b" * 20) == hash_key("b" * 20)
    assert ring.opens(Role.CLIENT, "b" * 20) is None
