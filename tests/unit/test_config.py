from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from muxi_identity.config import (
    CacheConfig,
    DatabaseConfig,
    FormationConfig,
    ModelConfig,
    Secret,
    SessionConfig,
    WorkingConfig,
)
from muxi_identity.errors import ConfigurationError
from muxi_identity.identifiers import BUILT_IN_TYPES, IdentifierRules, TypeRule
from muxi_identity.postgres_config import hosts_of

# The snippet of the document's section "Database Requirements", as it stands there.
DOCUMENT = """\
memory:
  persistent:
    provider: postgres  # Required for multi-identity
    connection_string: ${{ secrets.POSTGRES_URL }}
"""
PASSWORD = "hunter2-very-private"
POSTGRES_URL = f"postgresql://muxi:{PASSWORD}@db.example:5432/muxi"
KEY = "k" * 32
NEWER = "n" * 32

Load = Callable[[str], FormationConfig]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MUXI_SECRET_KEY", "MUXI_CREDENTIAL_KEYS", "MUXI_SECRETS_DIR", "MUXI_HOME", "POSTGRES_URL"):
        monkeypatch.delenv(name, raising=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "formation").mkdir()
    return tmp_path / "formation"


@pytest.fixture
def load(folder: Path) -> Load:
    def write_and_load(text: str) -> FormationConfig:
        (folder / "formation.yaml").write_text(text, encoding="utf-8")
        return FormationConfig.load(folder / "formation.yaml")

    return write_and_load


def refusal(text: str, load: Load, folder: Path) -> tuple[str, ConfigurationError]:
    """The message after the file's name, and the error."""
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    error = caught.value
    start = f"{folder / 'formation.yaml'}: "
    assert error.message.startswith(start)
    assert "\n" not in error.message
    assert error.file == str(folder / "formation.yaml")
    return error.message.removeprefix(start), error


# What loads


def test_defaults_are_those_of_the_design(load: Load, folder: Path) -> None:
    config = load("{}")

    assert config == FormationConfig(
        id="default",
        database=DatabaseConfig("sqlite", path=folder / "muxi.db"),
        source=folder / "formation.yaml",
    )
    assert config.identity.cache == CacheConfig(ttl=3600.0, max_entries=1_000_000, lease=2.0)
    assert config.identity.match == "any"
    assert config.identity.rules == IdentifierRules(types=BUILT_IN_TYPES, max_per_user=100)
    assert config.session == SessionConfig(max_messages=50, idle_timeout=86400.0)
    assert config.working == WorkingConfig(ttl=86400.0, max_items=200)
    assert config.model == ModelConfig()
    assert config.model.name == "offline"
    assert config.secret_key is None
    assert config.credential_keys == ()


