"""A formation's configuration: ``formation.yaml`` or a mapping in, checked and typed values out.

Everything wrong is one :class:`ConfigurationError` of one line that names the file, the key and the mend.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from muxi_identity.identifiers import BUILT_IN_TYPES, IdentifierRules, TypeRule
from muxi_identity.postgres_config import ConnectionLimits, read_limits, read_url
from muxi_identity.secret import Secret, SecretSources
from muxi_identity.server_config import ServerConfig, read_server
from muxi_identity.settings import Section, read_yaml
from muxi_identity.webhooks import WebhookConfig, read_webhooks

__all__ = [
    "CacheConfig",
    "ConnectionLimits",
    "DatabaseConfig",
    "FormationConfig",
    "IdentityConfig",
    "ModelConfig",
    "Secret",
    "ServerConfig",
    "SessionConfig",
    "WebhookConfig",
    "WorkingConfig",
]

Provider = Literal["sqlite", "postgres"]
Match = Literal["any", "verified", "none"]

_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_TYPE_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_SHORTEST_LEASE, _LONGEST_LEASE = 0.1, 60.0
_DEFAULT_ID = "default"
_DATABASE_FILE = "muxi.db"
_SECRET_KEY = "MUXI_SECRET_KEY"  # noqa: S105 - the name of a secret, not one
_CREDENTIAL_KEYS = "MUXI_CREDENTIAL_KEYS"
_MAKE_A_KEY = 'python -c "import secrets; print(secrets.token_hex(32))"'


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """Where the formation's data is: ``path`` of the SQLite file, or ``url`` of the PostgreSQL database.

    ``listen_url`` is the same database without a pooler in between, where ``url`` leads through one. Nothing is
    created here. ``ignore_in_git`` says that the file's folder is ours, in somebody's working directory, and gets a
    ``.gitignore`` of ``*`` when it is made.
    """

    provider: Provider
    path: Path | None = None
    url: Secret | None = None
    ignore_in_git: bool = False
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    listen_url: Secret | None = None


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """The resolution cache of one process; ``ttl`` and ``lease`` in seconds.

    ``lease``: on PostgreSQL, how long hits are served without a sign that changes of other processes are heard of.
    """

    ttl: float = 3600.0
    max_entries: int = 1_000_000
    lease: float = 2.0


@dataclass(frozen=True, slots=True)
class IdentityConfig:
    """How identifiers are read and matched; ``rules`` holds the built-in types with the formation's own."""

    cache: CacheConfig = CacheConfig()
    match: Match = "any"
    rules: IdentifierRules = field(default_factory=IdentifierRules)


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """One channel's conversation: what its buffer keeps, and after how many idle seconds a new one starts."""

    max_messages: int = 50
    idle_timeout: float = 86400.0


