"""The document that this product implements: every snippet runs as it is printed, on both databases.

The snippets take things for granted (a bot, a web application, users that exist). The tests supply these and nothing
else: what runs is the document's text.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask
import pytest

from muxi_identity import (
    ChatReply,
    FormationClient,
    FormationConfig,
    IdentifierConflictError,
    UserNotFoundError,
)


def python_runs(text: str) -> list[str]:
    """Return the runs of lines of ``text`` that are Python, as they stand there: the document has no fences."""
    lines = text.splitlines(keepends=True)
    runs: list[str] = []
    start = 0
    while start < len(lines):
        end = next((end for end in range(len(lines), start, -1) if is_code(lines[start:end])), None)
        if end is not None:
            runs.append("".join(lines[start:end]))
        start = end or start + 1
    return runs


def is_code(lines: list[str]) -> bool:
    """Tell whether these lines are Python that calls or imports something; a blank one at an end is not theirs."""
    if not lines[0].strip() or not lines[-1].strip():
        return False
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:
        return False
    if tree.body and isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Name):
        return False  # a heading of one word is an expression too
    return any(isinstance(node, ast.Call | ast.ImportFrom) for node in ast.walk(tree))


DOCUMENT = (Path(__file__).parent / "multi-identity.md").read_text(encoding="utf-8")
SNIPPETS = python_runs(DOCUMENT)
YAML = re.search(r"^memory:\n(?:[ ].*\n)+", DOCUMENT, re.MULTILINE)
BUDGET = "What's my budget?"
UNKNOWN = "I don't have that information"


def snippet(heading: str) -> str:
    """The first code after a heading."""
    after = DOCUMENT.index(f"\n{heading}\n")
    return min((code for code in SNIPPETS if code in DOCUMENT[after:]), key=lambda code: DOCUMENT.index(code, after))


LINK, IDENTIFIERS, ADD, WEB_AND_SLACK, OAUTH, API_KEY, TYPES, CONFLICT = (
    snippet(heading)
    for heading in (
        "Link Multiple Identifiers",
        "Check User Identifiers",
        "Add Identifier to Existing User",
        "Pattern 1: Web + Slack Integration",
        "Pattern 2: OAuth Connections",
        "Pattern 3: API Key to User Mapping",
        "Identifier Types",
        "Identifier Already Linked",
    )
)


def run(code: str, **supplied: Any) -> dict[str, Any]:
    """Run a snippet and return its names."""
    names = dict(supplied)
    exec(compile(code, "multi-identity.md", "exec"), names)  # noqa: S102 (the document is ours)
    return names


class Replies(list[ChatReply]):
    """Every reply of a formation: the snippets' handlers keep theirs to themselves."""

    def __init__(self, formation: FormationClient, monkeypatch: pytest.MonkeyPatch) -> None:
        chat = formation.chat

        def spy(*args: Any, **options: Any) -> ChatReply:
            self.append(chat(*args, **options))
            return self[-1]

        monkeypatch.setattr(formation, "chat", spy)


