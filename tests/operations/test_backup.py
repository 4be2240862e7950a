"""Back-ups made while people write, restored elsewhere: whole, of one moment, and of no use without the key."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import sqlite3
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from muxi_identity import ConfigurationError, FormationClient
from muxi_identity.cli.main import app
from muxi_identity.config import FormationConfig, Secret
from muxi_identity.context.inspection import inspect_formation
from muxi_identity.storage.backup import copy_database
from muxi_identity.storage.checks import check
from muxi_identity.storage.opening import make_database
from tests.formations import dump
from tests.operations.processes import SECRET, mapping_of, traffic
from tests.postgres import PostgresCluster

ANNA = ("anna", "slack")


def config_of(mapping: dict[str, Any], secret: str | None = SECRET) -> FormationConfig:
    config = FormationConfig.from_mapping(mapping)
    return config if secret is None else dataclasses.replace(config, secret_key=Secret(secret))


def furnish(config: FormationConfig) -> None:
    with FormationClient(config) as client:
        client.chat("My budget is $5", user_id=ANNA)
        client.associate_user_identifiers([ANNA, "anna@example.com"])
        client.set_credential(ANNA, "github", "ghp_abcdefghijklmnop")


def is_whole(config: FormationConfig) -> None:
    """Everything holds together, the key fits, credentials open, and people are found."""

    async def look() -> Any:
        database = make_database(config.database)
        await database.open(upgrade=False)
        now = time.time_ns() // 1000
        try:
            return await database.read(
                lambda connection: check(connection, now) + inspect_formation(connection, config, SECRET, now)
            )
        finally:
            await database.close()

    assert asyncio.run(look()) == []
    with FormationClient(config) as client:
        assert "$5" in str(client.chat("What's my budget?", user_id=("anna@example.com", "email")))
        assert client.get_credential_secret(ANNA, "github").reveal() == "ghp_abcdefghijklmnop"


def muxi(config: Path, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [*arguments, "--config", str(config)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUXI_SECRET_KEY", raising=False)


def test_sqlite_while_people_write(tmp_path: Path) -> None:
    mapping = mapping_of("sqlite", str(tmp_path / "muxi.db"))
    furnish(config_of(mapping))
    copies = [tmp_path / f"copy{number}.db" for number in range(3)]
    with traffic(mapping, "t") as writing:
        for copy in copies:
            copy_database(tmp_path / "muxi.db", copy)
        ended = writing.end()
    assert ended["errors"] == []
    for copy in copies:
        is_whole(config_of(mapping_of("sqlite", str(copy))))


@pytest.mark.usefixtures("no_key")
def test_the_command_copies_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "formation.yaml"
    file.write_text("id: f\n")
    furnish(FormationConfig.load(file))
    copy = tmp_path / "safe" / "muxi.db"
    muxi(file, "db", "backup", str(copy), code=6)  # there is no such folder
    copy.parent.mkdir()
    told = muxi(file, "db", "backup", str(copy)).stdout
    assert "Its key is" in told
    assert {stat.S_IMODE(os.stat(each).st_mode) for each in copy.parent.iterdir()} == {0o600}
    assert sorted(each.name for each in copy.parent.iterdir()) == ["muxi.db", "muxi.key"]
    before = copy.read_bytes()
    assert "there already" in muxi(file, "db", "backup", str(copy), code=6).stderr
    assert copy.read_bytes() == before
    # Elsewhere: the same rows, and the same people.
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(copy.parent, elsewhere)
    shutil.copy(file, elsewhere)
    restored = FormationConfig.load(elsewhere / "formation.yaml")
    assert asyncio.run(dump(restored)) == asyncio.run(dump(FormationConfig.load(file)))
    assert "Every rule holds." in muxi(elsewhere / "formation.yaml", "db", "check").stdout
    with FormationClient(restored) as client:
        assert client.get_credential_secret(ANNA, "github").reveal() == "ghp_abcdefghijklmnop"
    # Without its key nobody is made anew in their place, and no key is made that could pass for it.
    (elsewhere / "muxi.key").unlink()
    with pytest.raises(ConfigurationError, match=r"muxi\.key is missing.*put it back"):
        FormationClient(restored).list_users()
    assert not (elsewhere / "muxi.key").exists()
    assert "key-not-given" in muxi(elsewhere / "formation.yaml", "db", "check").stdout
    # With another one neither.
    (elsewhere / "muxi.key").write_text("another key of another file that is long enough")
    with pytest.raises(ConfigurationError, match="is not the key"):
        FormationClient(restored).list_users()
    assert "formation-key" in muxi(elsewhere / "formation.yaml", "db", "check", code=1).stdout


@pytest.mark.usefixtures("no_key")
def test_looking_makes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "formation.yaml"
    file.write_text("id: f\n")
    assert "There is no database file" in muxi(file, "db", "check", code=6).stderr
    assert "There is no database file" in muxi(file, "db", "backup", str(tmp_path / "copy.db"), code=6).stderr
    assert [each.name for each in tmp_path.iterdir()] == ["formation.yaml"]
    with sqlite3.connect(tmp_path / "muxi.db") as connection:
        connection.execute("CREATE TABLE other (a)")
    assert "schema-behind" in muxi(file, "db", "check", code=1).stdout


def run(cluster: PostgresCluster, program: str, *arguments: str) -> None:
    subprocess.run(
        [cluster.binaries / program, *arguments],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={"PGPASSWORD": cluster.password, "PATH": os.defpath, "LC_ALL": "C"},
        timeout=120,
    )


def test_postgres_dump_while_people_write(postgres_cluster: PostgresCluster, tmp_path: Path) -> None:
    source = postgres_cluster.create_database()
    mapping = mapping_of("postgres", source)
    furnish(config_of(mapping))
    file = tmp_path / "muxi.dump"
    with traffic(mapping, "t") as writing:
        run(postgres_cluster, "pg_dump", "--format=custom", f"--file={file}", f"--dbname={source}")
        assert writing.end()["errors"] == []
    target = postgres_cluster.create_database()
    run(postgres_cluster, "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={target}", str(file))
    restored = mapping_of("postgres", target)
    is_whole(config_of(restored))
    with pytest.raises(ConfigurationError, match="is not the key"):
        FormationClient(config_of(restored, "x" * 40)).list_users()
    with pytest.raises(ConfigurationError, match="MUXI_SECRET_KEY is not set"):
        FormationClient(config_of(restored, None)).list_users()


def test_a_dump_brings_back_every_row(postgres_cluster: PostgresCluster, tmp_path: Path) -> None:
    source, target = postgres_cluster.create_database(), postgres_cluster.create_database()
    config = config_of(mapping_of("postgres", source))
    furnish(config)
    file = tmp_path / "muxi.dump"
    run(postgres_cluster, "pg_dump", "--format=custom", f"--file={file}", f"--dbname={source}")
    run(postgres_cluster, "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={target}", str(file))
    assert asyncio.run(dump(config_of(mapping_of("postgres", target)))) == asyncio.run(dump(config))
