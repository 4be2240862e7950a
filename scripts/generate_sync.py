"""Make the package ``client/synchronous`` from ``client/asynchronous``.

    python scripts/generate_sync.py            writes it
    python scripts/generate_sync.py --check    exits with 1 where it is not what would be written

Module by module and class by class: every public coroutine method becomes a blocking method of the same signature
that runs it on the client's portal, and every method that returns an asynchronous stream one that returns a blocking
stream. The calls that a warm cache answers are given the short way first: no coroutine, no other thread.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "src" / "muxi_identity" / "client"
SOURCE, TARGET = CLIENT / "asynchronous", CLIENT / "synchronous"
CACHED = ("resolve_user", "find_user")
# Arguments that are wrapped by the first line of a call: no variable of a traceback may hold one.
CONCEALED = ("credential",)
# Written by hand in client/blocking.py, since they are no plain calls.
BASES = {
    "AsyncCalls": "BlockingCalls",
    "AsyncFormationClient": "BlockingClient",
    "AsyncChannel": "BlockingChannel",
}
BY_HAND = {"base.py"}
NOTE = "Made by scripts/generate_sync.py from the module of the same name in client/asynchronous."
Function = ast.AsyncFunctionDef | ast.FunctionDef


def synchronous(text: str) -> str:
    """Rewrite what a docstring says of the asynchronous client."""
    # Parentheses around an awaited call go with the "await"; those of a call around it, print(await ...), stay.
    text = re.sub(r"(?<!\w)\(await (\w+\.\w+\((?:[^()]|\([^()]*\))*\))\)", r"\1", text)
    text = text.replace("await ", "").replace("async for", "for").replace("async with", "with")
    text = re.sub(r"\bAsync(?=[A-Z])", "", text)
    return text.replace("without awaiting", "without another thread")


def docstring(node: Function | ast.ClassDef, indent: str) -> str:
    text = ast.get_docstring(node, clean=False) or ""
    return f'{indent}"""{synchronous(text)}"""\n' if text else ""


def arguments(node: Function) -> str:
    plain = [arg.arg for arg in node.args.args if arg.arg != "self"]
    return ", ".join(plain + [f"{arg.arg}={arg.arg}" for arg in node.args.kwonlyargs])


def method(node: Function) -> str:
    decorators = "".join(f"    @{ast.unparse(each)}\n" for each in node.decorator_list)
    returns = ast.unparse(node.returns) if node.returns else "None"
    head = f"{decorators}    def {node.name}({ast.unparse(node.args)}) -> {synchronous(returns)}:"
    if decorators:
        return f"\n{head} ...\n"
    given = node.args.args[1].arg if len(node.args.args) > 1 else ""
    cached = ""
    if node.name in CACHED:
        cached = (
            f"        cached = self._async._cached(self._async._given({given}))\n"
            "        if cached is not None:\n            return cached\n"
        )
    for name in CONCEALED:
        if name in arguments(node).split(", "):
            cached += f"        {name} = conceal({name})\n"
    call = f"self._async.{node.name}({arguments(node)})"
    if node.name == "channel":
        call = f"Channel(self, {arguments(node).replace('scope=', '')})"
    elif isinstance(node, ast.FunctionDef):
        call = f"{synchronous(returns)}(self._run, {call})"
    else:
        call = f"self._run({call})"
    return f"\n{head}\n{docstring(node, '        ')}{cached}        return {call}\n"


def calls(node: ast.ClassDef) -> list[Function]:
    """Return the methods to generate: public coroutines, and what returns one of our asynchronous classes."""

    def wanted(each: ast.stmt) -> bool:
        if isinstance(each, ast.AsyncFunctionDef):
            return not each.name.startswith("_") and each.name != "close"
        return (
            isinstance(each, ast.FunctionDef)
            and not each.name.startswith("_")
            and each.returns is not None
            and ast.unparse(each.returns).startswith("Async")
        )

    return [each for each in node.body if wanted(each)]  # type: ignore[misc]


def class_text(node: ast.ClassDef) -> str:
    hand = BASES.get(node.name)
    bases = [BASES.get(name := ast.unparse(base), synchronous(name)) for base in node.bases]
    if hand is not None:
        bases = [hand, *(base for base in bases if base != hand)]
    text = f"\n\nclass {synchronous(node.name)}({', '.join(bases)}):\n{docstring(node, '    ')}"
    text += f"\n    _async: {node.name}\n"
    return text + "".join(method(each) for each in calls(node))


def imports(tree: ast.Module, module: str) -> str:
    """Return a module's imports with the synchronous names; what is not used any more is taken out at the end."""
    lines = ["from muxi_identity.client.blocking import BlockingCalls, BlockingChannel, BlockingClient"]
    ours = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    if ours:
        lines.append(f"from {module} import {', '.join(ours)}")
    for node in tree.body:
        if isinstance(node, ast.Import):
            lines.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom):
            twin = (node.module or "").replace("client.asynchronous", "client.synchronous")
            names = ", ".join(alias.name for alias in node.names)
            lines.append(f"from {twin} import {synchronous(names)}")
    return "\n".join(line for line in lines if "synchronous.base" not in line)


def generate(source: Path) -> str:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    about = synchronous((ast.get_docstring(tree, clean=False) or "").replace("asynchronous", "synchronous"))
    if source.name == "__init__.py":
        about = "The synchronous client. Made by scripts/generate_sync.py: change client/asynchronous instead."
    else:
        about = about.splitlines()[0] + f"\n\n{NOTE}\n"
    module = f"muxi_identity.client.asynchronous.{source.stem}"
    parts = [f'"""{about}"""\n\n', imports(tree, module), "\n"]
    parts += [class_text(node) for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            parts.append(f"\n\n{synchronous(ast.unparse(node))}\n")
    if source.name == "__init__.py":  # where ruff takes every import for one that is handed on
        parts[1] = parts[1].split("\n", 1)[1]
    text = "".join(parts)
    for arguments in (["check", "--fix-only", "--quiet", "--select", "F401,I"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(TARGET / source.name), "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)  # noqa: S603
        text = done.stdout
    return text


def main() -> int:
    made = {path.name: generate(path) for path in sorted(SOURCE.glob("*.py")) if path.name not in BY_HAND}
    there = {path.name: path.read_text(encoding="utf-8") for path in sorted(TARGET.glob("*.py"))}
    if "--check" not in sys.argv[1:]:
        TARGET.mkdir(exist_ok=True)
        for name in there.keys() - made.keys():
            (TARGET / name).unlink()
        for name, text in made.items():
            (TARGET / name).write_text(text, encoding="utf-8")
        return 0
    if made != there:
        print("client/synchronous is not what client/asynchronous makes: run 'make generate'", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