def test_the_documents_snippet_loads_as_it_is(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_URL", POSTGRES_URL)

    config = load(DOCUMENT)

    assert config.id == "default"
    assert config.database == DatabaseConfig("postgres", url=Secret(POSTGRES_URL))


def test_every_setting(load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUXI_SECRET_KEY", KEY)
    monkeypatch.setenv("MUXI_CREDENTIAL_KEYS", f" {NEWER} ,{KEY}")
    monkeypatch.setenv("MODEL_KEY", "model-key")

    config = load("""\
id: my-assistant.v2_x
memory:
  persistent: {provider: sqlite, connection_string: data/people.db}
  working: {ttl: 3600, max_items: 9}
  session: {max_messages: 7, idle_timeout: 1.5}
identity:
  cache: {ttl: 60, max_entries: 10, lease: 0.5}
  match: verified
  max_identifiers_per_user: 5
  types:
    crm: {max_per_user: 1}
    badge: {secret: true}
    api_key: {max_per_user: 3}
    email:
  refuse: {add: [test, "null"], allow: [guest]}
llm:
  model: openai:gpt-4o
  api_key: ${{ secrets.MODEL_KEY }}
  base_url: https://models.example/v1
  instructions: Be brief.
  timeout: 5
  context_tokens: 4000
  reply_tokens: 300
""")

    assert config.id == "my-assistant.v2_x"
    assert config.database == DatabaseConfig("sqlite", path=folder / "data" / "people.db")
    assert config.session == SessionConfig(max_messages=7, idle_timeout=1.5)
    assert config.identity.cache == CacheConfig(ttl=60.0, max_entries=10, lease=0.5)
    assert isinstance(config.identity.cache.ttl, float)
    assert config.identity.match == "verified"
    rules = config.identity.rules
    assert rules.max_per_user == 5
    assert dict(rules.types) == {
        **BUILT_IN_TYPES,
        "crm": TypeRule(max_per_user=1),
        "badge": TypeRule(secret=True),
        "api_key": TypeRule(secret=True, max_per_user=3),
    }
    assert rules.refuse >= {"test", "null"}
    assert rules.allow == {"guest"}
    assert config.working == WorkingConfig(ttl=3600.0, max_items=9)
    assert config.model == ModelConfig(
        name="openai:gpt-4o",
        api_key=Secret("model-key"),
        base_url="https://models.example/v1",
        instructions="Be brief.",
        timeout=5.0,
        context_tokens=4000,
        reply_tokens=300,
    )
    assert config.secret_key == Secret(KEY)
    assert config.credential_keys == (Secret(NEWER), Secret(KEY))


def test_sections_with_everything_commented_out_are_empty(load: Load) -> None:
    assert load("memory:\nidentity:\n  cache:\nllm:\n") == load("{}")


@pytest.mark.parametrize("match", ["any", "verified", "none"])
def test_match_takes_the_three_words_unquoted(match: str, load: Load) -> None:
    assert load(f"identity: {{match: {match}}}").identity.match == match


@pytest.mark.parametrize("formation_id", ["a", "0", "a" * 64, "a_b.c-d"])
def test_formation_ids(formation_id: str, load: Load) -> None:
    assert load(f"id: '{formation_id}'").id == formation_id


def test_merge_keys_of_yaml_work(load: Load) -> None:
    text = "identity: {types: {crm: &one {max_per_user: 1}, erp: {<<: *one, max_per_user: 2}}}"
    assert load(text).identity.rules.types["erp"] == TypeRule(max_per_user=2)


def test_a_relative_path_given_to_load_is_kept_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "formation.yaml").write_text("id: one")
    monkeypatch.chdir(folder)

    config = FormationConfig.load("formation.yaml")

    assert config.source == folder / "formation.yaml"
    assert config.database.path == folder / "muxi.db"


def test_loading_creates_nothing(load: Load, folder: Path) -> None:
    load("memory: {persistent: {connection_string: deep/down.db}}")
    FormationConfig.default()
    assert [path.name for path in folder.iterdir()] == ["formation.yaml"]
    assert list(Path.cwd().iterdir()) == []


# Where the database is


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("people.db", "people.db"),
        ("./a b/people.db", "a b/people.db"),
        ("sqlite:///people.db", "people.db"),
        ("sqlite:////srv/people.db", "/srv/people.db"),
        ("/srv/people.db", "/srv/people.db"),
        ("odd:name.db", "odd:name.db"),
    ],
)
def test_sqlite_paths_are_relative_to_the_file(given: str, path: str, load: Load, folder: Path) -> None:
    config = load(f"memory: {{persistent: {{connection_string: '{given}'}}}}")
    assert config.database == DatabaseConfig("sqlite", path=folder / path)


def test_a_tilde_is_the_home_folder(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load("memory: {persistent: {connection_string: ~/people.db}}")
    assert config.database.path == tmp_path / "people.db"


def test_without_a_file_the_database_lies_under_muxi_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUXI_HOME", str(tmp_path / "home"))
    assert FormationConfig.default().database == DatabaseConfig("sqlite", path=tmp_path / "home" / "muxi.db")


def test_without_anything_the_database_lies_in_a_folder_that_git_ignores() -> None:
    expected = DatabaseConfig("sqlite", path=Path.cwd() / ".muxi" / "muxi.db", ignore_in_git=True)
    assert FormationConfig.default().database == expected


def test_a_file_comes_before_muxi_home(load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUXI_HOME", "/srv/home")
    assert load("{}").database.path == folder / "muxi.db"


@pytest.mark.parametrize("provider", ["postgres", "postgresql"])
@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_both_spellings_of_postgres(provider: str, scheme: str) -> None:
    persistent = {"provider": provider, "connection_string": f" {scheme}://u:p%40@h/d?sslmode=require\n"}
    config = FormationConfig.from_mapping({"memory": {"persistent": persistent}})
    assert config.database == DatabaseConfig("postgres", url=Secret("postgresql://u:p%40@h/d?sslmode=require"))


def test_an_address_to_listen_at() -> None:
    persistent = {
        "provider": "postgres",
        "connection_string": "postgres://pooler/d",
        "listen_connection_string": "postgres://server/d",
    }
    config = FormationConfig.from_mapping({"memory": {"persistent": persistent}})
    assert config.database == DatabaseConfig(
        "postgres", url=Secret("postgresql://pooler/d"), listen_url=Secret("postgresql://server/d")
    )


# Secrets


@pytest.fixture
def sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[str], object]]:
    def in_file(value: str) -> None:
        (folder / "secrets").mkdir(exist_ok=True)
        (folder / "secrets" / "POSTGRES_URL").write_text(f"{value}\n")

    return {
        "environment": lambda value: monkeypatch.setenv("POSTGRES_URL", value),
        ".env": lambda value: (folder / ".env").write_text(f"POSTGRES_URL='{value}'\n"),
        "folder": in_file,
    }


