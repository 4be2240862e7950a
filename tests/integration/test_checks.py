"""What the database is asked about itself: nothing is found where nothing is wrong, and each rule finds its own."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from muxi_identity.config import FormationConfig, Secret
from muxi_identity.storage.checks import check
from muxi_identity.storage.opening import make_database
from tests.formations import Time, client_of

ALICE, BOB = ("U1", "slack"), ("U2", "slack")

WRONG = {
    "a user's root is a root": "UPDATE muxi_users SET root_pk = (SELECT min(pk) FROM muxi_users WHERE parent_pk IS NOT"
    " NULL) WHERE parent_pk IS NULL AND public_id = 'usr_c'",
    "a user has its parent's root": "UPDATE muxi_users SET root_pk = (SELECT pk FROM muxi_users WHERE public_id ="
    " 'usr_c') WHERE parent_pk IS NOT NULL",
    "who was merged has one standing merge, into its parent": "DELETE FROM muxi_merges",
    "a standing merge has made its user a member": "UPDATE muxi_users SET parent_pk = NULL, root_pk = pk",
    "an identifier is one person's": "UPDATE muxi_identifiers SET value = 'U1', bucket = (SELECT bucket FROM"
    " muxi_identifiers WHERE spelling = 'U1'), slot = pk WHERE spelling <> 'U1'",
    "a user was created once": "DELETE FROM muxi_history WHERE user_id = 'usr_c'",
    "muxi_sessions: a row lies under whom its identifier belongs to": "UPDATE muxi_sessions SET user_pk = (SELECT pk"
    " FROM muxi_users WHERE public_id = 'usr_c')",
    "muxi_memories: a row has an owner": "UPDATE muxi_memories SET user_pk = 999999",
    "a message is of whom its session is": "UPDATE muxi_messages SET identifier_pk = NULL",
}


async def furnish(config: FormationConfig, time: Time) -> None:
    async with client_of(config, time) as client:
        for who in (ALICE, BOB):
            await client.chat("My budget is $5", user_id=who)
        await client.associate_user_identifiers([ALICE, BOB], on_conflict="merge")
        await client.create_user("usr_c")


async def findings(config: FormationConfig, time: Time) -> dict[str, int]:
    database = make_database(config.database)
    await database.open()
    try:

        def work(connection: Connection) -> Any:
            return check(connection, time.at)

        found = await database.read(work)
        return {each.rule: each.rows for each in found if each.formation_id == config.id}
    finally:
        await database.close()


async def test_nothing_is_wrong(database_config: FormationConfig) -> None:
    time = Time()
    await furnish(database_config, time)
    assert await findings(database_config, time) == {}


@pytest.mark.parametrize("rule", WRONG)
async def test_each_rule_finds_its_own(rule: str, tmp_path: Path) -> None:
    persistent = {"provider": "sqlite", "connection_string": str(tmp_path / "muxi.db")}
    config = FormationConfig.from_mapping({"id": "a", "memory": {"persistent": persistent}})
    assert config.secret_key is None or isinstance(config.secret_key, Secret)
    time = Time()
    await furnish(config, time)
    with sqlite3.connect(tmp_path / "muxi.db") as connection:  # foreign keys are not enforced here
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(WRONG[rule])
    found = await findings(config, time)
    assert found.get(rule, 0) >= 1, found
