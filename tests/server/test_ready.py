"""What load balancers ask: is it alive, and should requests be sent here?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from muxi_identity.config import FormationConfig
from muxi_identity.formation import Formation
from muxi_identity.secret import Secret
from muxi_identity.server.routes import system
from tests.proxy import Proxy
from tests.server.places import CLIENT, data, problem, serve, with_keys, write_formation


def remote(url: str, id: str) -> FormationConfig:
    persistent = {"provider": "postgres", "connection_string": url}
    config = FormationConfig.from_mapping({"id": id, "memory": {"persistent": persistent}})
    return dataclasses.replace(with_keys(config), secret_key=Secret("s" * 40))


async def test_every_database_is_asked_once_and_not_waited_for(
    tmp_path: Path, shared_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    list_users = Formation.list_users

    async def count(formation: Formation, *arguments: Any) -> Any:
        asked.append(formation.config.id)
        return await list_users(formation, *arguments)

    monkeypatch.setattr(Formation, "list_users", count)
    here = [FormationConfig.load(write_formation(tmp_path, name)) for name in ("here", "beside")]
    with Proxy.before(shared_postgres_url) as proxy:
        async with serve(*here, remote(proxy.url(shared_postgres_url), "ready-there")) as (app, http):
            assert (await http.get("/ready")).json() == {"status": "ready", "database": "available"}
            assert asked == ["beside", "ready-there"]  # the first two are in one database
            monkeypatch.setattr(system, "READY_SECONDS", 0.05)
            proxy.stall()
            for path in ("/ready", "/api/ready-there/v1/ready"):
                refused = await http.get(path)
                problem(refused, 503, "STORAGE_UNAVAILABLE")
                assert int(refused.headers["retry-after"]) >= 1
            monkeypatch.undo()
            for path in ("/v1/ready", "/api/beside/v1/ready", "/health"):
                assert (await http.get(path)).status_code == 200
            proxy.flow()
            assert (await http.get("/ready")).status_code == 200
            app.announce_stop()
            for path in ("/ready", "/v1/ready"):
                problem(await http.get(path), 503, "SERVER_UNAVAILABLE")
            body = {"identifier": "alice@email.com", "create_user": True}
            data(await http.post("/v1/users/resolve", json=body, headers=CLIENT))


async def test_they_may_ask_by_head(tmp_path: Path) -> None:
    async with serve(FormationConfig.load(write_formation(tmp_path))) as (_, http):
        for path in ("/health", "/ready", "/v1/health", "/api/test/v1/ready"):
            assert (await http.head(path)).status_code == 200
            refused = await http.post(path)
            problem(refused, 405, "METHOD_NOT_ALLOWED")
            assert refused.headers["allow"] == "GET, HEAD"
        assert (await http.head("/v1/users", headers=CLIENT)).status_code == 405