@dataclass(frozen=True, slots=True)
class WorkingConfig:
    """Working memory: after how many seconds an item is forgotten, and how many a member keeps."""

    ttl: float = 86400.0
    max_items: int = 200


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What answers: ``offline``, or any model that pydantic-ai names (``openai:gpt-4o``).

    ``timeout`` is in seconds and is for one whole reply; ``context_tokens`` bounds what a prompt may hold and
    ``reply_tokens`` what a reply may.
    """

    name: str = "offline"
    api_key: Secret | None = None
    base_url: str | None = None
    instructions: str = ""
    timeout: float = 60.0
    context_tokens: int = 16_000
    reply_tokens: int = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FormationConfig:
    """Everything that a formation is opened with; ``source`` is the file that it came from."""

    id: str = _DEFAULT_ID
    database: DatabaseConfig
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    session: SessionConfig = SessionConfig()
    working: WorkingConfig = WorkingConfig()
    model: ModelConfig = ModelConfig()
    server: ServerConfig = field(default_factory=ServerConfig)
    webhooks: tuple[WebhookConfig, ...] = ()
    secret_key: Secret | None = None
    credential_keys: tuple[Secret, ...] = ()
    """Newest first: the first encrypts, all decrypt."""
    source: Path | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FormationConfig:
        """Read a YAML file; relative paths and secrets are looked up beside it.

        Raises:
            ConfigurationError: the file, a key in it or a secret that it names is missing or wrong.
        """
        source = Path(path)
        mapping = read_yaml(source)
        config = cls.from_mapping(mapping, base=source.absolute().parent, name=str(source))
        return replace(config, source=source.absolute())

    @classmethod
    def default(cls) -> FormationConfig:
        """Configure what nobody configured: SQLite under ``MUXI_HOME``, else in ``.muxi/`` here.

        Raises:
            ConfigurationError: ``MUXI_SECRET_KEY`` is set and too short.
        """
        return cls.from_mapping({}, name="<default>")

    @classmethod
    def from_mapping(
        cls, mapping: Mapping[str, Any], *, base: Path | None = None, name: str = "<config>"
    ) -> FormationConfig:
        """Check what a YAML file would hold. ``base`` stands for the file's folder, ``name`` for its name.

        Raises:
            ConfigurationError: a key or a secret that it names is missing or wrong.
        """
        sources = SecretSources(base.absolute() if base else None)
        top = Section(name, "", mapping, sources, ("id", "memory", "identity", "llm", "webhooks", "server"))
        memory = top.section("memory", "persistent", "working", "session")
        session = memory.section("session", "max_messages", "idle_timeout")
        working = memory.section("working", "ttl", "max_items")
        formation_id = top.text("id", _DEFAULT_ID)
        if not _ID.fullmatch(formation_id):
            top.fail("id", "expected 1 to 64 of a-z, 0-9, '_', '.' and '-', the first a letter or a digit")
        secret_key = sources.find(_SECRET_KEY)
        if secret_key is not None and len(secret_key) < 32:
            top.fail(_SECRET_KEY, f"expected at least 32 characters; make one with {_MAKE_A_KEY}")
        return cls(
            id=formation_id,
            database=_database(
                memory.section(
                    "persistent", "provider", "connection_string", "listen_connection_string", "connections"
                ),
                base,
            ),
            identity=_identity(
                top.section("identity", "cache", "match", "max_identifiers_per_user", "types", "refuse")
            ),
            session=SessionConfig(
                max_messages=session.count("max_messages", SessionConfig().max_messages),
                idle_timeout=session.seconds("idle_timeout", SessionConfig().idle_timeout),
            ),
            working=WorkingConfig(
                ttl=working.seconds("ttl", WorkingConfig().ttl),
                max_items=working.count("max_items", WorkingConfig().max_items),
            ),
            model=_model(
                top.section(
                    "llm",
                    "model",
                    "api_key",
                    "base_url",
                    "instructions",
                    "timeout",
                    "context_tokens",
                    "reply_tokens",
                )
            ),
            server=read_server(top),
            webhooks=read_webhooks(top),
            secret_key=None if secret_key is None else Secret(secret_key),
            credential_keys=_credential_keys(top, sources),
        )


def _model(section: Section) -> ModelConfig:
    default = ModelConfig()
    name = section.text("model", default.name).strip()
    if name != default.name and not re.fullmatch(r"[^\s:]+:\S+", name):
        section.fail("model", 'expected "offline" or a model as pydantic-ai names it, "openai:gpt-4o"')
    api_key, base_url = section.text("api_key", ""), section.text("base_url", "").strip()
    if base_url and urlsplit(base_url).scheme not in ("http", "https"):
        section.fail("base_url", "expected an address that begins with http:// or https://")
    return ModelConfig(
        name=name,
        api_key=Secret(api_key) if api_key else None,
        base_url=base_url or None,
        instructions=section.text("instructions", default.instructions),
        timeout=section.seconds("timeout", default.timeout),
        context_tokens=section.count("context_tokens", default.context_tokens),
        reply_tokens=section.count("reply_tokens", default.reply_tokens),
    )


def _credential_keys(top: Section, sources: SecretSources) -> tuple[Secret, ...]:
    given = sources.find(_CREDENTIAL_KEYS)
    keys = [key.strip() for key in given.split(",")] if given else []
    if any(len(key) < 32 for key in keys):
        top.fail(
            _CREDENTIAL_KEYS,
            f"expected keys of at least 32 characters, newest first, separated by commas; make one with {_MAKE_A_KEY}",
        )
    return tuple(Secret(key) for key in keys)


def _database(section: Section, base: Path | None) -> DatabaseConfig:
    key = "connection_string"
    provider = section.choice("provider", "sqlite", "sqlite", "postgres", "postgresql")
    limits = read_limits(section, postgres=provider != "sqlite")
    if provider != "sqlite":
        listen = "listen_connection_string"
        return DatabaseConfig(
            "postgres",
            url=read_url(section, key),
            limits=limits,
            listen_url=read_url(section, listen) if section.has(listen) else None,
        )
    if section.has("listen_connection_string"):
        section.fail("listen_connection_string", "is for PostgreSQL; remove the key, or set provider to postgres")
    text = section.text(key, "").strip()
    scheme, separator, rest = text.partition("://")
    if scheme in ("postgres", "postgresql") and separator:
        section.fail(key, "names a PostgreSQL database; set memory.persistent.provider to postgres")
    if separator and (scheme != "sqlite" or not rest.startswith("/")):
        section.fail(key, "expected a path or sqlite:///path for a SQLite file")
    file = rest[1:] if separator else text
    if file == ":memory:" or "\0" in file or (separator and (not file or "?" in file)):
        section.fail(key, "expected the path of a file; for a throw-away formation use ephemeral()")
    home = os.environ.get("MUXI_HOME")
    if file:
        path = (base or Path.cwd()).absolute() / os.path.expanduser(file)
    elif base is not None:
        path = base.absolute() / _DATABASE_FILE
    elif home:
        path = Path(os.path.expanduser(home)).absolute() / _DATABASE_FILE
    else:
        path = Path.cwd() / ".muxi" / _DATABASE_FILE
    return DatabaseConfig("sqlite", path=path, limits=limits, ignore_in_git=not (file or base or home))


def _lease(section: Section) -> float:
    lease = section.seconds("lease", CacheConfig().lease)
    if not _SHORTEST_LEASE <= lease <= _LONGEST_LEASE:
        section.fail("lease", f"expected seconds from {_SHORTEST_LEASE} to {_LONGEST_LEASE:.0f}")
    return lease


def _identity(section: Section) -> IdentityConfig:
    cache = section.section("cache", "ttl", "max_entries", "lease")
    refuse = section.section("refuse", "add", "allow")
    return IdentityConfig(
        cache=CacheConfig(
            ttl=cache.seconds("ttl", CacheConfig().ttl),
            max_entries=cache.count("max_entries", CacheConfig().max_entries),
            lease=_lease(cache),
        ),
        match=cast("Match", section.choice("match", "any", "any", "verified", "none")),
        rules=IdentifierRules(
            types=_types(section.section("types")),
            refuse=refuse.words("add"),
            allow=refuse.words("allow"),
            max_per_user=section.count("max_identifiers_per_user", IdentifierRules().max_per_user),
        ),
    )


def _types(section: Section) -> Mapping[str, TypeRule]:
    types = dict(BUILT_IN_TYPES)
    for name in section.names():
        if not _TYPE_NAME.fullmatch(name):
            section.fail(name, "expected a name of a-z, 0-9, '_', '.' and '-' that starts with a letter")
        built_in = types.get(name, TypeRule())
        given = section.section(name, "secret", "max_per_user")
        secret = given.flag("secret", built_in.secret)
        if built_in.secret and not secret:
            given.fail("secret", "this type is always secret; remove the key")
        types[name] = TypeRule(secret, given.optional_count("max_per_user", built_in.max_per_user))
    return types