@pytest.mark.parametrize(
    "given",
    [
        ["environment"],
        [".env"],
        ["folder"],
        ["environment", ".env", "folder"],
        ["environment", "folder"],
        [".env", "folder"],
    ],
)
def test_secrets_come_from_the_first_place_that_has_them(
    given: list[str], load: Load, sources: dict[str, Callable[[str], object]]
) -> None:
    for name in given:
        sources[name](f"postgres://{name.strip('.')}/db")

    config = load(DOCUMENT)

    assert config.database.url == Secret(f"postgresql://{given[0].strip('.')}/db")


def test_an_empty_variable_counts_as_unset(load: Load, sources: dict[str, Callable[[str], object]]) -> None:
    sources["environment"]("")
    sources[".env"]("")
    sources["folder"]("postgres://folder/db")
    assert load(DOCUMENT).database.url == Secret("postgresql://folder/db")


def test_a_named_secrets_folder_takes_the_place_of_the_usual_one(
    load: Load,
    sources: dict[str, Callable[[str], object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources["folder"]("postgres://usual/db")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "POSTGRES_URL").write_text("postgres://named/db\r\n")
    monkeypatch.setenv("MUXI_SECRETS_DIR", str(tmp_path / "run"))
    assert load(DOCUMENT).database.url == Secret("postgresql://named/db")


def test_without_a_file_the_working_directory_is_looked_in() -> None:
    Path(".env").write_text(f"MUXI_SECRET_KEY={KEY}\n")
    assert FormationConfig.default().secret_key == Secret(KEY)


def test_a_dotenv_file_leaves_the_environment_alone(load: Load, folder: Path) -> None:
    before = dict(os.environ)
    (folder / ".env").write_text("POSTGRES_URL=postgres://h/d\nOTHER=1\n")
    load(DOCUMENT)
    assert dict(os.environ) == before


def test_secrets_fill_in_parts_of_a_value_and_are_not_read_again(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_NAME", "db-1")
    monkeypatch.setenv("PASS-2", "${{ secrets.HOST_NAME }}$1\\1".replace(" ", ""))
    config = load("""\
memory:
  persistent:
    provider: postgres
    connection_string: "postgres://u:${{secrets.PASS-2}}@${{  secrets.HOST_NAME  }}/d"
""")
    assert config.database.url == Secret("postgresql://u:${{secrets.HOST_NAME}}$1\\1@db-1/d")


def test_dotenv_values_are_taken_as_they_stand(load: Load, folder: Path) -> None:
    (folder / ".env").write_text("POSTGRES_URL=postgres://u:${HOME}@h/d\n")
    assert load(DOCUMENT).database.url == Secret("postgresql://u:${HOME}@h/d")


def test_secrets_work_in_every_text(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ID": "mine", "MATCH": "none", "WORD": "secretword"}.items():
        monkeypatch.setenv(name, value)
    config = load("""\
id: ${{ secrets.ID }}
identity: {match: "${{ secrets.MATCH }}", refuse: {add: ["${{ secrets.WORD }}"]}}
""")
    assert (config.id, config.identity.match) == ("mine", "none")
    assert config.identity.rules.refuse == {"secretword"}


def test_a_missing_secret_names_the_file_the_key_and_the_mend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "formation.yaml").write_text(DOCUMENT)
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigurationError) as caught:
        FormationConfig.load("formation.yaml")
    assert caught.value.message == (
        "formation.yaml: memory.persistent.connection_string: secret POSTGRES_URL is not set; set it in the "
        "environment, in .env beside the file or as a file in the secrets directory"
    )
    assert caught.value.file == "formation.yaml"
    assert caught.value.key == "memory.persistent.connection_string"


def test_without_a_file_the_mend_names_the_working_directory() -> None:
    with pytest.raises(ConfigurationError, match=r"^<config>: id: secret X is not set; .* in the working dir"):
        FormationConfig.from_mapping({"id": "${{ secrets.X }}"})


@pytest.mark.parametrize("place", [".env", "secrets/POSTGRES_URL"])
def test_a_source_that_is_not_text_is_a_clear_error(place: str, load: Load, folder: Path) -> None:
    (folder / "secrets").mkdir()
    (folder / place).write_bytes(b"POSTGRES_URL=" + PASSWORD.encode() + b"\xff\n")
    with pytest.raises(ConfigurationError, match=re.escape(str(folder / place))) as caught:
        load(DOCUMENT)
    assert caught.value.__context__ is None
    assert PASSWORD not in everything_shown(caught.value)


# What is refused

UNKNOWN = [
    ("memory: {persistant: {}}", "memory.persistant", 'unknown key; did you mean "persistent"?'),
    ("identity: {cache: {tll: 1}}", "identity.cache.tll", 'unknown key; did you mean "ttl"?'),
    ("indentity: {}", "indentity", 'unknown key; did you mean "identity"?'),
    ("zzz: 1", "zzz", "unknown key; the keys here are id, memory, identity, llm, webhooks, server"),
    ("memory: {buffer: {}}", "memory.buffer", "unknown key; the keys here are persistent, working, session"),
    ("memory: {working: {max: 1}}", "memory.working.max", "unknown key; the keys here are ttl, max_items"),
    ("serves: {}", "serves", 'unknown key; did you mean "server"?'),
    ("1: 2", "1", "unknown key; the keys here are id, memory, identity, llm, webhooks, server"),
    ("llm: {base: x}", "llm.base", 'unknown key; did you mean "base_url"?'),
    (
        "llm: {voice: x}",
        "llm.voice",
        "unknown key; the keys here are model, api_key, base_url, instructions, timeout, context_tokens, reply_tokens",
    ),
    (
        "identity: {types: {crm: {max_per_usr: 1}}}",
        "identity.types.crm.max_per_usr",
        'unknown key; did you mean "max_per_user"?',
    ),
    ("identity: {refuse: {deny: []}}", "identity.refuse.deny", "unknown key; the keys here are add, allow"),
]
SECONDS = "expected a number of seconds above 0 and at most 100 years"
COUNT = "expected a whole number from 1 to 2147483647"
ID = "expected 1 to 64 of a-z, 0-9, '_', '.' and '-', the first a letter or a digit"
TEXT = "expected text; put it in quotes"
MODEL = 'expected "offline" or a model as pydantic-ai names it, "openai:gpt-4o"'
MAPPING = "expected a mapping of keys to values"
WORDS = 'expected a list of words; put words such as "null" and "no" in quotes'
POSTGRES = "expected a PostgreSQL URL, postgresql://user:password@host:5432/database"
NOT_A_URL = "not a valid URL; percent-encode special characters in the user and password"
NOT_A_FILE = "expected the path of a file; for a throw-away formation use ephemeral()"
CONNECTION = "memory.persistent.connection_string"
LISTEN = "memory.persistent.listen_connection_string"
BOTH = "connection_string: 'postgres://h/d', listen_connection_string"


def persistent(provider: str, connection_string: str | None = None) -> str:
    values = {"provider": provider}
    if connection_string is not None:
        values["connection_string"] = connection_string
    return yaml.safe_dump({"memory": {"persistent": values}})


BAD = [
    *[(f"id: {value}", "id", ID) for value in ("''", "-a", "A", "'a b'", "é", "a/b", "'a\\n'", "a" * 65)],
    ('id: "a\\n"', "id", ID),
    *[(f"id: {value}", "id", TEXT) for value in ("123", "true", "[a]", "null", "2026-01-01")],
    *[(f"{key}: 5", key, MAPPING) for key in ("memory", "identity", "llm")],
    ("memory: [persistent]", "memory", MAPPING),
    ("memory: {session: on}", "memory.session", MAPPING),
    ("identity: {types: [crm]}", "identity.types", MAPPING),
    ("identity: {types: {crm: 1}}", "identity.types.crm", MAPPING),
    *[
        (f"memory: {{session: {{max_messages: {value}}}}}", "memory.session.max_messages", COUNT)
        for value in ("0", "-1", "1.0", "true", "many", "'50'", "null", "3000000000", "[]")
    ],
    *[
        (f"memory: {{session: {{idle_timeout: {value}}}}}", "memory.session.idle_timeout", SECONDS)
        for value in ("0", "-1", "true", "1h", ".inf", ".nan", "null", "1.0e+300")
    ],
    ("identity: {cache: {ttl: true}}", "identity.cache.ttl", SECONDS),
    ("identity: {cache: {max_entries: false}}", "identity.cache.max_entries", COUNT),
    ("identity: {max_identifiers_per_user: 0}", "identity.max_identifiers_per_user", COUNT),
    *[
        (f"identity: {{match: {value}}}", "identity.match", "expected one of any, verified, none")
        for value in ("all", "true", "null", "Any", "[any]")
    ],
    *[
        (
            f"identity: {{types: {{crm: {{secret: {v}}}}}}}",
            "identity.types.crm.secret",
            "expected true or false",
        )
        for v in ("1", "'yes'", "null")
    ],
    ("identity: {types: {crm: {max_per_user: 0}}}", "identity.types.crm.max_per_user", COUNT),
    (
        "identity: {types: {api_key: {secret: false}}}",
        "identity.types.api_key.secret",
        "this type is always secret; remove the key",
    ),
    (
        "identity: {types: {My Type: {}}}",
        "identity.types.My Type",
        "expected a name of a-z, 0-9, '_', '.' and '-' that starts with a letter",
    ),
    ("identity: {types: {1: {}}}", "identity.types.1", "expected a name; put it in quotes"),
    *[
        (f"identity: {{refuse: {{add: {value}}}}}", "identity.refuse.add", WORDS)
        for value in ("guest", "[null]", "[no]", "['']", "[' ']", "{a: 1}", "null", "[[a]]")
    ],
    ("identity: {refuse: {allow: 1}}", "identity.refuse.allow", WORDS),
    *[
        (f"memory: {{working: {{ttl: {value}}}}}", "memory.working.ttl", SECONDS)
        for value in ("0", "true", "1h", ".inf", "null")
    ],
    *[
        (f"memory: {{working: {{max_items: {value}}}}}", "memory.working.max_items", COUNT)
        for value in ("0", "1.0", "true", "many")
    ],
    *[
        (f"llm: {{model: {model}}}", "llm.model", MODEL)
        for model in ("''", "gpt-5", "'openai:'", "':x'", "'openai: gpt'")
    ],
    *[
        (f"llm: {{base_url: {url}}}", "llm.base_url", "expected an address that begins with http:// or https://")
        for url in ("models.example", "ftp://models.example", "'file:///etc'")
    ],
    *[(f"llm: {{{key}: 1}}", f"llm.{key}", TEXT) for key in ("api_key", "base_url", "instructions")],
    ("llm: {timeout: 0}", "llm.timeout", SECONDS),
    ("llm: {context_tokens: 0}", "llm.context_tokens", COUNT),
    ("llm: {reply_tokens: many}", "llm.reply_tokens", COUNT),
    ("llm: {model: 1}", "llm.model", TEXT),
    (
        "memory: {persistent: {provider: mysql}}",
        "memory.persistent.provider",
        "expected one of sqlite, postgres, postgresql",
    ),
    ("memory: {persistent: {connection_string: 5}}", CONNECTION, TEXT),
    *[
        (f"memory: {{persistent: {{provider: postgres, {BOTH}: {url}}}}}", LISTEN, why)
        for url, why in (("5", TEXT), ("''", POSTGRES), ("'x.db'", POSTGRES), ("'postgres://h:port/d'", NOT_A_URL))
    ],
    (
        "memory: {persistent: {listen_connection_string: 'postgres://h/d'}}",
        LISTEN,
        "is for PostgreSQL; remove the key, or set provider to postgres",
    ),
    *[
        (f"identity: {{cache: {{lease: {value}}}}}", "identity.cache.lease", "expected seconds from 0.1 to 60")
        for value in ("0.09", "60.5")
    ],
    ("identity: {cache: {lease: 0}}", "identity.cache.lease", SECONDS),
    (persistent("postgres"), CONNECTION, POSTGRES),
    *[
        (persistent("postgres", url), CONNECTION, POSTGRES)
        for url in (
            "",
            "mysql://u@h/d",
            "postgres:/h",
            "host=h dbname=d",
            "postgresql+asyncpg://h/d",
            "sqlite:///x",
        )
    ],
    *[
        (persistent("postgres", url), CONNECTION, NOT_A_URL)
        for url in ("postgres://h:port/d", "postgres://[::1/d", "postgres://h:99999/d", "postgres://h h/d")
    ],
    (
        persistent("sqlite", "postgres://h/d"),
        CONNECTION,
        "names a PostgreSQL database; set memory.persistent.provider to postgres",
    ),
    *[
        (persistent("sqlite", url), CONNECTION, "expected a path or sqlite:///path for a SQLite file")
        for url in ("mysql://h/d", "sqlite://x.db", "sqlite+aiosqlite:///x.db", "file://x")
    ],
    *[
        (persistent("sqlite", url), CONNECTION, NOT_A_FILE)
        for url in (":memory:", "sqlite:///:memory:", "sqlite:///", "a\0b", "sqlite:///a.db?mode=ro")
    ],
    *[
        (f"id: '{value}'", "id", "expected secrets to be written as ${{ secrets.NAME }}")
        for value in (
            "${{ secret.X }}",
            "${{ secrets.X }",
            "${{ secrets.A/../B }}",
            "${{}}",
            "${{ secrets. }}",
        )
    ],
]


@pytest.mark.parametrize(("text", "key", "problem"), [*UNKNOWN, *BAD])
def test_refused_values_and_keys(text: str, key: str, problem: str, load: Load, folder: Path) -> None:
    message, error = refusal(text, load, folder)
    assert message == f"{key}: {problem}"
    assert error.key == key
    assert error.code == "CONFIGURATION"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", MAPPING),
        ("# nothing\n", MAPPING),
        ("- a\n", MAPPING),
        ("just text", MAPPING),
        ("id: a\nid: b\n", "line 2: not valid YAML: the key id stands here twice"),
        (
            "llm: {model: offline,\n  model: offline}",
            "line 2: not valid YAML: the key model stands here twice",
        ),
        ("a: 1\nb: [1,\n", "line 3: not valid YAML: expected the node content, but found ..."),
        ("id:\n\t- x", "line 2: not valid YAML: found character '\\t' that cannot start any token"),
        ("id: *hunter2-very-private", "line 1: not valid YAML: found undefined alias ..."),
        (
            "id: !hunter2-very-private x",
            "line 1: not valid YAML: could not determine a constructor for the tag ...",
        ),
        ("id: !!python/object/apply:os.getcwd []", None),
        ("? [a]\n: b", "line 1: not valid YAML: found unhashable key"),
        ("id: a\n---\nid: b", "line 2: not valid YAML: but found another document"),
        ("id: 2026-99-99", "not valid YAML: expected UTF-8 text with keys and values"),
        ("id: a\x01b", "not valid YAML: expected UTF-8 text with keys and values"),
        ("[" * 5000, "not valid YAML: expected UTF-8 text with keys and values"),
    ],
)
def test_files_that_are_not_a_mapping_in_yaml(text: str, problem: str | None, load: Load, folder: Path) -> None:
    message, error = refusal(text, load, folder)
    assert problem is None or message == problem
    assert error.key is None
    assert PASSWORD not in everything_shown(error)


