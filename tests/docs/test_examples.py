"""The examples, each run as a program of its own, against a service that speaks the protocol."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.model_server import KEY, ModelServer, calls, model_server, says
from tests.slack_server import BOT, TEAM, SlackServer

from muxi_identity import FormationClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENCE = 60.0  # seconds


@pytest.fixture
def slack(tmp_path: Path) -> Iterator[SlackServer]:
    """Slack, with the example bot connected to it."""
    server = SlackServer({"U1": "alice@email.com", "U2": "bob@email.com", "U3": "carol@email.com"})
    environment = {
        **os.environ,
        "SLACK_BOT_TOKEN": "xoxb-not-a-token",
        "SLACK_APP_TOKEN": "xapp-not-a-token",
        "SLACK_API_URL": server.api_url,
        "MUXI_HOME": str(tmp_path),
    }
    bot = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "slack_bot.py")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert server.connected.wait(PATIENCE), bot.communicate(timeout=10)
        yield server
    finally:
        bot.send_signal(signal.SIGINT)
        output, _ = bot.communicate(timeout=PATIENCE)
        server.stop()
    assert "not-a-token" not in output


def direct(user: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "channel_type": "im", "channel": f"D{user}", "user": user, "text": text, **more}


def mention(user: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "app_mention", "channel": "C1", "user": user, "text": f"<@{BOT}> {text}", **more}


def answered(slack: SlackServer, event: dict[str, Any]) -> dict[str, Any]:
    envelope = slack.send(event)
    posted = slack.posted.get(timeout=PATIENCE)
    assert slack.acknowledged.get(timeout=PATIENCE) == envelope
    return posted


def test_the_slack_bot(slack: SlackServer, tmp_path: Path) -> None:
    told = answered(slack, direct("U1", "My budget is $5,000"))
    assert (told["channel"], told.get("thread_ts")) == ("DU1", None)
    asked = answered(slack, direct("U1", "What's my budget?", thread_ts="1700000001.000100"))
    assert "$5,000" in asked["text"]
    assert asked["thread_ts"] == "1700000001.000100"
    # Where others read along, what was said in private is not brought in; a mention begins a thread.
    public = answered(slack, mention("U1", "What's my budget?"))
    assert "5,000" not in public["text"]
    assert public["thread_ts"].startswith("17000000")
    assert "5,000" not in answered(slack, direct("U2", "What's my budget?"))["text"]
    # Nobody answers a bot, an edit or a message in a channel that does not mention it.
    for ignored in (
        direct("U1", "Hello", bot_id="B1"),
        mention("U1", "Hello", bot_id="B1"),
        {**mention("", "Hello", bot_id="B1"), "user": None},
        direct("U1", "Hello", subtype="message_changed"),
        {**direct("U1", "Hello"), "channel_type": "channel", "channel": "C1"},
    ):
        envelope = slack.send(ignored)
        assert slack.acknowledged.get(timeout=PATIENCE) == envelope
    assert "$5,000" in answered(slack, direct("U1", "What's my budget?"))["text"]
    assert slack.posted.empty()

    with FormationClient({"memory": {"persistent": {"connection_string": str(tmp_path / "muxi.db")}}}) as formation:
        reply = formation.chat("What's my budget?", user_id="alice@email.com")
        assert "$5,000" in reply.text
        identifiers = formation.get_user_identifiers(reply.user_id, detailed=True)
        assert [(each["identifier"], each["type"], each["scope"]) for each in identifiers] == [
            ("alice@email.com", "email", None),
            ("U1", "slack", TEAM),
        ]


def test_the_slack_bot_answers_whom_it_cannot_link(slack: SlackServer, tmp_path: Path) -> None:
    """Both of Carol's identifiers were linked to a user on purpose, and not to the same one."""
    with FormationClient({"memory": {"persistent": {"connection_string": str(tmp_path / "muxi.db")}}}) as formation:
        formation.associate_user_identifiers(["carol@email.com"])
        formation.associate_user_identifiers([{"identifier": "U3", "type": "slack", "scope": TEAM}])
        formation.chat("My budget is $7,000", user_id="carol@email.com")
        answered(slack, direct("U3", "My budget is $5,000"))
        assert "$5,000" in answered(slack, direct("U3", "What's my budget?"))["text"]
        assert "$7,000" in formation.chat("What's my budget?", user_id="carol@email.com").text


