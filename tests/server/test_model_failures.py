"""A model that fails, behind a server: told like in a process, whole and in pieces, and in the log."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from muxi_identity import AsyncFormationClient, ModelError, ModelTimeoutError, ModelUnavailableError, MuxiError
from muxi_identity.config import FormationConfig, ModelConfig, Secret
from muxi_identity.conversation.model import patience
from tests.contract.parties import served
from tests.model_server import KEY, Answer, ModelServer, drops, drops_midway, fails, hangs, model_server, raw
from tests.server.places import problem, serve, user, with_keys

MARK = "xylophone"
HELLO = {"message": f"My hobby is the {MARK}"}
FAILURES: dict[str, tuple[list[Answer], type[ModelError], int, str | None]] = {
    "overloaded": ([fails(503)] * 3, ModelUnavailableError, 503, "1"),
    "hung up": ([drops()] * 3, ModelUnavailableError, 503, "1"),
    "rate limited, it does not say for how long": ([fails(429)] * 3, ModelUnavailableError, 503, "1"),
    "rate limited": ([fails(429, {"Retry-After": "60"})], ModelUnavailableError, 503, "60"),
    "rate limited for part of a second": ([fails(429, {"retry-after-ms": "2"})] * 3, ModelUnavailableError, 503, "1"),
    "rate limited for ever": ([fails(429, {"Retry-After": "9" * 30})], ModelUnavailableError, 503, "86400"),
    "a wrong key": ([fails(401)], ModelError, 502, None),
    "rejected": ([fails(400)], ModelError, 502, None),
    "no JSON": ([raw(b"{nope")], ModelError, 502, None),
}


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    patch = pytest.MonkeyPatch()
    patch.setattr(patience, "PAUSE", 0.001)
    with model_server() as server:
        yield server
    patch.undo()


def with_model(folder: Path, url: str, **settings: float) -> FormationConfig:
    persistent = {"provider": "sqlite", "connection_string": str(folder / "muxi.db")}
    config = with_keys(FormationConfig.from_mapping({"id": "failing", "memory": {"persistent": persistent}}))
    model = ModelConfig("openai:small", api_key=Secret(KEY), base_url=url, **{"timeout": 20, **settings})
    return dataclasses.replace(config, model=model)


def error_of(response: httpx.Response) -> dict[str, object]:
    """Return what the one event of a stream that failed says."""
    found = re.fullmatch(r"event: error\ndata: (.*)\n\n", response.text)
    assert found is not None, response.text
    return dict(json.loads(found[1]))


async def test_what_a_failing_model_is_answered_with(
    tmp_path: Path, model: ModelServer, subtests: pytest.Subtests, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="muxi_identity")
    async with serve(with_model(tmp_path, model.url)) as (_, http):
        for name, (answers, kind, status, wait) in FAILURES.items():
            with subtests.test(name):
                for streamed in (False, True):
                    model.forget()
                    model.will(*answers)
                    caplog.clear()
                    response = await http.post("/v1/chat", json={**HELLO, "stream": streamed}, headers=user("alice"))
                    if streamed:
                        told = error_of(response)
                        assert (response.status_code, told["type"]) == (200, kind.code)
                    else:
                        told = problem(response, status, kind.code)
                        assert response.headers.get("retry-after") == wait
                    assert model.requests
                    assert not model._answers
                    details = told["details"]
                    assert isinstance(details, dict)
                    assert str(details.get("retry_after", wait)) == str(wait)
                    # One line says what happened, under the request's id, in no word of the model's or the person's.
                    (line,) = caplog.records
                    assert line.levelno == logging.WARNING
                    assert kind.code in line.getMessage()
                    assert vars(line)["fields"]["request_id"] == response.headers["x-request-id"]
                    for word in (KEY, MARK, "alice"):
                        assert word not in f"{line.getMessage()} {vars(line)['fields']} {response.text}"


async def said(client: AsyncFormationClient, streamed: bool) -> None:
    if not streamed:
        await client.chat(HELLO["message"], "alice")
        return
    async for _ in client.chat_stream(HELLO["message"], "alice"):
        pass


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "in pieces"])
async def test_a_remote_client_raises_what_an_embedded_one_does(
    tmp_path: Path, model: ModelServer, streamed: bool, subtests: pytest.Subtests
) -> None:
    cases = dict(FAILURES)
    if streamed:
        cases["broken off"] = ([drops_midway("Once ", chunked=True)], ModelUnavailableError, 503, None)
    (tmp_path / "here").mkdir()
    config = with_model(tmp_path, model.url)
    with served(config) as server:
        async with (
            AsyncFormationClient(**server.arguments()) as remote,
            AsyncFormationClient(with_model(tmp_path / "here", model.url)) as embedded,
        ):
            for name, (answers, kind, _, _) in cases.items():
                with subtests.test(name):
                    raised = []
                    for client in (embedded, remote):
                        model.forget()
                        model.will(*answers)
                        with pytest.raises(MuxiError) as caught:
                            await said(client, streamed)
                        raised.append((type(caught.value), caught.value.message, dict(caught.value.details)))
                    assert raised[0] == raised[1]
                    assert raised[0][0] is kind


async def test_a_model_that_cannot_be_reached_or_says_nothing(tmp_path: Path, model: ModelServer) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        closed = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        (tmp_path / "closed").mkdir()
        async with serve(with_model(tmp_path / "closed", closed)) as (_, http):
            response = await http.post("/v1/chat", json=HELLO, headers=user("alice"))
            problem(response, 503, ModelUnavailableError.code)
            assert response.headers["retry-after"] == "1"
            streamed = await http.post("/v1/chat", json={**HELLO, "stream": True}, headers=user("alice"))
            assert error_of(streamed)["type"] == ModelUnavailableError.code
    model.forget()
    model.will(hangs(silence := threading.Event()))
    async with serve(with_model(tmp_path, model.url)) as (_, http):
        response = await http.post("/v1/chat", json={**HELLO, "timeout": 0.05}, headers=user("alice"))
        problem(response, 504, ModelTimeoutError.code)
        assert response.headers["retry-after"] == "1"
    silence.set()
