"""What tests of imports share: rows that meet each other, people to compare, and a program that imports a file.

``python -m tests.importing CONFIG FILE BATCH`` imports FILE into the formation of CONFIG (the JSON of a mapping and a
key), BATCH rows at a time, and says on standard output how far it is. Whoever wants to see what is left of it kills it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muxi_identity import AsyncFormationClient
from muxi_identity.config import FormationConfig, Secret
from muxi_identity.importing import batches
from tests.invariants import Tables
from tests.races.processes import mapping_of

ONCE = "once"
"""The id of an import that a kill may find at its end already: without one it would be imported anew then."""
_TYPES = ("slack", "github", "telegram", "internal", "crm", "anonymous", "api_key")


def random_rows(chance: random.Random, number: int) -> list[dict[str, Any]]:
    """Make up rows out of so few identifiers that many of them meet, typed, untyped and wrong ones among them."""
    return [_row(chance, number) for _ in range(number)]


def _row(chance: random.Random, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {"identifiers": [_identifier(chance, number) for _ in range(chance.choice([1, 1, 2, 2, 3]))]}
    if chance.random() < 0.1:
        row["user_id"] = chance.choice(["usr_alice", "usr_bob", _identifier(chance, number)])
    if chance.random() < 0.15:
        row["verified"] = True
    if chance.random() < 0.1:
        row["external_id"] = f"x{chance.randrange(number)}"
    return row


def _identifier(chance: random.Random, number: int) -> Any:
    who = chance.randrange(number * 2)
    if chance.random() < 0.04:
        return chance.choice(["undefined", "", "guest", {"identifier": "x", "typo": 1}, ["a", "b", "c"]])
    if chance.random() < 0.3:
        return f"person{who}@example.com"
    kind = chance.choice(_TYPES)
    value = f"key_0123456789abcdef{who}" if kind == "api_key" else f"U{who}"
    form = chance.random()
    if form < 0.2:
        return value
    if form < 0.6:
        return (value, kind)
    given = {"identifier": value, "type": kind}
    if form < 0.7:
        given["scope"] = f"T{who % 2}"
    if form > 0.9:
        given["verified"] = True
    if form > 0.97:
        given["metadata"] = {"team": who}
    return given


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def people_of(tables: Tables) -> list[Any]:
    """Return the people of a formation as what can be compared with those of another: without keys and random ids.

    A person is its members, each with its identifiers, the root marked.
    """
    members: dict[int, tuple[bool, bool, list[Any]]] = {
        row["pk"]: (row["pk"] == row["root_pk"], row["established_at"] is not None, []) for row in tables["users"]
    }
    named = {row["pk"]: row["public_id"] for row in tables["users"] if len(row["public_id"]) < 20}
    for row in tables["identifiers"]:
        if row["user_pk"] is not None:
            shown = (row["spelling"], row["type"], row["scope"], row["verified_at"] is not None, row["metadata"])
            members[row["user_pk"]][2].append((*shown, row["unlinked_at"] is None, row["slot"]))
    people: dict[int, list[Any]] = {}
    for row in tables["users"]:
        root, established, identifiers = members[row["pk"]]
        people.setdefault(row["root_pk"], []).append(
            (root, established, named.get(row["pk"], ""), sorted(identifiers, key=repr))
        )
    return sorted((sorted(each, key=repr) for each in people.values()), key=repr)


def kill_midway(config: FormationConfig, path: Path, batch: int, dice: random.Random) -> None:
    """Import a file in a process of its own, and kill that in the middle: batches were done, and others are not."""
    assert config.secret_key is not None
    given = json.dumps([mapping_of(config), config.secret_key.reveal()])
    command = [sys.executable, "-m", "tests.importing", given, str(path), str(batch)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as importing:
        assert importing.stdout is not None
        for _ in range(dice.randint(1, 3)):
            assert '"rows"' in importing.stdout.readline()
        time.sleep(dice.uniform(0, 0.02))  # in a batch, between two, among those that are linked one by one
        importing.kill()
        said = importing.stdout.read()
    assert importing.returncode == -signal.SIGKILL
    assert '"report"' not in said, "the import had ended before it was killed"


async def _import(config: str, path: str, batch: str) -> None:
    mapping, key = json.loads(config)
    read = dataclasses.replace(FormationConfig.from_mapping(mapping), secret_key=Secret(key))
    batches.BATCH = int(batch)
    async with AsyncFormationClient(read) as formation:
        report = await formation.import_users(
            path,
            on_conflict="absorb",
            import_id=ONCE,
            on_progress=lambda progress: print(json.dumps(progress), flush=True),
        )
    print(json.dumps({"report": report}), flush=True)


if __name__ == "__main__":
    asyncio.run(_import(*sys.argv[1:]))
