"""The OpenAPI document: complete, and true of the server.

``MUXI_LONG=1`` makes thousands of requests up, on both databases.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from muxi_identity.config import FormationConfig
from muxi_identity.errors import MuxiError
from muxi_identity.server.app import create_app
from muxi_identity.server.call import Access
from muxi_identity.server.examples import example_of
from muxi_identity.server.links import LINKS
from muxi_identity.server.problems import status_of
from muxi_identity.server.routes import GROUPS
from muxi_identity.storage import sharing
from muxi_identity.storage.opening import make_database
from tests.long import LONG
from tests.server.places import ADMIN, ADMIN_KEY, ServerProcess, running, serve, with_keys, write_formation

OPERATIONS = [operation for group in GROUPS for operation in group.operations]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    app = create_app(with_keys(FormationConfig.load(write_formation(tmp_path_factory.mktemp("document")))))
    return dict(app.api.openapi())


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_is_described(operation: Any, document: dict[str, Any]) -> None:
    path = "/v1" + operation.template
    described = document["paths"][path][operation.method.lower()]
    assert described["operationId"] == operation.name
    assert described["summary"]
    assert described["tags"] == [operation.tag]
    assert bool(described["security"]) == (operation.access is not Access.PUBLIC)
    named = {name for scheme in described["security"] for name in scheme}
    assert named <= set(document["components"]["securitySchemes"])
    assert ("adminKey" in named) == (operation.access is not Access.PUBLIC)
    assert ("userToken" in named) == (operation.access is Access.USER)
    for error in operation.errors:
        assert f"`{error.code}`" in described["responses"][str(status_of(error))]["description"]
    assert "500" in described["responses"]
    assert "`FORMATION_NOT_FOUND`" in described["responses"]["404"]["description"]
    assert ("501" in described["responses"]) == (operation.access is not Access.PUBLIC)
    good = described["responses"][str(operation.status)]["content"]
    if operation.streams:
        assert "example" in good["text/event-stream"]
    if operation.data is not None:
        assert "example" in good["application/json"]
        assert msgspec.convert(operation.example, operation.data) == operation.example
    parameters = re.findall(r"{(\w+)}", operation.template)
    assert [each["name"] for each in described.get("parameters", []) if each["in"] == "path"] == parameters


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_header_that_is_read_is_described(operation: Any, document: dict[str, Any]) -> None:
    code = inspect.getsource(operation.endpoint)
    assert operation.user == any(name in code for name in ("call.user", "call.named("))
    assert operation.typed == ("call.typed(" in code or "_resolve(call" in code)
    assert operation.noted == ("SOURCE" in code)
    described = document["paths"]["/v1" + operation.template][operation.method.lower()]
    headers = {each["name"] for each in described.get("parameters", []) if each["in"] == "header"}
    wanted = {
        "X-Muxi-User-ID": operation.user,
        "X-Muxi-User-ID-Type": operation.user or operation.typed,
        "X-Muxi-User-ID-Scope": operation.user or operation.typed,
        "X-Muxi-User-ID-Form": operation.user or operation.typed,
        "X-Muxi-Source": operation.noted,
        "X-Muxi-Reason": operation.noted,
        "X-Muxi-Actor": operation.access is not Access.PUBLIC and operation.method != "GET",
        "X-Muxi-Idempotency-Key": operation.repetition is not None or operation.takes_rows,
    }
    assert headers - {"Last-Event-ID"} == {name for name, there in wanted.items() if there}


@pytest.mark.parametrize("error", sorted({each for one in OPERATIONS for each in one.errors}, key=lambda one: one.code))
def test_every_error_has_an_example_that_the_server_could_have_told(error: type[MuxiError]) -> None:
    example = example_of(error)
    assert (example["code"], example["error"]["code"]) == (error.code, error.code)
    assert example["message"] == example["error"]["message"] != ""
    named = {name for name in error.__annotations__ if name not in MuxiError.__annotations__}
    assert named <= set(example["error"]["details"])
    assert status_of(error) != 501 or error.code == "CONFIGURATION"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                found: Any = document
                for part in reference.removeprefix("#/").split("/"):
                    found = found[part]
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(document)
    assert "HTTPValidationError" not in document["components"]["schemas"]
    text = str(document)
    for hidden in ("_pk", "user_pk", "identifier_pk"):
        assert hidden not in text


KNOWN = ["alice@email.com", ["U98765ABC", "slack"], ["user_123", "internal"]]
APART = {"merge_users": [[KNOWN[0]], [KNOWN[1]]], "split_user": [KNOWN]}
"""Calls that take people who were neither one nor two before, and who they are."""


class Walk:
    """Makes calls as the document shows them."""

    def __init__(self, document: dict[str, Any], http: httpx.AsyncClient) -> None:
        self._document = document
        self._http = http

    async def ask(self, name: str, body: Any = None, **given: str) -> tuple[dict[str, str], Any]:
        """Make a call, with ``given`` for parameters; return all of its parameters, and the answer."""
        (operation,) = (each for each in OPERATIONS if each.name == name)
        path = f"/v1{operation.template}"
        values = {"header.X-Muxi-User-ID": "alice@email.com"}
        for each in self._document["paths"][path][operation.method.lower()]["parameters"]:
            if each["in"] == "path":
                values[f"path.{each['name']}"] = (each.get("examples") or each["schema"].get("examples") or ["x"])[0]
        values |= given
        for key, value in values.items():
            path = path.replace("{" + key.removeprefix("path.") + "}", quote(value, safe=""))
        headers = {key.removeprefix("header."): value for key, value in values.items() if key.startswith("header.")}
        content = operation.body if body is None else body
        if content is not None:  # the header says it
            content = {name: value for name, value in content.items() if name != "user_id"}
        answer = await self._http.request(operation.method, path, headers={**ADMIN, **headers}, json=content)
        assert answer.status_code < 300, f"{name}: {answer.text}"
        return values, answer.json()


def found_by(expression: str, sent: dict[str, str], answer: Any) -> str:
    """Return what a link's expression means."""
    where, _, pointer = expression.partition("#/")
    if where != "$response.body":
        return sent[where.removeprefix("$request.")] if where.startswith("$") else where
    for part in pointer.split("/"):
        answer = answer[part]
    return str(answer)