class Handlers(dict[str, Callable[..., Any]]):
    """What a bot or a webhook library keeps of the functions that it is given."""

    def on(self, event: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def keep(handler: Callable[..., Any]) -> Callable[..., Any]:
            self[event] = handler
            return handler

        return keep

    def on_message(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        return self.on("message")(handler)


class WebApplication(flask.Flask):
    """A Flask application whose views, like those of the document, may return nothing."""

    def make_response(self, rv: Any) -> flask.Response:
        return super().make_response(("", 204) if rv is None else rv)


@pytest.fixture
def app() -> WebApplication:
    app = WebApplication("document")
    app.secret_key = "sessions of this test"

    @app.url_value_preprocessor
    def with_github_user(_endpoint: str | None, values: dict[str, Any] | None) -> None:
        # The callback takes the account's id, which its address has no place for: the OAuth library's part.
        if values is not None and "github_user_id" in flask.request.args:
            values["github_user_id"] = flask.request.args["github_user_id"]

    return app


@pytest.fixture
def formation(database_config: FormationConfig) -> Iterator[FormationClient]:
    with FormationClient(database_config) as formation:
        yield formation


def linked_alice(formation: FormationClient, user_id: str, *identifiers: Any) -> None:
    formation.create_user(user_id)
    formation.associate_user_identifiers(["alice@email.com", *identifiers], user_id=user_id)


# The text


def test_no_code_of_the_document_is_left_out() -> None:
    in_order = [LINK, IDENTIFIERS, ADD, WEB_AND_SLACK, OAUTH, API_KEY, TYPES, CONFLICT]
    assert in_order == SNIPPETS
    assert len(SNIPPETS) == 8
    assert all(DOCUMENT.count(code) == 1 for code in SNIPPETS)

    rest = DOCUMENT
    for code in SNIPPETS:
        rest = rest.replace(code, "")
    assert not re.search(r"formation\.|^\s*(import|from|def|@)\b|\w\($", rest, re.MULTILINE)


# How it works


def test_the_problem_and_its_solution(formation: FormationClient) -> None:
    web = formation.chat("My budget is $5,000", user_id="user_123")
    slack = formation.chat(BUDGET, user_id="U98765ABC")
    assert UNKNOWN in slack.text
    assert slack.user_id != web.user_id

    formation.associate_user_identifiers(
        ["alice@email.com", ("U98765ABC", "slack"), ("user_123", "internal")], on_conflict="absorb"
    )

    found = formation.chat(BUDGET, user_id="U98765ABC")
    assert "$5,000" in found.text
    assert {
        formation.chat("Hello!", user_id=each).user_id for each in ("alice@email.com", "U98765ABC", "user_123")
    } == {web.user_id}


def test_a_new_identifier_makes_a_new_user(formation: FormationClient) -> None:
    with pytest.raises(UserNotFoundError):
        formation.get_user("new@email.com")

    reply = formation.chat("Hello!", user_id="new@email.com")

    assert reply.user_id.startswith("usr_")
    assert formation.get_user_identifiers(reply.user_id) == ["new@email.com"]


def test_memory_is_shared_and_the_session_is_not(formation: FormationClient) -> None:
    linked_alice(formation, "usr_alice", ("U98765ABC", "slack"))

    told = formation.chat("My budget is $5,000", user_id="alice@email.com")
    asked = formation.chat(BUDGET, user_id="U98765ABC")

    assert "$5,000" in asked.text
    assert asked.session_id != told.session_id
    messages = formation.get_session_messages(asked.session_id, "U98765ABC")["messages"]
    assert [message["content"] for message in messages] == [BUDGET, asked.text]


# Managing identities


def link_and_check(capsys: pytest.CaptureFixture[str]) -> FormationConfig:
    names = run(LINK)
    formation: FormationClient = names["formation"]
    try:
        user_id = names["result"]["muxi_user_id"]
        assert re.fullmatch(r"MUXI User ID: usr_\w+\n", capsys.readouterr().out)
        assert names["result"]["created"]
        assert formation.get_user_identifiers(user_id) == ["alice@email.com", "U98765ABC", "user_123"]
        assert {
            formation.resolve_user(each)["muxi_user_id"] for each in ("alice@email.com", "U98765ABC", "user_123")
        } == {user_id}
        return formation._async._lifecycle.config
    finally:
        formation.close()


def test_link_multiple_identifiers_opens_the_default_formation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUXI_HOME", str(tmp_path))

    config = link_and_check(capsys)

    assert config.id == "default"
    assert config.database.path == tmp_path / "muxi.db"
    assert (tmp_path / "muxi.db").stat().st_size > 0


def test_link_multiple_identifiers(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FormationConfig, "default", staticmethod(lambda: database_config))

    link_and_check(capsys)


def test_check_user_identifiers(formation: FormationClient) -> None:
    linked_alice(formation, "usr_abc123", {"identifier": "U98765ABC", "type": "slack"}, ("user_123", "internal"))

    names = run(IDENTIFIERS, formation=formation)

    assert names["identifiers"] == ["alice@email.com", "U98765ABC", "user_123"]
    assert str(names["identifiers"]).replace("'", '"') in IDENTIFIERS


def test_add_identifier_to_existing_user(formation: FormationClient) -> None:
    linked_alice(formation, "usr_abc123")

    run(ADD, formation=formation)

    assert formation.get_user_identifiers("usr_abc123") == ["alice@email.com", "U98765ABC"]
    assert formation.resolve_user(("U98765ABC", "slack"))["muxi_user_id"] == "usr_abc123"


# Common patterns


def test_pattern_1_web_and_slack(formation: FormationClient, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = Replies(formation, monkeypatch)
    slack_bot = Handlers()
    alice = SimpleNamespace(email="alice@acme.com", id="U0ALICE")
    bob = SimpleNamespace(email="bob@acme.com", id="U00BOB")
    formation.chat("My budget is $5,000", user_id="alice@acme.com")

    run(
        WEB_AND_SLACK,
        formation=formation,
        slack_workspace=SimpleNamespace(users=[alice, bob]),
        slack_bot=slack_bot,
    )
    slack_bot["message"](SimpleNamespace(text=BUDGET, user_id=alice.id))
    slack_bot["message"](SimpleNamespace(text=BUDGET, user_id=bob.id))

    told, hello, alices, bobs = replies
    assert "$5,000" in alices.text
    assert alices.user_id == hello.user_id == told.user_id
    assert formation.get_user_identifiers(told.user_id) == ["alice@acme.com", "U0ALICE"]
    assert UNKNOWN in bobs.text
    assert bobs.user_id != alices.user_id
    assert formation.get_user_identifiers(bobs.user_id) == ["bob@acme.com", "U00BOB"]

    slack_bot["message"](SimpleNamespace(text="My favourite colour is green", user_id=alice.id))
    assert "green" in formation.chat("What's my favourite colour?", user_id="alice@acme.com").text


def test_pattern_2_oauth(formation: FormationClient, app: WebApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = Replies(formation, monkeypatch)
    webhook = Handlers()
    run(OAUTH, formation=formation, app=app, session=flask.session, webhook=webhook)
    formation.chat("My budget is $5,000", user_id="alice@email.com")

    browser = app.test_client()
    with browser.session_transaction() as session:
        session["email"] = "alice@email.com"
    answer = browser.get("/oauth/github/callback?github_user_id=583231")
    assert answer.status_code == 204

    # GitHub's webhooks send the id as a number.
    webhook["github.issue.created"](SimpleNamespace(title="Crash on start", user_id=583231))
    webhook["github.issue.created"](SimpleNamespace(title=BUDGET, user_id=583231))

    assert len({reply.user_id for reply in replies}) == 1
    assert formation.get_user_identifiers(replies[0].user_id) == ["alice@email.com", "583231"]
    assert "$5,000" in formation.chat(BUDGET, user_id=(583231, "github")).text
    sessions = {formation.chat("Hello!", user_id=each).session_id for each in ("alice@email.com", "583231")}
    assert len(sessions) == 2


def test_pattern_3_api_key(formation: FormationClient, app: WebApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = Replies(formation, monkeypatch)
    issued: list[str] = []

    def generate_api_key() -> str:
        issued.append(f"key_{secrets.token_hex(16)}")
        return issued[-1]

    formation.create_user("usr_alice")
    run(API_KEY, formation=formation, app=app, request=flask.request, generate_api_key=generate_api_key)
    formation.chat("My budget is $5,000", user_id="alice@email.com")

    client = app.test_client()
    answer = client.get("/api/chat", headers={"Authorization": issued[0]}, json={"message": BUDGET})

    assert answer.status_code == 204
    assert replies[-1].user_id == "usr_alice"
    assert "$5,000" in replies[-1].text
    shown = formation.get_user_identifiers("usr_alice")
    assert shown[0] == "alice@email.com"
    assert re.fullmatch(r"key_\.\.\.\w{4}", shown[1])

    app.testing = True  # errors come through
    formation.unlink_user_identifier((issued[0], "api_key"))
    with pytest.raises(UserNotFoundError):
        client.get("/api/chat", headers={"Authorization": issued[0]}, json={"message": BUDGET})


def test_identifier_types(formation: FormationClient) -> None:
    run(TYPES, formation=formation)

    records = formation.get_user_identifiers("alice@acme.com", detailed=True)
    assert [(record["identifier"], record["type"]) for record in records] == [
        ("alice@acme.com", "email"),
        ("U12345ABC", "slack"),
    ]


def test_every_type_of_the_table_is_one(formation: FormationClient) -> None:
    start, end = "Type Example Use Case\n", "formation.associate"
    table = DOCUMENT[DOCUMENT.index(start) + len(start) : DOCUMENT.index(end, DOCUMENT.index(start))]
    rows = [line.split()[:2] for line in table.splitlines()]
    assert len(rows) == 7

    linked = formation.associate_user_identifiers([(example, kind) for kind, example in rows])

    for kind, example in rows:
        assert formation.resolve_user((example, kind))["muxi_user_id"] == linked["muxi_user_id"]


# Database requirements


def test_the_yaml_snippet_opens_postgres(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert YAML is not None
    (tmp_path / "formation.yaml").write_text(YAML[0], encoding="utf-8")
    monkeypatch.setenv("POSTGRES_URL", postgres_url)
    monkeypatch.setenv("MUXI_SECRET_KEY", secrets.token_hex(32))

    with FormationClient(str(tmp_path / "formation.yaml")) as formation:
        told = formation.chat("My budget is $5,000", user_id="alice@acme.com")
        run(TYPES, formation=formation)
        found = formation.chat(BUDGET, user_id="U12345ABC")

    assert "$5,000" in found.text
    assert found.user_id == told.user_id
    assert [each.name for each in tmp_path.iterdir()] == ["formation.yaml"]  # nothing went to a file


# Conflict handling


def test_identifier_already_linked(formation: FormationClient) -> None:
    linked_alice(formation, "usr_alice")
    formation.create_user("usr_bob")

    with pytest.raises(IdentifierConflictError) as caught:
        run(CONFLICT, formation=formation)

    assert caught.value.conflicts == [
        {"identifier": "alice@email.com", "type": "email", "muxi_user_id": "usr_alice"},
    ]
    assert formation.get_user_identifiers("usr_bob") == []
    assert formation.get_user_identifiers("usr_alice") == ["alice@email.com"]


# Security


def test_the_same_email_in_two_formations_is_two_users(database_config: FormationConfig) -> None:
    other = dataclasses.replace(database_config, id=f"{database_config.id}-b")
    with FormationClient(database_config) as a, FormationClient(other) as b:
        in_a = a.chat("My budget is $5,000", user_id="alice@email.com")
        in_b = b.chat(BUDGET, user_id="alice@email.com")

        assert in_a.user_id != in_b.user_id
        assert UNKNOWN in in_b.text
        with pytest.raises(UserNotFoundError):
            b.get_user(in_a.user_id)
        with pytest.raises(UserNotFoundError):
            a.get_user(in_b.user_id)


def test_internal_ids_stay_inside(formation: FormationClient) -> None:
    linked = formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
    reply = formation.chat("Hello!", user_id="U98765ABC")
    shown = [
        linked,
        reply,
        formation.get_user("U98765ABC"),
        *formation.get_user_identifiers("U98765ABC", detailed=True),
    ]

    assert not any(re.search(r"(^|_)(pk|id)$", key) and isinstance(each[key], int) for each in shown for key in each)
    assert all(str(each.get("muxi_user_id", "usr_")).startswith("usr_") for each in shown)