def talk(example: str, *arguments: str, said: str, model: ModelServer, home: Path) -> str:
    """Run an example for one message, and return what it printed."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")},
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": model.url,
        "MUXI_HOME": str(home),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / example), *arguments],
        input=f"{said}\n\n",
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("example", "more"), [("openai_loop.py", []), ("pydantic_ai_agent.py", ["openai-chat:small"])])
def test_a_loop_of_ones_own(example: str, more: list[str], tmp_path: Path) -> None:
    config = {"memory": {"persistent": {"connection_string": str(tmp_path / "muxi.db")}}}
    with FormationClient(config) as formation:
        formation.associate_user_identifiers(["alice@email.com", "user_123"])
        formation.set_preference("user_123", "language", "pt")
    with model_server() as model:
        model.will(calls(("remember", {"fact": "Has a cat called Miso"})), says("What a nice name!"))
        printed = talk(example, "alice@email.com", *more, said="My cat is Miso", model=model, home=tmp_path)
        assert "What a nice name!" in printed

        model.will(says("Your cat is called Miso."))
        talk(example, "user_123", *more, said="What do you know of my cat?", model=model, home=tmp_path)
        assert "Has a cat called Miso" in model.last.text
        assert "language" in model.last.text
        # Another session: what was said in the first one is not in it.
        assert "My cat is Miso" not in model.last.text

        talk(example, "mallory@email.com", *more, said="What do you know of my cat?", model=model, home=tmp_path)
        assert "Miso" not in model.last.text

        talk(example, "alice@email.com", *more, said="And who am I?", model=model, home=tmp_path)
        said = [each["content"] for each in model.last.messages if each["role"] in ("user", "assistant")]
        assert said == ["My cat is Miso", "What a nice name!", "And who am I?"]


@pytest.mark.parametrize(("example", "more"), [("openai_loop.py", []), ("pydantic_ai_agent.py", ["openai-chat:small"])])
def test_a_loop_loses_no_turn_to_its_model(example: str, more: list[str], tmp_path: Path) -> None:
    password = {"fact": "Their password is correcthorse7"}
    with model_server() as model:
        model.will(calls(("remember", "{not json")), calls(("remember", password)), says("I won't keep that."))
        printed = talk(example, "alice@email.com", *more, said="Remember it", model=model, home=tmp_path)
        assert "I won't keep that." in printed
    with FormationClient({"memory": {"persistent": {"connection_string": str(tmp_path / "muxi.db")}}}) as formation:
        context = formation.get_user_context("alice@email.com")
        assert [each["content"] for each in context["messages"]] == ["Remember it", "I won't keep that."]
        assert context["memories"] == []


def test_the_bare_loop_ends(tmp_path: Path) -> None:
    """However the model goes on: it says nothing, or calls its tool again and again."""
    config = {"memory": {"persistent": {"connection_string": str(tmp_path / "muxi.db")}}}
    with model_server() as model:
        model.will(says(""))
        talk("openai_loop.py", "alice@email.com", said="Hello", model=model, home=tmp_path)
        model.will(*(calls(("remember", {"fact": "Is patient"})) for _ in range(20)))
        talk("openai_loop.py", "alice@email.com", said="And now?", model=model, home=tmp_path)
    with FormationClient(config) as formation:
        context = formation.get_user_context("alice@email.com")
        assert [each["content"] for each in context["messages"]][::2] == ["Hello", "And now?"]
        assert [each["content"] for each in context["memories"]] == ["Is patient"]
