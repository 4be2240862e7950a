"""The documentation is true: its code runs, its tables are complete, and every public call has an example that runs."""

from __future__ import annotations

import ast
import doctest
import inspect
import logging
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import flask
import pytest
import yaml
from tests.contract.parties import served
from tests.server.places import ADMIN_KEY, CLIENT_KEY

import muxi_identity
from muxi_identity import Channel, FormationClient, FormationConfig, MuxiError, UserNotFoundError
from muxi_identity.settings import Section

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SHELL_PROGRAMS = {"curl", "make", "muxi", "pip", "python", "createdb", "pg_dump", "pg_restore", "psql"}


class Block(NamedTuple):
    """A fenced block: its document, its number in that document and language, and what it holds."""

    document: str
    number: int
    code: str

    @property
    def name(self) -> str:
        return f"{self.document}-{self.number}"


def blocks(language: str) -> list[Block]:
    found = []
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        texts = re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        found += [Block(path.name, number, code) for number, code in enumerate(texts, 1)]
    return found


PYTHON = blocks("python")
TEST_BLOCKS = [block for block in PYTHON if re.search(r"^def test_", block.code, re.MULTILINE)]
REMOTE_BLOCKS = [block for block in PYTHON if "MUXI_URL" in block.code]
PLAIN_BLOCKS = [block for block in PYTHON if block not in TEST_BLOCKS and block not in REMOTE_BLOCKS]


def only(part: str) -> Block:
    """The one block that holds ``part``."""
    (block,) = (block for block in PYTHON if part in block.code)
    return block


