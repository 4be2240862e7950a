"""Everybody as one stream: whole with an empty line at its end, or broken off for all to see."""

from __future__ import annotations

import json
from asyncio import Event
from typing import Any

import pytest

from muxi_identity.config import FormationConfig
from muxi_identity.errors import StorageUnavailableError
from muxi_identity.importing.service import Imports
from muxi_identity.server import row_streams
from muxi_identity.server.routes import importing
from tests.server.places import ADMIN, data, problem, serve, with_keys

PEOPLE = [f"person{number}@email.com" for number in range(5)]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (row_streams, importing):
        monkeypatch.setattr(module, "MAX_PAGE", 2)


ROWS = "".join(json.dumps({"identifiers": [name, [f"Jos\u00e9 {name}", "github"]]}) + "\n" for name in PEOPLE)


async def test_everybody_a_line_and_an_empty_one_at_the_end(database_config: FormationConfig) -> None:
    async with serve(with_keys(database_config)) as (_, client):
        empty = await client.get("/v1/users/export", headers=ADMIN)
        assert (empty.status_code, empty.content) == (200, b"\n")
        data(await client.post("/v1/users/import", content=ROWS, headers=ADMIN))
        told = await client.get("/v1/users/export", headers=ADMIN)
        assert told.headers["content-type"] == "application/x-ndjson"
        *lines, last, nothing = told.content.split(b"\n")
        assert (last, nothing) == (b"", b"")
        people = [json.loads(line) for line in lines]
        assert [each["identifiers"][0]["identifier"] for each in people] == PEOPLE
        assert "Jos\u00e9".encode() in lines[0]
        paged, cursor = [], None
        while cursor is not None or not paged:
            page = {"limit": 3, **({"cursor": cursor} if cursor else {})}
            found = data(await client.get("/v1/users/export/pages", params=page, headers=ADMIN))
            paged, cursor = paged + found["people"], found["next_cursor"]
        assert paged == people
        again = data(await client.post("/v1/users/import", content=told.content, headers=ADMIN))
        assert (again["rows"], again["known"]) == (5, 5)


@pytest.mark.parametrize("page", [1, 2])
async def test_what_breaks_off_does_not_end(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    read, asked = Imports.page, 0

    async def fail(self: Imports, *arguments: object) -> object:
        nonlocal asked
        asked += 1
        if asked == page:
            raise StorageUnavailableError("The database does not answer.")
        return await read(self, *arguments)  # type: ignore[arg-type]

    async with serve(with_keys(database_config)) as (app, client):
        data(await client.post("/v1/users/import", content=ROWS, headers=ADMIN))
        monkeypatch.setattr(Imports, "page", fail)
        if page == 1:
            problem(await client.get("/v1/users/export", headers=ADMIN), 503, "STORAGE_UNAVAILABLE")
            return
        sent: list[Any] = []

        requests = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            return requests.pop() if requests else await Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(name.lower().encode(), value.encode()) for name, value in ADMIN.items()]
        path = "/v1/users/export"
        await app(
            {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": headers, "asgi": {"version": "3.0"}},
            receive,
            send,
        )  # fmt: skip
    # What serves the application closes the connection then, in the middle of the answer.
    assert [each["type"] for each in sent] == ["http.response.start", "http.response.body"]
    assert sent[1]["body"].count(b"\n") == 2
    assert sent[1]["more_body"] is True
