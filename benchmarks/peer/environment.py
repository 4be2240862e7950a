"""The virtual environment of the peer: made once, beside our own, from the package index that pip is set to."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "1.20260928.0"
_FOLDER = Path(__file__).resolve().parents[2] / ".venv-peer"
_REQUIREMENTS = (f"muxi-runtime=={VERSION}", "SQLAlchemy[asyncio]<2.1")


def peer_python(folder: Path = _FOLDER) -> Path:
    """Return the Python that the peer is installed for; the first time this fetches 2 GB and takes minutes.

    Raises:
        SystemExit: It cannot be installed; what pip said stands above.
    """
    python = folder / "bin" / "python"
    done = folder / f"installed-{VERSION}"
    if done.exists():
        return python
    print(f"Setting up {folder} with muxi-runtime {VERSION} (minutes, 2 GB) ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_REQUIREMENTS]
    if subprocess.run(command).returncode:  # noqa: S603
        raise SystemExit(f"muxi-runtime {VERSION} could not be installed: nothing to compare with.")
    done.touch()
    return python
