"""Our server as a process, over the same PostgreSQL server as the peer's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.http import wait_until_listening
from benchmarks.places import Place

_ROOT = Path(__file__).resolve().parents[2]


@contextlib.asynccontextmanager
async def serve_ours(place: Place) -> AsyncIterator[tuple[str, str]]:
    """Serve a formation in the database of ``place``; return its address and its client key."""
    key = secrets.token_urlsafe(24)
    kept = place.config.database
    where = str(kept.path) if kept.url is None else kept.url.reveal()
    settings = {
        "id": "bench-served",
        "memory": {"persistent": {"provider": kept.provider, "connection_string": where}},
        "server": {"api_keys": {"admin_key": f"{key}-admin", "client_key": key}},
    }
    environment = {**os.environ, "MUXI_SECRET_KEY": secrets.token_hex(32)}
    with tempfile.TemporaryDirectory(prefix="muxi-bench-") as folder:
        file = Path(folder) / "bench.yaml"
        file.write_text(json.dumps(settings), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.http_server", str(file), "-1"),
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            cwd=_ROOT,
        )
        try:
            assert process.stdout is not None
            port = int(await process.stdout.readline())
            await wait_until_listening(port)
            yield f"http://127.0.0.1:{port}", key
        finally:
            process.terminate()
            await process.wait()
