"""Make ``client/synchronous.py`` from ``client/asynchronous.py``.

    python scripts/generate_sync.py            writes the file
    python scripts/generate_sync.py --check    exits with 1 where it is not what would be written

Every public coroutine method becomes a blocking method of the same signature that runs it on the client's portal.
The calls that a warm cache answers are given the short way first: no coroutine, no other thread.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "src" / "muxi_identity" / "client"
SOURCE, TARGET = CLIENT / "asynchronous.py", CLIENT / "synchronous.py"
CACHED = ("resolve_user", "find_user")

HEAD = '''\
"""The synchronous client. Made by scripts/generate_sync.py from asynchronous.py: change that, then `make generate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from muxi_identity.client.asynchronous import AsyncChannel
from muxi_identity.client.blocking import BlockingClient
from muxi_identity.client.operations import Given
from muxi_identity.identity.linking import OnConflict
from muxi_identity.models import (
    ChatReply,
    DeleteResult,
    IdentifierRecord,
    LinkResult,
    ResolvedUser,
    SessionMessages,
    UnlinkResult,
    UserPage,
    UserRecord,
)
'''

CHANNEL_FACTORY = '''
    def channel(self, type: str, *, scope: str | None = None) -> Channel:
        """{doc}"""
        return Channel(self, type, scope)
'''

CHANNEL_INIT = """
    def __init__(self, client: FormationClient, type: str, scope: str | None = None) -> None:
        self._client = client
        self._async = AsyncChannel(client._async, type, scope)
"""


def synchronous(text: str) -> str:
    """Rewrite what a docstring says of the asynchronous client."""
    # Parentheses around an awaited call go with the "await"; those of a call around it, print(await ...), stay.
    text = re.sub(r"(?<!\w)\(await (\w+\.\w+\((?:[^()]|\([^()]*\))*\))\)", r"\1", text)
    text = text.replace("await ", "").replace("AsyncFormationClient", "FormationClient")
    return text.replace("without awaiting", "without another thread")


def docstring(node: ast.AsyncFunctionDef | ast.FunctionDef | ast.ClassDef, indent: str) -> str:
    text = ast.get_docstring(node, clean=False) or ""
    return f'{indent}"""{synchronous(text)}"""\n' if text else ""


def arguments(node: ast.AsyncFunctionDef) -> str:
    plain = [arg.arg for arg in node.args.args if arg.arg != "self"]
    return ", ".join(plain + [f"{arg.arg}={arg.arg}" for arg in node.args.kwonlyargs])


def method(node: ast.AsyncFunctionDef, runner: str) -> str:
    decorators = "".join(f"    @{ast.unparse(each)}\n" for each in node.decorator_list)
    returns = ast.unparse(node.returns) if node.returns else "None"
    head = f"{decorators}    def {node.name}({ast.unparse(node.args)}) -> {returns}:"
    if decorators:
        return f"\n{head} ...\n"
    given = node.args.args[1].arg if len(node.args.args) > 1 else ""
    cached = ""
    if node.name in CACHED and runner == "self":
        cached = (
            f"        cached = self._async._cached({given})\n"
            "        if cached is not None:\n            return cached\n"
        )
    call = f"        return {runner}._run(self._async.{node.name}({arguments(node)}))\n"
    return f"\n{head}\n{docstring(node, '        ')}{cached}{call}"


def generate() -> str:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    client, channel = classes["AsyncFormationClient"], classes["AsyncChannel"]
    factory = next(node for node in client.body if isinstance(node, ast.FunctionDef) and node.name == "channel")
    parts = [HEAD, "\n\nclass FormationClient(BlockingClient):\n", docstring(client, "    ")]
    parts.append(CHANNEL_FACTORY.format(doc=synchronous(ast.get_docstring(factory, clean=False) or "")))
    parts += [method(node, "self") for node in public(client)]
    parts += ["\n\nclass Channel:\n", docstring(channel, "    "), CHANNEL_INIT]
    parts += [method(node, "self._client") for node in public(channel)]
    parts.append('\n\n__all__ = ["Channel", "FormationClient"]\n')
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    done = subprocess.run(command, input="".join(parts), capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout


def public(node: ast.ClassDef) -> list[ast.AsyncFunctionDef]:
    return [
        each
        for each in node.body
        if isinstance(each, ast.AsyncFunctionDef) and not each.name.startswith("_") and each.name != "close"
    ]


def main() -> int:
    made = generate()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(made, encoding="utf-8")
        return 0
    if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != made:
        print("client/synchronous.py is not what client/asynchronous.py makes: run 'make generate'", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
