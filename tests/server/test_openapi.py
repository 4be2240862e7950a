"""The OpenAPI document: complete, and true of the server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from muxi_identity.config import FormationConfig
from muxi_identity.server.app import create_app
from muxi_identity.server.call import Access
from muxi_identity.server.problems import status_of
from muxi_identity.server.routes import GROUPS
from tests.server.places import ADMIN_KEY, running, with_keys, write_formation

OPERATIONS = [operation for group in GROUPS for operation in group.operations]
EXAMPLES = int(os.environ.get("MUXI_OPENAPI_EXAMPLES", "0"))
"""How many cases of each operation are made up, at most; 0 is a quick look."""


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
    good = described["responses"][str(operation.status)]["content"]
    if operation.data is not None:
        assert "example" in good["application/json"]
        assert msgspec.convert(operation.example, operation.data) == operation.example
    parameters = re.findall(r"{(\w+)}", operation.template)
    assert [each["name"] for each in described.get("parameters", []) if each["in"] == "path"] == parameters


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


def test_the_server_does_what_the_document_says(tmp_path: Path) -> None:
    phases = ["--phases", "examples,fuzzing", "--max-examples", "5"]
    if EXAMPLES:
        phases = ["--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)]
    with running(write_formation(tmp_path)) as server:
        page = httpx.get(f"{server.url}/docs").text
        files = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(files) == 3
        for file in files:
            assert file.startswith("/docs/static/")  # nothing is fetched from anybody else
            assert httpx.get(server.url + file).status_code == 200
        assert not re.search(r"https?://|//cdn", page)
        assert httpx.get(f"{server.url}/docs/static/nothing.js").status_code == 404
        done = subprocess.run(
            [
                *(Path(sys.executable).with_name("st"), "--config-file", Path(__file__).with_name("schemathesis.toml")),
                *("run", f"{server.url}/openapi.json", "--checks", "all", "--continue-on-failure", "--no-color"),
                *("--exclude-operation-id", "stream_events"),  # it has no end
                *("--header", f"X-Muxi-Admin-Key: {ADMIN_KEY}", "--request-timeout", "20", "--seed", "1"),
                *phases,
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
        found = re.search(r"([\d,]+) generated", done.stdout)
        assert found is not None
        assert int(found[1].replace(",", "")) >= 200
        statuses = {line.get("status") for line in server.log() if "status" in line}
        assert 500 not in statuses
        assert 200 in statuses