def test_a_file_that_is_not_utf8(folder: Path) -> None:
    (folder / "latin.yaml").write_bytes("id: é".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="expected UTF-8 text"):
        FormationConfig.load(folder / "latin.yaml")


@pytest.mark.parametrize(("name", "why"), [("absent.yaml", "No such file or directory"), ("", "Is a directory")])
def test_a_file_that_cannot_be_read(name: str, why: str, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"{folder / name}: cannot be read ({why})")):
        FormationConfig.load(folder / name)


@pytest.mark.parametrize("value", [None, [], "id: x", 5])
def test_a_mapping_that_is_none(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^<config>: expected a mapping of keys to values$"):
        FormationConfig.from_mapping(value)


def test_a_short_secret_key_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUXI_SECRET_KEY", "s" * 31)
    with pytest.raises(ConfigurationError, match=r"^<default>: MUXI_SECRET_KEY: expected at least 32") as caught:
        FormationConfig.default()
    assert caught.value.key == "MUXI_SECRET_KEY"
    assert "sss" not in everything_shown(caught.value)


@pytest.mark.parametrize("keys", ["s" * 31, f"{KEY},{'s' * 31}", f"{KEY},", f",{KEY}", f"{KEY},,{NEWER}", " , "])
def test_short_credential_keys_are_refused_without_showing_them(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setenv("MUXI_CREDENTIAL_KEYS", keys)
    with pytest.raises(ConfigurationError, match=r"^<default>: MUXI_CREDENTIAL_KEYS: expected keys of at") as caught:
        FormationConfig.default()
    assert caught.value.key == "MUXI_CREDENTIAL_KEYS"
    shown = everything_shown(caught.value)
    assert "sss" not in shown
    assert "kkk" not in shown


def test_credential_keys_come_from_the_secrets_newest_first(load: Load, folder: Path) -> None:
    (folder / ".env").write_text(f"MUXI_CREDENTIAL_KEYS={NEWER}, {KEY}\n")
    assert load("{}").credential_keys == (Secret(NEWER), Secret(KEY))
    (folder / ".env").write_text("MUXI_CREDENTIAL_KEYS=\n")
    assert load("{}").credential_keys == ()


def test_odd_keys_are_shown_short_and_printable(load: Load, folder: Path) -> None:
    message, _ = refusal(f'"{"a" * 100}\\n\\u202e": 1', load, folder)
    assert message.startswith("a" * 64 + "...: unknown key")
    message, _ = refusal('"a\\n\\u202eb": 1', load, folder)
    assert message.startswith(r"'a\n\u202eb': unknown key")


# What never shows


def everything_shown(error: BaseException) -> str:
    return "".join(
        [
            str(error),
            repr(error),
            json.dumps(getattr(error, "details", None), default=repr),
            *traceback.format_exception(error),
            *([everything_shown(error.__context__)] if error.__context__ else []),
        ]
    )


@pytest.mark.parametrize(
    "text",
    [
        'id: "${{ secrets.LEAK }}"',
        'llm: {model: "${{ secrets.LEAK }}"}',
        'identity: {match: "${{ secrets.LEAK }}"}',
        'memory: {persistent: {provider: "${{ secrets.LEAK }}"}}',
        'memory: {persistent: {provider: postgres, connection_string: "${{ secrets.LEAK }}"}}',
        'memory: {persistent: {provider: postgres, connection_string: "postgres://h:${{ secrets.LEAK }}"}}',
        'memory: {persistent: {provider: postgres, connection_string: "postgres://[${{ secrets.LEAK }}"}}',
        'memory: {persistent: {provider: sqlite, connection_string: "x://${{ secrets.LEAK }}"}}',
        'memory: {persistent: {connection_string: "postgres://${{ secrets.LEAK }}"}}',
        'memory: {session: {max_messages: "${{ secrets.LEAK }}"}}',
        'llm: {base_url: "${{ secrets.LEAK }}"}',
        'llm: {api_key: "${{ secrets.LEAK }}", model: wrong}',
    ],
)
def test_no_error_shows_a_secret(text: str, load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAK", f"Z {PASSWORD}")
    _, error = refusal(text, load, folder)
    assert PASSWORD not in everything_shown(error)


def test_a_configuration_does_not_show_its_secrets(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_URL", POSTGRES_URL)
    monkeypatch.setenv("MUXI_SECRET_KEY", f"{KEY}{PASSWORD}")
    monkeypatch.setenv("MUXI_CREDENTIAL_KEYS", f"{KEY}{PASSWORD},{NEWER}{PASSWORD}")
    monkeypatch.setenv("MODEL_KEY", PASSWORD)
    config = load(DOCUMENT + "llm: {api_key: '${{ secrets.MODEL_KEY }}'}\n")
    assert config.model.api_key == Secret(PASSWORD)
    assert len(config.credential_keys) == 2
    shown = [repr(config), str(config), f"{config}", f"{config!r:>5}", repr(vars_of(config))]
    shown += [json.dumps(dataclasses.asdict(config), default=str)]
    assert not [text for text in shown if PASSWORD in text]


def vars_of(config: FormationConfig) -> list[Any]:
    return [getattr(config, field.name) for field in dataclasses.fields(config)]


def test_a_secret_shows_nothing_and_gives_itself_when_asked() -> None:
    secret = Secret(PASSWORD)
    assert secret.reveal() == PASSWORD
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret:>40}",
        "%s %r" % (secret, secret),  # noqa: UP031
        repr([secret]),
    ]
    assert not [text for text in shown if PASSWORD in text]
    assert not hasattr(secret, "__dict__")
    assert not isinstance(secret, str)


def test_a_secret_is_compared_copied_and_hashed_by_value_but_never_pickled() -> None:
    secret = Secret("é")
    assert secret == Secret("é")
    assert secret != Secret("e")
    assert secret != "é"
    assert hash(secret) == hash(Secret("é"))
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret]) == [secret]
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(FormationConfig(database=DatabaseConfig("postgres", url=secret)))


