"""Processes that use a database while somebody else backs it up, upgrades it or looks at it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECRET = "k" * 40


class Traffic:
    """A process that is under way. ``end`` lets it stop and says what it did."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def end(self) -> dict[str, Any]:
        said, complaints = self._process.communicate("stop\n", timeout=60)
        assert self._process.returncode == 0, complaints
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found


@contextlib.contextmanager
def traffic(config: dict[str, Any], name: str, source: Path | None = None) -> Iterator[Traffic]:
    """Start a process of the code in ``source`` (else of this one) and wait until it has written something."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.operations.traffic", json.dumps(config), name],
        cwd=ROOT,
        env=environment(source),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "begun\n":
            raise AssertionError(process.communicate(timeout=60)[1])
        yield Traffic(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def environment(source: Path | None = None) -> dict[str, str]:
    """Return the environment of a process that runs the code in ``source``."""
    return {**os.environ, "PYTHONPATH": str(source or ROOT / "src"), "MUXI_SECRET_KEY": SECRET}


def mapping_of(provider: str, where: str) -> dict[str, Any]:
    """Return the configuration of the formation that they use."""
    return {"id": "f", "memory": {"persistent": {"provider": provider, "connection_string": where}}}
