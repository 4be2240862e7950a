"""The peer as a process that is asked for blocks of calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from benchmarks.blocks import Block


class PeerProcess:
    """Answers one request at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, **what: Any) -> Any:
        """Send a request and return the answer.

        Raises:
            RuntimeError: The process ended instead; what it said stands on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended when it was asked to {what['do']}")
        return json.loads(line)

    def block(self, do: str, names: Any) -> Block:
        """Return a block of calls; ``names`` makes those of each."""

        async def block() -> list[float]:
            times: list[float] = await self.ask(do=do, names=names())
            return times

        return block


@contextlib.asynccontextmanager
async def start_peer(command: Sequence[str]) -> AsyncIterator[PeerProcess]:
    """Run the peer by this command; it ends afterwards."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20
    )
    try:
        yield PeerProcess(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
