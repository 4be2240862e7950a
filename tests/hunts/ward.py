"""A PostgreSQL that can be killed and started again, as often as it takes. It syncs to disk, as one in service does."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from tests.postgres import PostgresCluster, _environment, _unprivileged_account, start_cluster

START_SECONDS = 60.0


class Ward:
    """One server and what is done to it."""

    def __init__(self) -> None:
        self.cluster: PostgresCluster
        self._data: Path
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.cluster = start_cluster(fsync="on", full_page_writes="on", synchronous_commit="on")
        self._data = self.cluster._home / "data"
        # A child of this process from now on: what was killed must be waited for, or the next one takes it for alive.
        self._stop("fast")
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(START_SECONDS)
        # Where this process is killed before it comes here, the keeper takes the files away, and a server that finds
        # its files gone ends.
        self.cluster.stop()

    def kill(self) -> None:
        """Kill the server, as a machine that runs out of memory does, and start it again at once."""
        assert self._server is not None
        self._server.kill()
        self._server.wait(START_SECONDS)
        self._start()

    def stop_at_once(self) -> None:
        """Let it end without a farewell to anybody and without a checkpoint, and start it again."""
        self._stop("immediate")
        self._start()

    async def kill_back_end(self) -> None:
        """Kill one process of the server: it takes all others with it, and recovers by itself."""
        admin = await asyncpg.connect(self.cluster.url())
        try:
            pid = await admin.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                " ORDER BY random() LIMIT 1"
            )
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        finally:
            admin.terminate()

    def _stop(self, how: str) -> None:
        assert self._server is None or self._server.poll() is None, "the server ended by itself"
        subprocess.run(
            [self.cluster.binaries / "pg_ctl", "stop", "-m", how, "-w", "-D", self._data],
            check=True,
            stdout=subprocess.DEVNULL,
            **self._as_its_user(),
        )
        if self._server is not None:
            self._server.wait(START_SECONDS)

    def _start(self) -> None:
        command = shlex.split((self._data / "postmaster.opts").read_text())
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with (self.cluster._home / "log").open("ab") as log:
                self._server = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=_environment(self.cluster._home),
                    **self._as_its_user(),
                )
            if self._becomes_ready(deadline):
                return
        raise RuntimeError(f"PostgreSQL did not start again:\n{self.cluster.log_text()[-2000:]}")

    def _becomes_ready(self, deadline: float) -> bool:
        """Wait for it. False: it did not start, as long as what is left of the killed one has not ended."""
        assert self._server is not None
        while time.monotonic() < deadline:
            if self._server.poll() is not None:
                return False
            with contextlib.suppress(FileNotFoundError, IndexError):
                status = (self._data / "postmaster.pid").read_text().splitlines()
                if int(status[0]) == self._server.pid and status[7].strip() == "ready":
                    return True
            time.sleep(0.01)
        return False

    def _as_its_user(self) -> dict[str, Any]:
        account = _unprivileged_account()
        if account is None:
            return {"cwd": self.cluster._home}
        return {"cwd": self.cluster._home, "user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
