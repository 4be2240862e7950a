"""Migrations only add, so that older code goes on while newer code is already there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy import Connection

from muxi_identity import ConfigurationError
from muxi_identity.config import DatabaseConfig, Secret
from muxi_identity.storage import migrate
from muxi_identity.storage.migrations.steps import take_all
from muxi_identity.storage.opening import make_database

BASE = "0005"
"""The last revision whose predecessors may have been anything: what came after it only adds."""
_ADDS = re.compile(
    r"(CREATE (TABLE|INDEX|SEQUENCE|VIRTUAL TABLE|TRIGGER|UNIQUE INDEX)|ALTER TABLE \S+ ADD COLUMN"
    r"|UPDATE muxi_schema_version|INSERT|UPDATE)\b",
    re.IGNORECASE,
)
_LOOKS = re.compile(r"(SELECT|PRAGMA|SET LOCAL|SAVEPOINT|RELEASE|SHOW)\b", re.IGNORECASE)


def objection(statement: str, made: set[str], anew: frozenset[str] = frozenset()) -> str | None:
    """Return why older code could not go on beside ``statement``.

    ``made``: tables that this run has made. ``anew``: indexes that it makes, which may take the place of older ones.
    """
    said = " ".join(statement.split())
    if _LOOKS.match(said):
        return None
    if (dropped := re.fullmatch(r"DROP INDEX (\w+)", said, re.IGNORECASE)) and dropped[1] in anew:
        return None
    if not _ADDS.match(said):
        return f"takes away or changes: {said[:200]}"
    if created := re.match(r"CREATE TABLE (\w+)", said, re.IGNORECASE):
        made.add(created[1])
    if added := re.match(r"ALTER TABLE (\w+) ADD COLUMN (.*)", said, re.IGNORECASE):
        table, column = added.groups()
        if table not in made and "NOT NULL" in column.upper() and "DEFAULT" not in column.upper():
            return f"older code does not fill it: {said[:200]}"
    unique = re.match(r"CREATE UNIQUE INDEX \w+ ON (\w+)", said, re.IGNORECASE)
    if unique and unique[1] not in made:
        return f"older code may break it: {said[:200]}"
    if "NOT NULL" in said.upper() and re.match(r"ALTER TABLE \w+ ALTER", said, re.IGNORECASE):
        return f"older code may break it: {said[:200]}"
    return None


@pytest.mark.parametrize("provider", ["sqlite", "postgres"])
async def test_migrations_only_add(provider: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if provider == "sqlite":
        config = DatabaseConfig("sqlite", path=tmp_path / "muxi.db")
    else:
        config = DatabaseConfig("postgres", url=Secret(request.getfixturevalue("postgres_cluster").create_database()))
    database = make_database(config)
    upgrade = command.upgrade
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "newest", lambda: BASE)
        patch.setattr(command, "upgrade", lambda config, _head: upgrade(config, BASE))
        await database.open()
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    def to_newest(connection: Connection) -> None:
        sa.event.listen(connection, "before_cursor_execute", note)
        take_all(connection)

    try:
        await database.transact(to_newest)
        assert await database.read(migrate.current) == migrate.newest()
    finally:
        await database.close()
    made: set[str] = set()
    assert len(said) > 1
    anew = frozenset(re.findall(r"CREATE INDEX (\w+)", "\n".join(said)))
    assert [found for each in said if (found := objection(each, made, anew))] == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE muxi_users",
        "ALTER TABLE muxi_users DROP COLUMN version",
        "ALTER TABLE muxi_users RENAME COLUMN version TO v",
        "ALTER TABLE muxi_users ADD COLUMN name TEXT NOT NULL",
        "ALTER TABLE muxi_users ALTER COLUMN parent_pk SET NOT NULL",
        "ALTER TABLE muxi_users ADD CONSTRAINT ck CHECK (pk > 0)",
        "CREATE UNIQUE INDEX uq ON muxi_users (formation_id, created_at)",
        "DELETE FROM muxi_history",
        "DROP INDEX ix_users_root",
    ],
)
def test_what_takes_away_is_found(statement: str) -> None:
    assert objection(statement, set())


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE muxi_users ADD COLUMN name TEXT",
        "ALTER TABLE muxi_users ADD COLUMN name TEXT DEFAULT 'x' NOT NULL",
        "CREATE TABLE muxi_more (a TEXT)",
        "CREATE INDEX ix ON muxi_users (formation_id)",
    ],
)
def test_what_adds_is_let_through(statement: str) -> None:
    assert objection(statement, set()) is None


@pytest.mark.parametrize(("revision", "what"), [("2.0001", "too old for"), ("another program's", "no version of this")])
@pytest.mark.parametrize("provider", ["sqlite", "postgres"])
async def test_a_later_line_is_refused(
    provider: str, revision: str, what: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if provider == "sqlite":
        config = DatabaseConfig("sqlite", path=tmp_path / "muxi.db")
    else:
        config = DatabaseConfig("postgres", url=Secret(request.getfixturevalue("postgres_cluster").create_database()))
    database = make_database(config)
    await database.open()
    await database.transact(
        lambda connection: connection.execute(
            sa.text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = :revision"), {"revision": revision}
        )
    )
    await database.close()
    with pytest.raises(ConfigurationError, match=what):
        await make_database(config).open()
