"""A formation to be served: its file, on either database, and what opens it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.places import DURABLE, forgetful_cluster, started

KEY = secrets.token_urlsafe(24)
"""The client key of each."""
_SECRET_KEY = secrets.token_hex(32)


@contextlib.contextmanager
def formation_file(database: str, *, quick: bool) -> Iterator[Path]:
    """Write the file of a new formation on ``database`` ("sqlite" or "postgres"); all is gone afterwards."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muxi-bench-")))
        if database == "postgres":
            cluster = forgetful_cluster() if quick else stack.enter_context(started(**DURABLE))
            persistent = {"provider": "postgres", "connection_string": cluster.create_database()}
        else:
            persistent = {"provider": "sqlite", "connection_string": str(folder / "muxi.db")}
        settings = {
            "id": "bench",
            "memory": {"persistent": persistent},
            "server": {"api_keys": {"admin_key": f"{KEY}-admin", "client_key": KEY}},
        }
        file = folder / "bench.yaml"
        file.write_text(json.dumps(settings), encoding="utf-8")
        yield file


def environment() -> dict[str, str]:
    """Return the environment of a process that serves one."""
    return {**os.environ, "MUXI_SECRET_KEY": _SECRET_KEY}
