"""What is loaded: a base install is enough for what it promises, and no command waits for what another one needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

OWN = "muxi-identity"
NEVER_NEEDED_BY_MOST = {"fastapi", "starlette", "uvicorn", "prometheus_client", "pydantic", "pydantic_ai", "asyncpg",
                        "alembic", "mako"}  # fmt: skip

_RUN = """
import json, sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

refused = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Refuses())
from typer.testing import CliRunner
from muxi_identity.cli import app
loaded = {name.partition(".")[0] for name in sys.modules}
from muxi import FormationClient
with FormationClient.ephemeral() as formation:
    formation.chat("My budget is $5,000", user_id="alice@email.com")
    said = str(formation.chat("What's my budget?", user_id="alice@email.com"))
with FormationClient(url="http://127.0.0.1:1", client_key="k" * 20, retries=0) as remote:
    try:
        remote.resolve_user("alice@email.com")
    except Exception as error:
        unreachable = type(error).__name__
runs = {}
for line in ("--help", "serve --help", "keys new", "token alice@email.com", "serve"):
    done = CliRunner().invoke(app, line.split())
    runs[line] = [done.exit_code, done.output]
print(json.dumps({"loaded": sorted(loaded), "said": said, "unreachable": unreachable, "runs": runs}))
"""


def distributions_of_a_base_install() -> set[str]:
    """Return what is installed with this package where no extra is asked for."""
    found: set[str] = set()
    waiting = [OWN]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            asked = requires(name) or ()
        except PackageNotFoundError:  # for another platform or another Python
            continue
        waiting += [_normal(re.split(r"[^\w.-]", each, maxsplit=1)[0]) for each in asked if "extra ==" not in each]
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_base_install_embeds_talks_to_servers_and_runs_commands(tmp_path: Path) -> None:
    base = distributions_of_a_base_install()
    refused = [
        module
        for module, names in packages_distributions().items()
        if not {_normal(name) for name in names} & base and module not in ("muxi", "pip")
    ]
    assert {"fastapi", "asyncpg", "pydantic_ai"} <= set(refused)
    assert not {"aiohttp", "sqlalchemy", "typer"} & set(refused)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(refused)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MUXI_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert (told["said"], told["unreachable"]) == ("Your budget is $5,000.", "ServerUnavailableError")
    assert not NEVER_NEEDED_BY_MOST & set(told["loaded"])
    assert told["runs"].pop("serve") == [
        6,
        "error: muxi serve needs the extra server (fastapi is missing): pip install 'muxi-identity[server]'\n",
    ]
    assert [code for code, _ in told["runs"].values()] == [0, 0, 0, 0], told["runs"]
    assert "--workers" in told["runs"]["serve --help"][1]
