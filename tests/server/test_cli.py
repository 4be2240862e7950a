"""The command line, against a formation of its own."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from muxi_identity.cli import app
from muxi_identity.cli.output import parse_argument
from muxi_identity.config import FormationConfig
from muxi_identity.errors import InvalidRequestError
from muxi_identity.server_config import hash_key
from muxi_identity.storage.migrate import newest
from tests.contract.parties import served
from tests.remote.servers import bad, good, scripted
from tests.server.places import ADMIN_KEY, CLIENT_KEY


class Commands:
    """Runs commands on one formation: in its file, or at ``url``."""

    def __init__(self, file: Path, url: str | None = None) -> None:
        self.file = file
        self.place = ["--config", str(file)] if url is None else ["--url", url]

    def __call__(self, *arguments: str, input: str | None = None, code: int = 0, config: bool = True) -> Result:
        given = [*arguments, *self.place] if config else list(arguments)
        result = CliRunner().invoke(app, given, input=input)
        assert result.exit_code == code, result.output + repr(result.exception)
        return result

    def json(self, *arguments: str, **options: Any) -> Any:
        return json.loads(self(*arguments, "--json", **options).stdout)


@pytest.fixture
def muxi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "formation.yaml"
    file.write_text("id: test\nmemory: {persistent: {connection_string: test.db}}\n")
    return Commands(file)


@pytest.fixture(params=["here", "served"])
def anywhere(request: pytest.FixtureRequest, muxi: Commands, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """Commands on the same formation, opened here or by a server."""
    if request.param == "here":
        yield muxi
        return
    monkeypatch.setenv("MUXI_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("MUXI_CLIENT_KEY", CLIENT_KEY)
    with served(FormationConfig.load(muxi.file)) as place:
        yield Commands(muxi.file, place.url)


def test_users(anywhere: Commands) -> None:
    muxi = anywhere
    assert "nobody" in muxi("users", "list").stdout
    linked = muxi.json("users", "link", "alice@email.com", "slack=U98765ABC", '{"identifier": "x=y"}')
    assert [each["type"] for each in linked["identifiers"]] == ["email", "slack", None]
    person = linked["muxi_user_id"]
    shown = muxi("users", "show", "slack=U98765ABC").stdout
    assert person in shown
    assert "alice@email.com" in shown
    assert "x=y" in shown
    assert len(muxi.json("users", "show", person)["identifiers"]) == 3
    assert muxi.json("users", "resolve", "alice@email.com")["muxi_user_id"] == person
    assert "not linked" in muxi("users", "resolve", "bob@email.com", code=3).stderr
    assert muxi.json("users", "resolve", "bob@email.com", "--create")["created"] is True
    conflict = muxi("users", "link", "bob@email.com", "--user", person, code=4)
    assert conflict.stdout == ""
    assert person not in muxi.json("users", "create", "usr_chosen", "--reason", "by hand")["muxi_user_id"]
    assert "usr_chosen" in muxi("users", "create", "usr_chosen", code=4).stderr
    first = muxi("users", "list", "--limit", "1")
    cursor = first.stderr.split("--cursor ")[1].strip()
    assert muxi.json("users", "list", "--cursor", cursor)["count"] == 2
    assert muxi("users", "unlink", "x=y", code=3)
    assert muxi.json("users", "unlink", "-", input='{"identifier": "x=y"}\n')["muxi_user_id"] == person
    muxi("users", "link", "undefined", code=2)
    muxi("users", "list", "--limit", "0", code=2)
    muxi("users", "link", code=2)


def test_one_person_or_two(anywhere: Commands, tmp_path: Path) -> None:
    muxi = anywhere
    alice = muxi.json("users", "link", "alice@email.com", "slack=U98765ABC")["muxi_user_id"]
    bob = muxi.json("users", "link", "bob@email.com")["muxi_user_id"]
    assert muxi.json("users", "merge", "alice@email.com", "bob@email.com", "--dry-run")["preview"]
    assert muxi.json("users", "resolve", "bob@email.com")["muxi_user_id"] == bob
    merged = muxi.json("users", "merge", "alice@email.com", "bob@email.com", "--reason", "ticket 17")
    assert muxi.json("users", "resolve", "bob@email.com")["muxi_user_id"] == alice
    assert "are one person" in muxi("users", "explain", "alice@email.com", "bob@email.com").stdout
    assert "ticket 17" in muxi("users", "history", alice).stdout
    muxi("users", "unmerge", merged["merge_id"])
    muxi("users", "unmerge", "mrg_unknown", code=3)
    assert muxi.json("users", "explain", "alice@email.com", "bob@email.com")["same"] is False
    assert muxi.json("users", "split", alice, "slack=U98765ABC")["muxi_user_id"] == alice
    assert muxi.json("users", "resolve", "slack=U98765ABC")["muxi_user_id"] != alice

    archive = tmp_path / "alice.json"
    muxi("users", "export", alice, "-o", str(archive))
    assert json.loads(archive.read_text())["format"] == "muxi-identity/person"
    assert archive.stat().st_mode & 0o777 == 0o600
    assert "not there yet" in muxi("users", "export", alice, "-o", str(archive), code=2).stderr
    printed, written = json.loads(muxi("users", "export", alice).stdout), json.loads(archive.read_text())
    assert {**printed, "exported_at": None} == {**written, "exported_at": None}

    assert muxi.json("users", "erase", alice, "--dry-run")["dry_run"] is True
    muxi("users", "erase", alice, input="n\n", code=1)
    assert muxi.json("users", "resolve", "alice@email.com")["muxi_user_id"] == alice
    muxi("users", "erase", alice, input="y\n")
    muxi("users", "resolve", "alice@email.com", code=3)


def test_a_secret_from_standard_input_is_shown_by_its_hint(anywhere: Commands) -> None:
    muxi = anywhere
    key = "key_0123456789abcdef0123456789abcdef"
    result = muxi("users", "link", "alice@email.com", "-", input=f'["{key}", "api_key"]\n')
    assert key not in result.stdout
    assert "key_" in result.stdout


def test_chat(anywhere: Commands) -> None:
    muxi = anywhere
    muxi("users", "link", "slack=U1", "internal=user_123")
    muxi("chat", "--as", "internal=user_123", "My budget is $5,000")
    assert muxi("chat", "--as", "slack=U1", "What's my budget?").stdout == "Your budget is $5,000.\n"
    assert set(muxi.json("chat", "--as", "slack=U1", "Hello")) == {"message", "user_id", "session_id", "request_id"}
    talk = "\n".join(
        [
            *("/who", "What's my budget?", "/as stranger@email.com", "What's my budget?", "/nonsense", "/help"),
            *("/as undefined", "Hello!", "/new s1", "/as slack=U1", "/new s2", "Hello!", "/quit", "never said"),
        ]
    )
    result = muxi("chat", "--as", "slack=U1", input=talk)
    assert "U1, user_123" in result.stdout
    assert result.stdout.count("Your budget is $5,000.") == 1
    assert "I don't have that information." in result.stdout
    assert "There is no /nonsense" in result.stdout
    assert "error:" in result.stderr
    with sqlite3.connect(muxi.file.with_name("test.db")) as connection:
        sessions = {row[0] for row in connection.execute("SELECT session_id FROM muxi_sessions")}
        said = {row[0] for row in connection.execute("SELECT content FROM muxi_messages")}
    assert "s2" in sessions
    assert "s1" not in sessions
    assert "never said" not in said


SPOOF = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e:warning: [red]"


def test_nothing_that_people_said_is_obeyed_by_the_terminal(anywhere: Commands) -> None:
    muxi = anywhere
    shown: list[Result] = [muxi("users", "link", "alice@email.com", "slack=U1", "--reason", SPOOF, code=2)]
    muxi("users", "link", "alice@email.com", "slack=U1", "--reason", "Said once")
    with sqlite3.connect(muxi.file.with_name("test.db")) as connection:  # refused now, and of old it may be there
        connection.execute("UPDATE muxi_history SET reason = ? WHERE reason = 'Said once'", (SPOOF,))
    connection.close()
    shown.append(muxi("users", "history", "slack=U1"))
    shown.append(muxi("users", "explain", "alice@email.com", "slack=U1"))
    shown.append(muxi("users", "history", "slack=U1", "--json"))
    shown.append(muxi("users", "export", "slack=U1"))
    shown.append(muxi("chat", "--as", "slack=U1", input=f"/nonsense{SPOOF}\n/as {SPOOF}\n/who"))
    for each in shown:
        for line in each.output.splitlines():
            assert line.isprintable(), line
    spelled = r"\x1b]0;title\x07\x1b[2J\x9b31m\u202e:warning: [red]"
    for each in (shown[1], shown[2], shown[5]):  # the last: what somebody typed, as the prompt
        assert spelled in each.output
    assert json.loads(shown[3].stdout)["events"][0]["reason"] == SPOOF


async def test_nothing_that_a_server_says_is_obeyed_by_the_terminal(muxi: Commands) -> None:
    page = {"users": [], "count": 0, "next_cursor": SPOOF}
    reply = {"message": {"role": "assistant", "content": f"One\n{SPOOF}"}, "user_id": "usr_a", "session_id": SPOOF,
             "request_id": "req_1"}  # fmt: skip
    found = {"identifier": "a", "muxi_user_id": "usr_a", "created": False}
    record = {"identifier": SPOOF, "type": None, "scope": None, "verified": False, "verified_at": None, "source": None,
              "expires_at": None, "metadata": None, "created_at": "t"}  # fmt: skip
    listed = {"muxi_user_id": "usr_a", "identifiers": [record], "count": 1}
    script = (
        bad(404, "USER_NOT_FOUND", message=SPOOF),
        good(page),
        good(reply),
        good(reply),
        good(found),
        good(listed),
    )
    async with scripted(*script) as place:
        run = Commands(muxi.file, place.url)
        key = ("--admin-key", ADMIN_KEY)
        for command in (
            lambda: run("users", "show", "a", *key, code=3).stderr,
            lambda: run("users", "list", *key).stderr,
            lambda: run("chat", "--as", "a", "Hello", *key).stdout,
            lambda: run("chat", "--as", "a", *key, input="Hello\n/who").stdout,
        ):
            told = await asyncio.to_thread(command)
            assert r"\x1b]0;title\x07\x1b[2J\x9b31m\u202e:warning: [red]" in told
            assert told.replace("\n", "").isprintable()
    assert len(place.requests) == 6


def test_errors_speak_of_options_and_commands(anywhere: Commands) -> None:
    muxi = anywhere
    alice = muxi.json("users", "link", "alice@email.com")["muxi_user_id"]
    bob = muxi.json("users", "link", "bob@email.com")["muxi_user_id"]
    assert "--on-conflict absorb" in muxi("users", "link", "alice@email.com", "bob@email.com", code=4).stderr
    assert "pass --force" in muxi("users", "unlink", "alice@email.com", code=4).stderr
    muxi("users", "merge", alice, bob)
    assert "pass --include-merged" in muxi("users", "erase", alice, "--yes", code=4).stderr
    assert "muxi users resolve --create" in muxi("users", "show", "carol@email.com", code=3).stderr
    assert "muxi users create usr_nobody" in muxi("users", "show", "usr_nobody", code=3).stderr
    assert "muxi users history" in muxi("users", "unmerge", "mrg_unknown", code=3).stderr


# Completion


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("muxi us", ["users"]),
        ("muxi users hist", ["history"]),
        ("muxi users link --on-conflict ", ["raise", "absorb", "merge"]),
        ("muxi serve --work", ["--workers"]),
        ("muxi keys new ", ["client", "admin"]),
    ],
)
def test_completion(typed: str, offered: list[str]) -> None:
    words = {"_MUXI_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = CliRunner().invoke(app, [], prog_name="muxi", env=words)
    assert done.stdout.split() == offered


def test_a_shell_takes_what_is_shown_for_completion() -> None:
    done = subprocess.run(
        ["bash", "--norc", "-c", 'eval "$(muxi --show-completion)"; complete -p muxi; type -t _muxi_completion'],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )
    assert (done.stdout.splitlines()[1:], done.stderr) == (["function"], "")
    assert done.stdout.splitlines()[0].endswith("-F _muxi_completion muxi")


# Where the formation is


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_server_is_named_by_options_or_by_the_environment(muxi: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str, code: int = 0) -> Result:
        return muxi(*arguments, config=False, code=code)

    with served(FormationConfig.load(muxi.file)) as place:
        admin, client = ("--admin-key", ADMIN_KEY), ("--client-key", CLIENT_KEY)
        several = ("--server-url", place.url, "--formation", "test")
        assert "usr_alice" in run("users", "create", "usr_alice", *several, *admin).stdout
        token = muxi.json("token", "internal=a")["token"]
        monkeypatch.setenv("MUXI_URL", place.url)
        assert "usr_alice" in run("users", "list", *admin).stdout
        assert "MUXI_ADMIN_KEY" in run("users", "list", code=6).stderr
        assert "MUXI_CLIENT_KEY" in run("chat", "--as", "a", "Hello", code=6).stderr
        monkeypatch.setenv("MUXI_CLIENT_KEY", CLIENT_KEY)
        assert run("chat", "--as", "internal=a", "Hello").stdout
        # A client key opens a conversation, and does not tell who else somebody is.
        talk = muxi("chat", "--as", "internal=a", input="/who\nHello", config=False)
        assert re.search(r"usr_\w+: the admin key tells", talk.stdout)
        assert talk.stderr == ""
        run("chat", "--as", "internal=a", "Hello", "--user-token", token)
        run("chat", "--as", "internal=b", "Hello", "--user-token", token, code=8)
        assert "admin key" in run("users", "list", code=8).stderr
        run("users", "list", "--admin-key", "muxi_admin_wrong", code=8)

        # What is open here is worked on here.
        assert "usr_alice" in muxi("users", "list").stdout
        assert "--config" in muxi("users", "list", "--url", place.url, code=6).stderr
        assert "MUXI_URL" in run("db", "check", code=6).stderr
        assert "MUXI_URL" in run("token", "a", code=6).stderr

        # Who named another server did not say that it may have this one's keys.
        monkeypatch.setenv("MUXI_ADMIN_KEY", ADMIN_KEY)
        assert "MUXI_ADMIN_KEY" in run("users", "list", "--url", "http://127.0.0.1:1", code=6).stderr
        assert "usr_alice" in run("users", "list", "--url", place.url).stdout

    told = run("users", "list", *client, code=5)
    assert "cannot be reached" in told.stderr
    assert CLIENT_KEY not in told.output
    monkeypatch.delenv("MUXI_URL")
    assert "--url" in run("users", "list", *client, code=6).stderr


def test_a_key_is_asked_for(
    muxi: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(
        typer, "prompt", lambda text, **how: {"Admin key": ADMIN_KEY}[text] if how["hide_input"] else ""
    )
    with served(FormationConfig.load(muxi.file)) as place:
        app(["users", "resolve", "a", "--create", "--json", "--url", place.url], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["created"] is True


# What works on the database itself


def test_database(muxi: Commands) -> None:
    assert muxi.json("db", "upgrade") == {"revision": newest(), "newest": newest()}
    muxi("chat", "--as", "a", "My budget is $5")
    assert muxi.json("db", "check")["ok"] is True
    assert "Every rule holds" in muxi("db", "check").stdout
    with sqlite3.connect(muxi.file.with_name("test.db")) as connection:
        connection.execute("UPDATE muxi_messages SET identifier_pk = NULL")
    broken = muxi.json("db", "check", code=1)
    (finding,) = broken["findings"]
    assert (finding["formation_id"], finding["rule"], finding["rows"]) == ("test", "message-owner", 2)
    assert finding["meaning"]
    assert finding["mend"]
    told = muxi("db", "check", code=1).stdout
    assert "message-owner" in told
    assert "To mend it: " in told
    (statement,) = finding["statements"]
    assert told.splitlines().index(".bail on") < told.splitlines().index(f"    {statement};")
    assert f"{statement};" in told
    assert ", ".join(finding["keys"]) in told
    with sqlite3.connect(muxi.file.with_name("test.db")) as connection:
        connection.execute(statement)
        connection.execute("DROP TRIGGER tr_memories_changed")
        connection.execute("UPDATE muxi_schema_version SET version_num = '0999'")
    (missing, newer) = muxi.json("db", "check", code=1)["findings"]
    assert (missing["rule"], missing["about"]) == ("schema-parts", "tr_memories_changed")
    assert (newer["rule"], newer["level"]) == ("schema-newer", "notice")


def test_keys_and_tokens(muxi: Commands) -> None:
    made = muxi.json("keys", "new", "admin", config=False)
    assert made["key"].startswith("muxi_admin_")
    assert made["hash"] == f"sha256:{hash_key(made['key']).hex()}"
    hashed = muxi("keys", "hash", input=made["key"] + "\n", config=False).stdout.strip()
    assert hashed == made["hash"]
    muxi("keys", "hash", input="\n", config=False, code=2)
    muxi("keys", "new", "token", config=False, code=2)
    muxi.file.write_text(muxi.file.read_text() + f'server: {{api_keys: {{admin_key: "{hashed}"}}}}\n')
    assert muxi.json("token", "internal=user_123")["type"] == "internal"
    assert muxi("token", "internal=user_123").stdout.startswith("eyJ")
    muxi("token", "api_key=key_0123456789abcdef0123456789abcdef", code=2)
    muxi("token", "a", "--expires-in", "1", code=2)


def test_what_is_wrong_is_told_in_a_line(muxi: Commands, tmp_path: Path) -> None:
    muxi.file.write_text("id: test\nmemry: {}\n")
    for command in (("users", "list"), ("chat", "--as", "a", "x"), ("db", "check"), ("token", "a"), ("keys", "forget")):
        told = muxi(*command, code=6)
        assert "did you mean" in told.stderr
        assert "Traceback" not in told.output
    muxi("users", "list", "--config", str(tmp_path / "missing.yaml"), config=False, code=2)
    assert muxi("--version", config=False).stdout.strip() == "0.1.0"
    help_ = muxi("--help", config=False).stdout
    for command in ("serve", "demo", "users", "db", "keys", "token", "chat", "--install-completion"):
        assert command in help_


def test_identifiers_as_they_are_typed() -> None:
    assert parse_argument("alice@email.com") == "alice@email.com"
    assert parse_argument("slack=U1") == ("U1", "slack")
    assert parse_argument("slack=a=b") == ("a=b", "slack")
    assert parse_argument("+44 20") == "+44 20"
    assert parse_argument("Key=1") == "Key=1"  # a type begins with a small letter
    assert parse_argument('["a=b", null]') == ["a=b", None]
    with pytest.raises(InvalidRequestError):
        parse_argument("{a")
