"""A private PgBouncer in front of the tests' PostgreSQL: it lends connections to the server by the transaction."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.postgres import PostgresCluster, _make_home, _unprivileged_account, free_port, keep

NAMED_BY = "MUXI_TEST_PGBOUNCER"
_START_SECONDS = 60.0
_KNOWS_PREPARED_STATEMENTS = (1, 21)


class NoPooler(Exception):
    """There is no PgBouncer on this machine; the message says what to install."""


class Pooler:
    """A running PgBouncer. Every transaction gets the next one of its connections to the server, in turn."""

    def __init__(self, port: int, home: Path, keeper: subprocess.Popen[bytes]) -> None:
        self.port = port
        self._home = home
        self._keeper = keeper

    def url(self, url: str) -> str:
        """Return ``url`` as it is reached through this pooler."""
        parts = urlsplit(url)
        who, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{who}{at}127.0.0.1:{self.port}"))

    def log_text(self) -> str:
        try:
            return (self._home / "log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def stop(self) -> None:
        """End it and remove its files."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(_START_SECONDS)


def start_pooler(cluster: PostgresCluster, *, connections: int) -> Pooler:
    """Start a PgBouncer with so many connections to each database of ``cluster``, and return when it takes clients.

    What newer versions know of prepared statements is switched off: the oldest one in use has none of it.

    Raises:
        NoPooler: There is none, and the environment does not say that there must be.
        RuntimeError: ``MUXI_TEST_PGBOUNCER`` names none, or it did not start.
    """
    program = _find()
    account, port = _unprivileged_account(), free_port()
    home = _make_home(account)
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "plain",
        "auth_file": home / "users",
        "pool_mode": "transaction",
        "default_pool_size": connections,
        "server_round_robin": 1,
        "max_client_conn": 200,
    }
    if _version(program) >= _KNOWS_PREPARED_STATEMENTS:
        settings["max_prepared_statements"] = 0
    files = {
        "users": f'"postgres" "{cluster.password}"\n',
        "settings": f"[databases]\n* = host=127.0.0.1 port={cluster.port}\n[pgbouncer]\n"
        + "".join(f"{name} = {value}\n" for name, value in settings.items()),
    }
    for name, text in files.items():
        (home / name).write_text(text)
        if account is not None:
            os.chown(home / name, account.pw_uid, account.pw_gid)
    pooler = Pooler(port, home, keep([program, home / "settings"], home, account, "KILL"))
    deadline = time.monotonic() + _START_SECONDS
    while "process up" not in pooler.log_text():
        if "FATAL" in pooler.log_text() or time.monotonic() > deadline:
            said = pooler.log_text()
            pooler.stop()
            raise RuntimeError(f"{program} did not start:\n{said}")
        time.sleep(0.01)
    return pooler


def _find() -> Path:
    named = os.environ.get(NAMED_BY)
    found = named or shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NoPooler(f"no PgBouncer: install it (Debian: apt-get install pgbouncer), or name it in {NAMED_BY}")
    if shutil.which(found) is None:
        raise RuntimeError(f"{NAMED_BY}={found} is no program; install PgBouncer (Debian: apt-get install pgbouncer)")
    return Path(found)


def _version(program: Path) -> tuple[int, int]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    assert found is not None, said
    return int(found[1]), int(found[2])
