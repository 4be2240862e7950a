"""A client that nobody here wrote: the published SDK, in an environment of its own, against a server process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.server.places import ADMIN_KEY, CLIENT_KEY, running, write_formation

SDK = "muxi==1.20260713.0"
_HOME = Path(__file__).parents[2] / ".venv" / "sdk"


@pytest.fixture(scope="module")
def sdk_python() -> Path:
    """The interpreter of an environment that has the SDK and nothing of ours; made once."""
    python = _HOME / "bin" / "python"
    mark = _HOME / "installed"
    if not mark.exists() or mark.read_text() != SDK:
        venv.create(_HOME, clear=True, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SDK]
        done = subprocess.run(install, capture_output=True, text=True)
        assert done.returncode == 0, f"{SDK} cannot be installed; is the package index reachable?\n{done.stderr}"
        mark.write_text(SDK)
    return python


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def said(request: pytest.FixtureRequest, sdk_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every call answered."""
    folder = tmp_path_factory.mktemp("sdk")
    sections: dict[str, Any] = {}
    environment = {"MUXI_SECRET_KEY": "k" * 40}
    if request.param == "postgres":
        address = request.getfixturevalue("postgres_cluster").create_database()
        sections["memory"] = {"persistent": {"provider": "postgres", "connection_string": address}}
    files = [write_formation(folder, name, **sections) for name in ("sdk", "sdk-async")]
    with running(*files, env=environment) as server:
        here = Path(__file__).with_name("sdk_calls.py")
        done = subprocess.run(
            [sdk_python, here, server.url, "sdk", "sdk-async", ADMIN_KEY, CLIENT_KEY],
            capture_output=True,
            text=True,
            timeout=60,
            # The SDK keeps a file in the home folder, and must not find our own package.
            env={**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, "HOME": str(folder)},
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr + "\n".join(server.lines[-20:])
        assert server.stop() == 0
    assert sys.prefix not in done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.fixture(params=["sync", "async"])
def told(said: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    """What every call of one of both clients answered."""
    answers: dict[str, Any] = said[request.param]
    return answers


def test_both_forms_of_address_and_wrong_keys(said: dict[str, Any]) -> None:
    person = said["sync"]["resolve"]["muxi_user_id"]
    assert said["live"]["muxi_user_id"] == said["draft"]["muxi_user_id"] == person
    assert said["async"]["resolve"]["muxi_user_id"] != person
    assert said["stranger"]["kind"] == "AuthenticationError"
    assert said["sync"].keys() == said["async"].keys()


def test_identity_calls(told: dict[str, Any]) -> None:
    assert set(told["health"]) == {"status", "version", "uptime_seconds"}
    assert (told["unknown"]["kind"], told["unknown"]["code"]) == ("NotFoundError", "USER_NOT_FOUND")
    assert told["resolve"]["identifier"] == "alice@email.com"
    assert told["resolve"]["created"] is True
    person = told["resolve"]["muxi_user_id"]
    assert person.startswith("usr_")
    link = told["link"]
    assert (link["muxi_user_id"], link["created"], link["count"]) == (person, False, 4)
    assert link["identifiers"][:2] == [
        {"identifier": "U98765ABC", "type": "slack"},
        {"identifier": "user_123", "type": "internal"},
    ]
    assert link["new_identifiers"] == ["U98765ABC", "user_123", "a/b c", "key=1&x"]
    assert told["link_nobody"]["created"] is True
    assert (told["conflict"]["kind"], told["conflict"]["code"]) == ("ConflictError", "IDENTIFIER_CONFLICT")
    listed = told["identifiers"]
    assert (listed["muxi_user_id"], listed["count"]) == (person, 5)
    assert listed["identifiers"][1].items() >= {"identifier": "U98765ABC", "type": "slack", "scope": None}.items()
    assert listed["identifiers"][1]["verified"] is False
    assert "created_at" in listed["identifiers"][1]
    after = [each["identifier"] for each in told["identifiers_after"]["identifiers"]]
    assert after == ["alice@email.com", "U98765ABC", "user_123", "key=1&x"]


def test_conversation_calls(told: dict[str, Any]) -> None:
    person = told["resolve"]["muxi_user_id"]
    reply = told["asked"]
    assert reply["message"] == {"role": "assistant", "content": "Your budget is $5,000."}
    assert reply["user_id"] == person
    assert {"session_id", "request_id"} <= set(reply)
    *pieces, done = told["stream"]
    assert done["event"] == "done"
    assert json.loads(done["data"])["finished"] is True
    assert {piece["event"] for piece in pieces} == {"message"}
    text = "".join(json.loads(piece["data"])["token"]["content"] for piece in pieces)
    assert text == "Your budget is $5,000."
    assert told["stream_refused"]["code"] == "INVALID_REQUEST"
    (session,) = told["sessions"]["sessions"]
    assert told["sessions"]["count"] == 1
    assert session["session_id"] == told["chat"]["session_id"]
    assert session["active"] is True
    assert "last_activity" in session
    assert told["session"]["message_count"] == 2
    assert "created_at" in told["session"]
    assert told["messages"]["messages"][0]["content"] == "My budget is $5,000"
    assert (told["messages"]["count"], told["messages"]["has_more"]) == (2, False)
    assert told["foreign_session"]["code"] == "SESSION_NOT_FOUND"
    assert [message["content"] for message in told["restored"]["messages"]] == ["Hello"]
    assert (told["buffer"]["user_id"], told["buffer"]["total_messages"], told["buffer"]["sessions"]) == (person, 3, 2)
    assert told["buffer"]["buffer_size_kb"] > 0
    assert told["clear_session"].items() >= {"messages_cleared": 1, "sessions_cleared": 1}.items()
    assert told["clear_user"]["messages_cleared"] == 2
    assert told["stats"]["total_messages"] == told["clear_all"]["messages_cleared"] == 4
    assert set(told["memory_config"]) >= {"persistent", "session", "working"}
    assert json.loads(told["event"]["data"])["type"] == "listening"
    assert told["turn"]["event"] == "turn"
    assert json.loads(told["turn"]["data"])["session_id"] == told["told"]["session_id"]


def test_what_follows_the_person(told: dict[str, Any]) -> None:
    assert told["memory"]["content"] == "Allergic to peanuts"
    assert "Allergic to peanuts" in [memory["content"] for memory in told["memories"]["memories"]]
    assert set(told["memories"]["memories"][0]) >= {"id", "content", "created_at", "metadata"}
    assert told["memories"]["count"] == len(told["memories"]["memories"]) == 2
    assert [memory["value"] for memory in told["memories_after"]["memories"]] == ["$5,000"]
    secret = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
    assert secret not in json.dumps(told)
    assert told["credentials"]["credentials"][0]["id"] == told["one_credential"]["id"] == told["credential"]["id"]
    assert told["services"]["services"] == [{"service": "github", "count": 1}]
    assert told["delete_credential"]["deleted"] is True
    assert sorted(job["type"] for job in told["jobs"]["jobs"]) == ["one_time", "recurring"]
    assert told["one_job"]["schedule"] == "0 9 * * 1"
    assert (told["changed_job"]["message"], told["changed_job"]["schedule"]) == ("Remind me again", "0 8 * * 1")
    assert (told["paused"]["status"], told["resumed"]["status"]) == ("paused", "active")


def test_operators_calls(told: dict[str, Any]) -> None:
    assert {event["event"] for event in told["audit"]["events"]} == {
        "user:create",
        "identifier:link",
        "identifier:unlink",
    }
    assert told["status"]["formation_id"] == told["config"]["formation_id"]
    assert ADMIN_KEY not in json.dumps(told["config"])
    others = ("get_agents", "get_mcp_tools", "get_triggers", "get_sops", "get_overlord_config", "get_scheduler_config")
    for name in (*others, "audio"):
        assert told[name]["kind"] == "NotFoundError"
        assert "no call of this server" in told[name]["message"]
    (refused,) = told["request"]  # where the SDK listens to events, it looks at nothing else
    assert refused["event"] == "error"
    assert "no call of this server" in json.loads(refused["data"])["error"]
