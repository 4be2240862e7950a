"""An import is a loop of links, only faster: the same people, the same refusals, whatever meets whatever."""

from __future__ import annotations

import gzip
import io
import random
import re
from pathlib import Path
from typing import Any

import pytest

from muxi_identity import AsyncFormationClient
from muxi_identity.config import FormationConfig
from muxi_identity.errors import (
    AmbiguousIdentifierError,
    ConflictError,
    InvalidRequestError,
    MuxiError,
    NotFoundError,
)
from muxi_identity.importing import batches
from muxi_identity.storage.sqlite import SqliteDatabase
from muxi_identity.storage.tables import identifiers
from tests.importing import people_of, random_rows
from tests.invariants import check_invariants
from tests.long import LONG
from tests.races.processes import variant

REFUSED = (InvalidRequestError, AmbiguousIdentifierError, NotFoundError, ConflictError)
SEEDS = range(40 if LONG else 2)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", 7)


async def loop(formation: AsyncFormationClient, rows: list[dict[str, Any]], on_conflict: str) -> list[tuple[int, str]]:
    """What an import stands for."""
    refused = []
    for line, row in enumerate(rows, 1):
        user, made = row.get("user_id"), False
        try:
            if isinstance(user, str) and user.startswith("usr_") and await formation.find_user(user) is None:
                made = bool(await formation.create_user(user))
            identifiers = [*row.get("identifiers", [])]
            if "external_id" in row:
                identifiers.append((row["external_id"], "internal"))
            if identifiers:
                await formation.associate_user_identifiers(
                    identifiers, user, on_conflict=on_conflict, verified=row.get("verified", False)
                )
        except REFUSED as error:
            refused.append((line, error.code))
            if made:  # in an import both are one
                await formation.delete_user(user)
    return refused


async def before(formation: AsyncFormationClient, rows: list[dict[str, Any]], seed: int) -> None:
    """Some of them are known already: have written in, were linked, are merged."""
    chance = random.Random(seed)
    for row in chance.sample(rows, len(rows) // 3):
        try:
            if chance.random() < 0.5:
                await formation.resolve_user(chance.choice(row["identifiers"]), create_user=True)
            else:
                await formation.associate_user_identifiers(row["identifiers"][:2])
        except MuxiError:
            continue


async def test_progress_counts_rows_and_bytes(tmp_path: Path) -> None:
    lines = b"".join(b'{"identifiers": ["person%d@example.com"]}\n' % number for number in range(20))
    lines += b'{"identifiers": ["person1@example.com", "person2@example.com"]}\n' * 3
    (path := tmp_path / "people.jsonl").write_bytes(lines)
    (packed := tmp_path / "people.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
    sizes: list[Any] = []
    async with AsyncFormationClient.ephemeral() as formation:
        for source in (path, packed, io.BytesIO(lines), [{"identifiers": ["eve@example.com"]}]):
            told: list[Any] = []
            report = await formation.import_users(source, on_progress=told.append)
            assert [each["rows"] for each in told] == sorted({each["rows"] for each in told})
            assert {**report, **told[-1]} == {**told[-1], **report}
            sizes.append((told[-1]["read"], told[-1]["size"]))
        assert len(told) == 1
    size, small = len(lines), packed.stat().st_size
    assert sizes == [(size, size), (small, small), (size, None), (None, None)]


def _told(report: Any) -> Any:
    """Return a report without what differs between two imports of the same: its id, and those of users it made."""
    refusals = [{**each, "message": re.sub(r"usr_\w+", "usr_", each["message"])} for each in report["refusals"]]
    return {**report, "import_id": "", "refusals": refusals}


@pytest.mark.parametrize("database_config", ["sqlite"], indirect=True)
async def test_identifiers_are_written_in_bucket_order(
    database_config: FormationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two imports of the same people in another order would wait for each other for ever."""
    written: list[list[bytes]] = []
    insert_rows = SqliteDatabase.insert_rows

    def noting(self: Any, connection: Any, table: Any, columns: Any, rows: Any) -> None:
        if table is identifiers:
            written.append([row[columns.index("bucket")] for row in rows])
        insert_rows(self, connection, table, columns, rows)

    monkeypatch.setattr(SqliteDatabase, "insert_rows", noting)
    async with AsyncFormationClient(database_config) as formation:
        await formation.import_users({"identifiers": [f"U{number}", f"{number}@x.com"]} for number in range(14))
    assert [len(buckets) for buckets in written] == [14, 14]
    assert all(buckets == sorted(buckets) for buckets in written)


@pytest.mark.parametrize("on_conflict", ["raise", "absorb", "merge"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_as_a_loop(database_config: FormationConfig, seed: int, on_conflict: Any) -> None:
    identity = {"max_identifiers_per_user": 8, "types": {"crm": {"max_per_user": 1}}}
    if seed % 3 == 2:
        identity["match"] = "verified"
    one = variant(database_config, identity)
    other = variant(database_config, identity, id=database_config.id + "-loop")
    rows = random_rows(random.Random(seed + 3), 30)
    async with AsyncFormationClient(one) as ours, AsyncFormationClient(other) as plain:
        for formation in (ours, plain):
            await before(formation, rows, seed)
        rehearsed = await ours.import_users(rows, on_conflict=on_conflict, create_users=True, dry_run=True)
        report = await ours.import_users(rows, on_conflict=on_conflict, create_users=True)
        refused = await loop(plain, rows, on_conflict)
    assert [(each["line"], each["code"]) for each in report["refusals"]] == refused
    assert report["rows"] == len(rows)
    assert _told({**rehearsed, "dry_run": False}) == _told(report)
    assert people_of(await check_invariants(one)) == people_of(await check_invariants(other))
