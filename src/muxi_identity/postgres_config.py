"""What is configured of PostgreSQL: its address, which may list several servers, and how much of it is used. Pure.

SQLite shares the bounds of the line that forms before either.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from muxi_identity.secret import Secret
from muxi_identity.settings import Section, is_url

_WRITABLE = frozenset({"read-write", "primary"})
_OF_SQLITE = ("max_waiting", "wait_timeout")
Host = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How much of a PostgreSQL server one process takes, and how long it waits for it. Times in seconds.

    ``pool_size`` connections run transactions; up to nine more run single statements, and one listens. ``max_waiting``
    callers may wait for a place, each at most ``wait_timeout``: what comes beyond is refused at once.
    ``prepared_statements`` says whether statements are prepared by name; None: where no pooler stands in between. Of
    these, SQLite has the bounds of waiting alone: there is one place to write, and one to read.
    """

    pool_size: int = 5
    max_waiting: int = 10_000
    wait_timeout: float = 10.0
    connect_timeout: float = 10.0
    statement_timeout: float = 30.0
    prepared_statements: bool | None = None


def hosts_of(url: str) -> list[Host]:
    """Return the servers that a URL lists, with their ports (None: the usual one); none where it lists only one.

    A single server is left to the driver, which also knows sockets and the environment.
    """
    listed = urlsplit(url).netloc.rpartition("@")[2].split(",")
    return [_host(each) for each in listed] if len(listed) > 1 else []


def _host(text: str) -> Host:
    name, colon, port = text.rpartition(":")
    if text.endswith("]") or not colon:
        name, port = text, ""
    return unquote(name.strip("[]")), int(port) if port else None


def fault_in(url: str) -> str | None:
    """Return what is wrong with a PostgreSQL URL, None where nothing is. Quotes nothing: it may hold a password."""
    scheme, separator, rest = url.partition("://")
    if scheme not in ("postgres", "postgresql") or not separator:
        return "expected a PostgreSQL URL, postgresql://user:password@host:5432/database"
    invalid = "not a valid URL; percent-encode special characters in the user and password"
    end = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    user, at, listed = rest[:end].rpartition("@")
    if not all(is_url(f"{scheme}://{user}{at}{host}{rest[end:]}") for host in listed.split(",")):
        return invalid
    if "," not in listed:
        return None
    if "" in listed.split(","):
        return "a server's name is missing between the commas; host1:5432,host2:5432"
    wanted = parse_qs(urlsplit(f"{scheme}://{listed.split(',')[0]}{rest[end:]}").query).get("target_session_attrs")
    if wanted and wanted[-1] not in _WRITABLE:
        return "of several servers the one that takes writes is needed: target_session_attrs=read-write"
    return None


def read_url(section: Section, key: str) -> Secret:
    """Read the address of a PostgreSQL database."""
    text = section.text(key, "").strip()
    if (fault := fault_in(text)) is not None:
        section.fail(key, fault)
    return Secret(f"postgresql://{text.partition('://')[2]}")


def read_limits(section: Section, *, postgres: bool) -> ConnectionLimits:
    """Read the section ``connections`` of ``memory.persistent``."""
    names = ("pool_size", "max_waiting", "wait_timeout", "connect_timeout", "statement_timeout", "prepared_statements")
    given, default = section.section("connections", *names), ConnectionLimits()
    for name in given.names():
        if not postgres and name not in _OF_SQLITE:
            given.fail(name, "is about connections to PostgreSQL; leave it out for SQLite")
    return ConnectionLimits(
        pool_size=given.count("pool_size", default.pool_size),
        max_waiting=given.count("max_waiting", default.max_waiting),
        wait_timeout=given.seconds("wait_timeout", default.wait_timeout),
        connect_timeout=given.seconds("connect_timeout", default.connect_timeout),
        statement_timeout=given.seconds("statement_timeout", default.statement_timeout),
        prepared_statements=given.flag("prepared_statements", True) if given.has("prepared_statements") else None,
    )
