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
    with running(write_formation(folder, "sdk", **sections), env=environment) as server:
        here = Path(__file__).with_name("sdk_calls.py")
        done = subprocess.run(
            [sdk_python, here, server.url, "sdk", ADMIN_KEY, CLIENT_KEY],
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


def test_identity_calls(said: dict[str, Any]) -> None:
    sync = said["sync"]
    assert set(sync["health"]) == {"status", "version", "uptime_seconds"}
    assert (sync["unknown"]["kind"], sync["unknown"]["code"]) == ("NotFoundError", "USER_NOT_FOUND")
    assert sync["resolve"]["identifier"] == "alice@email.com"
    assert sync["resolve"]["created"] is True
    person = sync["resolve"]["muxi_user_id"]
    assert person.startswith("usr_")
    link = sync["link"]
    assert (link["muxi_user_id"], link["created"], link["count"]) == (person, False, 4)
    assert link["identifiers"][:2] == [
        {"identifier": "U98765ABC", "type": "slack"},
        {"identifier": "user_123", "type": "internal"},
    ]
    assert link["new_identifiers"] == ["U98765ABC", "user_123", "a/b c", "key=1&x"]
    assert sync["link_nobody"]["created"] is True
    assert (sync["conflict"]["kind"], sync["conflict"]["code"]) == ("ConflictError", "IDENTIFIER_CONFLICT")
    listed = sync["identifiers"]
    assert (listed["muxi_user_id"], listed["count"]) == (person, 5)
    assert listed["identifiers"][1].items() >= {"identifier": "U98765ABC", "type": "slack", "scope": None}.items()
    assert listed["identifiers"][1]["verified"] is False
    assert "created_at" in listed["identifiers"][1]
    after = [each["identifier"] for each in sync["identifiers_after"]["identifiers"]]
    assert after == ["alice@email.com", "U98765ABC", "user_123", "key=1&x"]
    assert said["named"]["muxi_user_id"] == said["draft"]["muxi_user_id"] == person
    assert said["async"]["resolve"]["muxi_user_id"] == person
    assert said["stranger"]["kind"] == "AuthenticationError"


def test_conversation_calls(said: dict[str, Any]) -> None:
    sync = said["sync"]
    person = sync["resolve"]["muxi_user_id"]
    for reply in (sync["asked"], said["async"]["chat"]):
        assert reply["message"] == {"role": "assistant", "content": "Your budget is $5,000."}
        assert reply["user_id"] == person
        assert {"session_id", "request_id"} <= set(reply)
    for stream in (sync["stream"], said["async"]["stream"]):
        *pieces, done = stream
        assert done["event"] == "done"
        assert json.loads(done["data"])["finished"] is True
        assert {piece["event"] for piece in pieces} == {"message"}
        text = "".join(json.loads(piece["data"])["token"]["content"] for piece in pieces)
        assert text == "Your budget is $5,000."
    assert sync["stream_refused"]["code"] == "INVALID_REQUEST"
    (session,) = sync["sessions"]["sessions"]
    assert sync["sessions"]["count"] == 1
    assert session["session_id"] == sync["chat"]["session_id"]
    assert session["active"] is True
    assert "last_activity" in session
    assert sync["session"]["message_count"] == 2
    assert "created_at" in sync["session"]
    assert sync["messages"]["messages"][0]["content"] == "My budget is $5,000"
    assert (sync["messages"]["count"], sync["messages"]["has_more"]) == (2, False)
    assert sync["foreign_session"]["code"] == "SESSION_NOT_FOUND"
    assert [message["content"] for message in sync["restored"]["messages"]] == ["Hello"]
    assert (sync["buffer"]["user_id"], sync["buffer"]["total_messages"], sync["buffer"]["sessions"]) == (person, 3, 2)
    assert sync["buffer"]["buffer_size_kb"] > 0
    assert sync["clear_session"].items() >= {"messages_cleared": 1, "sessions_cleared": 1}.items()
    assert sync["clear_user"]["messages_cleared"] == 2
    assert sync["stats"]["total_messages"] == sync["clear_all"]["messages_cleared"] == 4
    assert set(sync["memory_config"]) >= {"persistent", "session", "working"}
    assert json.loads(sync["event"]["data"])["type"] == "listening"
    assert sync["turn"]["event"] == "turn"
    assert json.loads(sync["turn"]["data"])["session_id"] == sync["told"]["session_id"]


def test_what_follows_the_person(said: dict[str, Any]) -> None:
    sync = said["sync"]
    assert sync["memory"]["content"] == "Allergic to peanuts"
    assert "Allergic to peanuts" in [memory["content"] for memory in sync["memories"]["memories"]]
    assert set(sync["memories"]["memories"][0]) >= {"id", "content", "created_at", "metadata"}
    assert sync["memories"]["count"] == len(sync["memories"]["memories"]) == 2
    assert [memory["value"] for memory in sync["memories_after"]["memories"]] == ["$5,000"]
    secret = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
    assert secret not in json.dumps(said)
    assert sync["credentials"]["credentials"][0]["id"] == sync["one_credential"]["id"] == sync["credential"]["id"]
    assert sync["services"]["services"] == [{"service": "github", "count": 1}]
    assert sync["delete_credential"]["deleted"] is True
    assert sorted(job["type"] for job in sync["jobs"]["jobs"]) == ["one_time", "recurring"]
    assert sync["one_job"]["schedule"] == "0 9 * * 1"
    assert (sync["changed_job"]["message"], sync["changed_job"]["schedule"]) == ("Remind me again", "0 8 * * 1")
    assert (sync["paused"]["status"], sync["resumed"]["status"]) == ("paused", "active")


def test_operators_calls(said: dict[str, Any]) -> None:
    sync = said["sync"]
    assert {event["event"] for event in sync["audit"]["events"]} == {
        "user:create",
        "identifier:link",
        "identifier:unlink",
    }
    assert sync["status"]["formation_id"] == sync["config"]["formation_id"] == "sdk"
    assert ADMIN_KEY not in json.dumps(sync["config"])
    others = ("get_agents", "get_mcp_tools", "get_triggers", "get_sops", "get_overlord_config", "get_scheduler_config")
    for name in (*others, "audio"):
        assert sync[name]["kind"] == "NotFoundError"
        assert "no call of this server" in sync[name]["message"]
    (refused,) = sync["request"]  # where the SDK listens to events, it looks at nothing else
    assert refused["event"] == "error"
    assert "no call of this server" in json.loads(refused["data"])["error"]