MANY = "postgresql://muxi:pass@db1:5432,db2/muxi"


@pytest.mark.parametrize(
    "query", ["", "?target_session_attrs=read-write", "?target_session_attrs=primary&sslmode=allow"]
)
def test_several_servers_of_which_one_takes_writes(query: str) -> None:
    config = FormationConfig.from_mapping(
        {"memory": {"persistent": {"provider": "postgres", "connection_string": MANY + query}}}
    )
    assert config.database.url is not None
    assert hosts_of(config.database.url.reveal()) == [("db1", 5432), ("db2", None)]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (MANY + "?target_session_attrs=standby", "target_session_attrs=read-write"),
        ("postgresql://db1,,db2/muxi", "missing between the commas"),
        ("postgresql://db1,db2:no/muxi", "not a valid URL"),
    ],
)
def test_servers_that_cannot_be_meant(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        FormationConfig.from_mapping({"memory": {"persistent": {"provider": "postgres", "connection_string": url}}})


def test_the_hosts_of_a_url() -> None:
    assert hosts_of("postgresql://u:p@h/db") == []
    assert hosts_of("postgresql://u:p@[::1]:5433,[fe80::1]/db") == [("::1", 5433), ("fe80::1", None)]
    assert hosts_of("postgresql://%2Frun%2Fpg,h:1/db") == [("/run/pg", None), ("h", 1)]


def test_limits_of_connections() -> None:
    persistent = {"provider": "postgres", "connection_string": MANY, "connections": {"pool_size": 7, "wait_timeout": 2}}
    limits = FormationConfig.from_mapping({"memory": {"persistent": persistent}}).database.limits
    assert (limits.pool_size, limits.wait_timeout, limits.max_waiting) == (7, 2.0, 10_000)


def test_of_the_limits_sqlite_has_those_of_waiting() -> None:
    connections: dict[str, object] = {"max_waiting": 7, "wait_timeout": 2}
    limits = FormationConfig.from_mapping({"memory": {"persistent": {"connections": connections}}}).database.limits
    assert (limits.max_waiting, limits.wait_timeout) == (7, 2.0)
    connections["pool_size"] = 7
    with pytest.raises(ConfigurationError, match=r"connections\.pool_size.*leave it out for SQLite"):
        FormationConfig.from_mapping({"memory": {"persistent": {"connections": connections}}})


def test_whether_statements_are_prepared() -> None:
    persistent: dict[str, object] = {"provider": "postgres", "connection_string": MANY}
    assert (
        FormationConfig.from_mapping({"memory": {"persistent": persistent}}).database.limits.prepared_statements is None
    )
    for given in (True, False):
        persistent["connections"] = {"prepared_statements": given}
        config = FormationConfig.from_mapping({"memory": {"persistent": persistent}})
        assert config.database.limits.prepared_statements is given
    persistent["connections"] = {"prepared_statements": "no"}
    with pytest.raises(ConfigurationError, match=r"connections\.prepared_statements: expected true or false"):
        FormationConfig.from_mapping({"memory": {"persistent": persistent}})