async def test_every_link_leads_where_it_says(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a call answered, put where a link says, is what the call that it leads to takes."""
    # Hundreds of small writes: nobody pulls the plug, so nobody waits for the disk.
    monkeypatch.setattr(sharing, "make_database", lambda config, durable=True: make_database(config, durable=False))
    walked = 0
    async with serve(with_keys(FormationConfig.load(write_formation(tmp_path)))) as (_, http):
        walk = Walk(document, http)
        for source, links in LINKS.items():
            for number, (target, link) in enumerate((target, each) for each in links for target in each.to):
                if not number or source in APART:
                    for person in (await http.get("/v1/users", headers=ADMIN)).json()["data"]["users"]:
                        await walk.ask("delete_user", **{"path.user_id": person["muxi_user_id"]})
                    for known in APART.get(source, [KNOWN]):
                        await walk.ask("link_user_identifiers", {"identifiers": known})
                sent, answer = await walk.ask(source, {} if source == "create_user" else None)
                given = {name: found_by(expression, sent, answer) for name, expression in link.given.items()}
                await walk.ask(target, **given)
                walked += 1
    responses = [
        response
        for path in document["paths"].values()
        for operation in path.values()
        for response in operation["responses"].values()
    ]
    assert walked == sum(len(response.get("links", ())) for response in responses)


def test_the_page_fetches_nothing_from_anybody_else(place: ServerProcess) -> None:
    page = httpx.get(f"{place.url}/docs").text
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(files) == 3
    for file in files:
        assert file.startswith("/docs/static/")
        assert httpx.get(place.url + file).status_code == 200
    assert not re.search(r"https?://|//cdn", page)
    assert httpx.get(f"{place.url}/docs/static/nothing.js").status_code == 404


@pytest.fixture(scope="module", params=["sqlite", "postgres"] if LONG else ["sqlite"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of two formations, one for each way of asking: neither deletes what the other one has made."""
    folder = tmp_path_factory.mktemp("openapi")
    address = str(folder / "served.db")
    if request.param == "postgres":
        address = request.getfixturevalue("postgres_cluster").create_database()
    sections = {"memory": {"persistent": {"provider": request.param, "connection_string": address}}}
    files = [write_formation(folder, name, **sections) for name in ("fuzzed", "walked")]
    with running(*files, env={"MUXI_SECRET_KEY": "k" * 40}) as server:
        yield server


def test_the_server_does_what_the_document_says(place: ServerProcess, tmp_path: Path) -> None:
    fuzzing = ("--phases", "examples,coverage,fuzzing", "--max-examples", "25")
    walking = ("--phases", "stateful", "--max-examples", "80" if LONG else "8")
    if not LONG:
        fuzzing = ("--phases", "examples,fuzzing", "--max-examples", "2")
    runs = [
        ask(place, tmp_path, "schemathesis.toml", "/api/fuzzed", *fuzzing),
        ask(place, tmp_path, "stateful.toml", "/api/walked", *walking),
    ]
    told = [run.communicate()[0] for run in runs]
    for run, said in zip(runs, told, strict=True):
        print(said)
        assert run.returncode == 0, said[-20_000:]
    cases, covered = number(told[0], r"([\d,]+) generated"), number(told[1], r"API Links: +(\d+) covered")
    assert cases >= (4_000 if LONG else 200)
    assert covered >= (20 if LONG else 5)
    answers = [line for line in place.log() if "status" in line]
    assert 500 not in {line["status"] for line in answers}
    assert 200 in {line["status"] for line in answers}


def ask(place: ServerProcess, folder: Path, config: str, base: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(Path(sys.executable).with_name("st"), "--config-file", Path(__file__).with_name(config)),
            *("run", f"{place.url}/openapi.json", "--url", place.url + base, "--checks", "all", "--no-color"),
            *("--exclude-operation-id", "stream_events"),  # it has no end
            *("--header", f"X-Muxi-Admin-Key: {ADMIN_KEY}", "--request-timeout", "20", "--seed", "1"),
            *("--continue-on-failure", *options),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )


def number(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, text[-20_000:]
    return int(found[1].replace(",", ""))