def said_of_prints(code: str) -> list[str]:
    """What the comments behind ``print(...)`` say that it prints."""
    lines = code.splitlines()
    calls = [
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    calls.sort(key=lambda call: call.lineno)
    return [lines[call.end_lineno - 1][call.end_col_offset :].lstrip(" )").removeprefix("# ") for call in calls]  # type: ignore[operator]


def run(block: Block, **supplied: Any) -> dict[str, Any]:
    names = {"__name__": "__main__", **supplied}
    exec(compile(block.code, block.name, "exec"), names)  # noqa: S102 (the documents are ours)
    return names


@pytest.fixture
def formation() -> Iterator[FormationClient]:
    with FormationClient.ephemeral() as formation:
        yield formation


@pytest.fixture
def app() -> flask.Flask:
    app = flask.Flask("readme")
    app.secret_key = "sessions of this test"
    return app


class Handlers(dict[str, Callable[..., Any]]):
    """What a bot or a webhook library keeps of the functions that it is given."""

    def on(self, event: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def keep(handler: Callable[..., Any]) -> Callable[..., Any]:
            self[event] = handler
            return handler

        return keep

    def on_message(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        return self.on("message")(handler)


# Code


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    fences = sum(
        path.read_text(encoding="utf-8").count("\n```") for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    )
    # What is for nginx is held against the server in test_nginx.py.
    kinds = [block for kind in ("python", "yaml", "console", "text", "nginx") for block in blocks(kind)]
    assert fences == 2 * len([block for block in kinds if block.document != "CONTRIBUTING.md"])


@pytest.mark.parametrize("block", PLAIN_BLOCKS, ids=lambda block: block.name)
def test_the_code_runs_and_prints_what_it_says(
    block: Block,
    formation: FormationClient,
    app: flask.Flask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUXI_HOME", raising=False)
    (tmp_path / "formation.yaml").write_text("id: my-assistant\n", encoding="utf-8")
    formation.chat("Hello!", user_id="alice@email.com")

    run(
        block,
        formation=formation,
        app=app,
        slack_bot=Handlers(),
        slack_workspace=SimpleNamespace(team_id="T012AB3CD", users=[]),
        webhook=Handlers(),
        generate_api_key=lambda: "key_" + "0123456789abcdef" * 2,
    )

    printed = capsys.readouterr().out.splitlines()
    assert printed == said_of_prints(block.code)


@pytest.mark.parametrize("block", REMOTE_BLOCKS, ids=lambda block: block.name)
def test_the_code_of_the_remote_client_prints_what_it_says(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = FormationConfig.from_mapping({"id": "my-assistant"}, base=tmp_path)
    with served(config) as place:
        for name, value in {"URL": place.url, "CLIENT_KEY": CLIENT_KEY, "ADMIN_KEY": ADMIN_KEY}.items():
            monkeypatch.setenv(f"MUXI_{name}", value)
        run(block)

    assert capsys.readouterr().out.splitlines() == said_of_prints(block.code)


def test_the_quick_start_makes_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUXI_HOME", raising=False)
    caplog.set_level(logging.INFO, logger="muxi_identity")

    run(only("FormationClient()  #"))

    assert (tmp_path / ".muxi" / "muxi.db").is_file()
    assert f"formation default is open in {tmp_path / '.muxi' / 'muxi.db'}" in caplog.text
    assert (tmp_path / ".muxi" / ".gitignore").read_text() == "*\n"
    assert (tmp_path / ".muxi" / "muxi.key").stat().st_mode & 0o777 == 0o600


def test_the_pattern_of_web_and_slack(formation: FormationClient) -> None:
    slack_bot = Handlers()
    alice = SimpleNamespace(email="alice@email.com", id="U98765ABC")
    told = formation.chat("My budget is $5,000", user_id="alice@email.com")
    slack = formation.channel("slack", scope="T012AB3CD")
    slack.chat("My favourite colour is green", user_id=alice.id)  # before anybody linked them

    run(
        only("def handle_slack"),
        formation=formation,
        slack_bot=slack_bot,
        slack_workspace=SimpleNamespace(team_id="T012AB3CD", users=[alice]),
    )

    event = SimpleNamespace(text="What's my budget?", user_id=alice.id, thread_ts="1700000000.000100")
    reply = slack_bot["message"](event)
    assert "$5,000" in reply.text
    assert reply.user_id == told.user_id
    assert reply.session_id == event.thread_ts
    assert "green" in formation.chat("What's my favourite colour?", user_id="alice@email.com").text


def test_the_pattern_of_oauth(formation: FormationClient, app: flask.Flask) -> None:
    webhook = Handlers()
    told = formation.chat("My budget is $5,000", user_id="alice@email.com")
    run(
        only("def github_callback"),
        formation=formation,
        app=app,
        github_oauth=SimpleNamespace(fetch_account=lambda code: SimpleNamespace(id=583231)),
        redirect=flask.redirect,
        request=flask.request,
        session=flask.session,
        webhook=webhook,
    )

    browser = app.test_client()
    with browser.session_transaction() as session:
        session["email"] = "alice@email.com"
    assert browser.get("/oauth/github/callback?code=1").status_code == 302

    assert formation.chat("What's my budget?", user_id=(583231, "github")).user_id == told.user_id
    assert webhook["github.issue.created"](SimpleNamespace(title="Crash", user_id=583231)).user_id == told.user_id
    proved = {
        each["identifier"]: each["verified"] for each in formation.get_user_identifiers(told.user_id, detailed=True)
    }
    assert proved == {"alice@email.com": False, "583231": True}


def test_the_pattern_of_api_keys(formation: FormationClient, app: flask.Flask) -> None:
    told = formation.chat("My budget is $5,000", user_id="alice@email.com")
    names = run(
        only("def api_chat"),
        formation=formation,
        app=app,
        generate_api_key=lambda: "key_" + "0123456789abcdef" * 2,
        request=flask.request,
        InvalidIdentifierError=muxi_identity.InvalidIdentifierError,
        UserNotFoundError=UserNotFoundError,
    )
    client = app.test_client()

    def ask(key: str) -> Any:
        return client.post("/api/chat", headers={"Authorization": key}, json={"message": "What's my budget?"})

    answer = ask(names["api_key"])
    assert answer.status_code == 200
    assert answer.json["user_id"] == told.user_id
    assert "$5,000" in answer.json["message"]["content"]
    # No other identifier of hers does for a key.
    for other in ("alice@email.com", told.user_id, "key_" + "f" * 32, "key_...cdef", "undefined"):
        assert ask(other).status_code == 401, other
    names["revoke"](names["api_key"])
    assert ask(names["api_key"]).status_code == 401


@pytest.mark.parametrize("block", TEST_BLOCKS, ids=lambda block: block.name)
def test_the_tests_shown_pass_with_the_installed_plugin(block: Block, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "test_shown.py").write_text(block.code, encoding="utf-8")

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-W",
            "error",
            "-p",
            "no:asyncio",
            "-p",
            "no:cacheprovider",
            "test_shown.py",
        ],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{block.code.count('def test_')} passed" in done.stdout


# Configuration


def configuration_keys(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every key that a formation's configuration takes, as the code asks for them."""
    asked: dict[str, tuple[str, ...]] = {}
    begin = Section.__init__

    def spy(self: Section, file: str, path: str, values: Any, sources: Any, known: tuple[str, ...]) -> None:
        asked[path] = known
        begin(self, file, path, values, sources, known)

    monkeypatch.setattr(Section, "__init__", spy)
    FormationConfig.from_mapping({"identity": {"types": {"any_type": {}}}})
    paths = {f"{path}.{key}" if path else key for path, known in asked.items() for key in known}
    return {key.replace("any_type", "<type>") for key in paths - set(asked)}


def test_every_key_stands_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = set(re.findall(r"^\| `((?:id|memory|identity|llm|webhooks|server)[\w.<>]*)` \|", README, re.MULTILINE))
    assert rows == configuration_keys(monkeypatch)


def test_the_defaults_in_the_table_are_the_codes() -> None:
    config = FormationConfig.from_mapping({})
    rules = config.identity.rules
    rows = dict(re.findall(r"^\| `([\w.<>]+)` \| `?(\w+)`? \|", README, re.MULTILINE))
    assert {key: rows[key] for key in rows if key.startswith(("id", "memory", "llm"))} == {
        "id": config.id,
        "memory.persistent.provider": config.database.provider,
        "memory.persistent.connections.pool_size": str(config.database.limits.pool_size),
        "memory.persistent.connections.max_waiting": str(config.database.limits.max_waiting),
        "memory.persistent.connections.wait_timeout": f"{config.database.limits.wait_timeout:.0f}",
        "memory.persistent.connections.connect_timeout": f"{config.database.limits.connect_timeout:.0f}",
        "memory.persistent.connections.statement_timeout": f"{config.database.limits.statement_timeout:.0f}",
        "memory.working.ttl": f"{config.working.ttl:.0f}",
        "memory.working.max_items": str(config.working.max_items),
        "memory.session.max_messages": str(config.session.max_messages),
        "memory.session.idle_timeout": f"{config.session.idle_timeout:.0f}",
        "identity.cache.ttl": f"{config.identity.cache.ttl:.0f}",
        "identity.cache.max_entries": str(config.identity.cache.max_entries),
        "identity.cache.lease": f"{config.identity.cache.lease:g}",
        "identity.match": config.identity.match,
        "identity.max_identifiers_per_user": str(rules.max_per_user),
        "identity.types.<type>.secret": "false",
        "identity.refuse.add": "none",
        "identity.refuse.allow": "none",
        "llm.model": config.model.name,
        "llm.api_key": "none",
        "llm.base_url": "none",
        "llm.instructions": "none",
        "llm.timeout": f"{config.model.timeout:.0f}",
        "llm.context_tokens": str(config.model.context_tokens),
        "llm.reply_tokens": str(config.model.reply_tokens),
    }


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.name)
def test_the_yaml_loads(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"secrets\.(\w+)", block.code):
        webhook = "whsec_" + "c2VjcmV0" * 4
        address = f"postgresql://muxi:{name}@db.example.com:5432/muxi"  # any two secrets differ
        monkeypatch.setenv(name, webhook if "WEBHOOK" in name else address)
    (tmp_path / "formation.yaml").write_text(block.code, encoding="utf-8")

    assert FormationConfig.load(tmp_path / "formation.yaml").id == "my-assistant"


def test_the_yaml_shows_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaves(mapping: dict[str, Any], path: str = "") -> Iterator[str]:
        for key, value in mapping.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{path}{'<type>' if path == 'identity.types.' else key}.")
            else:
                yield f"{path}{key}"

    (block,) = (block for block in blocks("yaml") if block.document == "README.md")
    assert set(leaves(yaml.safe_load(block.code))) == configuration_keys(monkeypatch)


def test_every_environment_variable_is_named() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    names = {name for text in sources for name in re.findall(r"\bMUXI_[A-Z_]+\b", text)}
    assert names
    assert {name for name in names if f"`{name}`" not in README} == set()


# Errors, calls and the rest


def test_every_error_stands_in_the_table() -> None:
    errors = [getattr(muxi_identity, name) for name in muxi_identity.__all__ if name.endswith("Error")]
    rows = re.findall(r"^\| `(\w+Error)` \| `([A-Z_]+)` \| (.*)$", README, re.MULTILINE)

    assert {(name, code) for name, code, _ in rows} == {(error.__name__, error.code) for error in errors}
    assert {name for name, _, text in rows if "retryable" in text} == {
        error.__name__ for error in errors if issubclass(error, MuxiError) and error.retryable
    }


def test_every_call_stands_in_the_table() -> None:
    table = README[README.index("## Calls") : README.index("## Configuration")]
    assert {name for name in public(FormationClient) if f"`{name}(" not in table} == {
        "cache_info",
        "close",
        "formation_id",
    }


def test_the_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    extras = set(PYPROJECT["project"]["optional-dependencies"])
    commands = [
        line.removeprefix("$ ").split("  #")[0] for block in blocks("console") for line in block.code.split("\n")
    ]
    assert {command.split()[0] for command in commands if command} <= SHELL_PROGRAMS
    for command in commands:
        if command.startswith("make "):
            assert command.split()[1] in targets
        for asked in re.findall(r"pip install '\.\[([\w,]+)\]'", command):
            assert set(asked.split(",")) <= extras
    assert "make demo" in "\n".join(commands)
    assert "make test" in "\n".join(commands)


def test_every_dependency_has_its_reason() -> None:
    decisions = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    groups = [
        PYPROJECT["build-system"]["requires"],
        PYPROJECT["project"]["dependencies"],
        *PYPROJECT["project"]["optional-dependencies"].values(),
        *PYPROJECT["dependency-groups"].values(),
    ]
    names = {re.split(r"[\[<>=; ]", wanted)[0] for group in groups for wanted in group}
    assert {name for name in names if f"`{name}`" not in decisions} == set()


DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]


def headings_of(path: Path) -> set[str]:
    """The names that a document's headings can be linked by."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_somewhere(path: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / path).read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        there = (ROOT / path).parent / file if file else ROOT / path
        assert there.exists(), target
        assert not heading or heading in headings_of(there), target


# Docstrings


def public(kind: type) -> list[str]:
    return sorted(name for name in dir(kind) if not name.startswith("_"))


def documented(kind: type, name: str) -> str:
    member = inspect.getattr_static(kind, name)
    return inspect.getdoc(member.fget if isinstance(member, property) else getattr(kind, name)) or ""


EXAMPLES = [(kind, name) for kind in (FormationClient, Channel) for name in public(kind)]


@pytest.mark.parametrize(("kind", "name"), EXAMPLES, ids=lambda each: getattr(each, "__name__", each))
def test_every_call_has_an_example_that_runs(kind: type, name: str, formation: FormationClient) -> None:
    globs = {"formation": formation, "FormationClient": FormationClient}
    example = doctest.DocTestParser().get_doctest(documented(kind, name), globs, f"{kind.__name__}.{name}", None, None)
    assert example.examples, "no example"

    report: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(example, out=report.append)

    assert not failed, "".join(report)


def test_the_plugins_own_example_runs(tmp_path: Path) -> None:
    import muxi_identity.testing as plugin

    shown = inspect.cleandoc((plugin.__doc__ or "").partition("::\n")[2])
    test_the_tests_shown_pass_with_the_installed_plugin(Block("testing.py", 1, shown), tmp_path)
