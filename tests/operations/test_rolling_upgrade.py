"""Old and new code on one database at once: the code of this checkout is the old one, a copy with another migration
and a column that it reads and writes the new one."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from muxi_identity import FormationClient
from muxi_identity.config import FormationConfig, Secret
from muxi_identity.storage import migrate
from muxi_identity.storage.checks import check
from muxi_identity.storage.opening import make_database
from tests.operations.processes import ROOT, SECRET, environment, mapping_of, traffic

_NEXT = '''"""The next one: a column, a table and an index."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("muxi_memories", sa.Column("origin", sa.Text(), nullable=True))
    op.add_column("muxi_sessions", sa.Column("mood", sa.Text(), server_default="calm", nullable=False))
    op.create_table("muxi_more", sa.Column("formation_id", sa.Text(), primary_key=True))
    op.create_index("ix_memories_origin", "muxi_memories", ["formation_id", "origin"])
'''


def newer_code(folder: Path, revision: str) -> Path:
    """Return a copy of the code that is one migration ahead."""
    shutil.copytree(ROOT / "src", folder)  # with what is compiled already: only what is changed here is again
    storage = folder / "muxi_identity" / "storage"
    migration = _NEXT.format(revision=revision, before=migrate.newest())
    (storage / "migrations" / "versions" / f"{revision}_next_one.py").write_text(migration)
    tables = storage / "tables" / "context.py"
    text = tables.read_text()
    told = '    Column("memory_id", Text, nullable=False),\n'
    assert told in text
    tables.write_text(text.replace(told, f'{told}    Column("origin", Text, default="new code"),\n'))
    return folder


@pytest.fixture(params=["sqlite", "postgres"])
def mapping(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "sqlite":
        return mapping_of("sqlite", str(tmp_path / "muxi.db"))
    return mapping_of("postgres", request.getfixturevalue("postgres_cluster").create_database())


def config_of(mapping: dict[str, Any]) -> FormationConfig:
    return dataclasses.replace(FormationConfig.from_mapping(mapping), secret_key=Secret(SECRET))


async def _look(mapping: dict[str, Any]) -> tuple[Any, Any]:
    database = make_database(config_of(mapping).database)
    await database.open(upgrade=False)
    try:
        return await database.read(
            lambda connection: (migrate.current(connection), check(connection, time.time_ns() // 1000))
        )
    finally:
        await database.close()


def test_old_and_new_code_at_once(mapping: dict[str, Any], tmp_path: Path) -> None:
    source = newer_code(tmp_path / "new", "9001")
    # "old" is under way when the schema is upgraded beneath it; "later", old code that was started anew, opens a schema
    # that is newer than itself.
    with traffic(mapping, "old") as old, traffic(mapping, "new", source) as new, traffic(mapping, "later") as later:
        looked = asyncio.run(_look(mapping))
        ended = [each.end() for each in (old, new, later)]
    assert looked == ("9001", [])
    assert [each["newest"] for each in ended] == [migrate.newest(), "9001", migrate.newest()]
    assert [each["errors"] for each in ended] == [[], [], []]
    assert asyncio.run(_look(mapping)) == ("9001", [])
    with FormationClient(config_of(mapping)) as client:
        for each in ended:
            assert each["said"]
            for name, user_id in each["said"].items():
                assert client.resolve_user((name, "github"))["muxi_user_id"] == user_id


def test_a_line_that_takes_something_away(mapping: dict[str, Any], tmp_path: Path) -> None:
    source = newer_code(tmp_path / "new", "2.0001")
    migrating = source / "muxi_identity" / "storage" / "migrate.py"
    migrating.write_text(migrating.read_text().replace("_LINE = 1", "_LINE = 2"))
    with traffic(mapping, "new", source) as new:
        assert new.end()["errors"] == []
    told = subprocess.run(
        [sys.executable, "-c", f"from muxi import FormationClient as C; C({mapping!r}).list_users()"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 1
    assert "ConfigurationError: The database has schema revision 2.0001" in told.stderr
    assert "install the version that upgraded it" in told.stderr
