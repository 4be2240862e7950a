"""A database file whose disk is full: what is there is read, what is new is refused clearly, and nothing is lost."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muxi_identity import AsyncFormationClient, ConfigurationError, FormationConfig, StorageUnavailableError
from muxi_identity.storage.sqlite import SqliteDatabase
from tests.formations import dump
from tests.invariants import check_invariants

LONG = "so it is said, and nobody has heard it before; " * 1_000


class Disk:
    """A disk on which every database file may have so many pages more."""

    def __init__(self) -> None:
        self.is_full = False
        self.connections: list[sqlite3.Connection] = []

    def fill(self) -> None:
        self.is_full = True
        for connection in self.connections:
            self.limit(connection)

    def free(self) -> None:
        self.is_full = False
        for connection in self.connections:
            connection.execute("PRAGMA max_page_count = 1000000")

    def limit(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite makes it what the file has


@pytest.fixture
def config(tmp_path: Path) -> FormationConfig:
    persistent = {"provider": "sqlite", "connection_string": str(tmp_path / "muxi.db")}
    return FormationConfig.from_mapping({"id": "full", "memory": {"persistent": persistent}})


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    connect = SqliteDatabase._connect

    def limited(database: SqliteDatabase) -> sqlite3.Connection:
        connection = connect(database)
        disk.connections.append(connection)
        if disk.is_full:
            disk.limit(connection)
        return connection

    monkeypatch.setattr(SqliteDatabase, "_connect", limited)
    return disk


async def test_nothing_is_lost_and_everything_is_read(
    config: FormationConfig, disk: Disk, subtests: pytest.Subtests
) -> None:
    async with AsyncFormationClient(config) as client:
        await client.chat("My budget is $5,000", "alice")
        bob = await client.resolve_user("bob", create_user=True)
        task = await client.schedule_task("alice", "My list is empty", cron="* * * * *")
        session_id = (await client.list_sessions("alice"))["sessions"][0]["session_id"]
        disk.fill()
        before = await dump(config)
        refused: dict[str, Callable[[], Any]] = {
            "chat": lambda: client.chat(LONG, "alice"),
            "somebody else's chat": lambda: client.chat(LONG, "bob"),
            "a streamed turn": lambda: _streamed(client, LONG),
            "a recorded turn": lambda: client.record_turn("alice", [{"role": "user", "content": LONG}]),
            "a memory": lambda: client.add_memory("alice", LONG[:9_000]),
            "a credential": lambda: client.set_credential("alice", "notion", LONG[:4_000]),
            "a task": lambda: client.schedule_task("alice", LONG[:9_000], cron="0 9 * * *"),
        }
        for name, call in refused.items():
            with subtests.test(name), pytest.raises(StorageUnavailableError, match="disk of the database file is full"):
                await call()
        assert await dump(config) == before
        assert (await client.get_user_context("alice"))["memories"][0]["content"] == "My budget is $5,000"
        assert (await client.get_session_messages(session_id, "alice"))["count"] == 2
        assert (await client.get_task(task["task_id"]))["status"] == "active"
        disk.free()
        assert str(await client.chat("What is my budget?", "alice")) == "Your budget is $5,000."
        assert (await client.chat("Hello", "bob")).user_id == bob["muxi_user_id"]
    await check_invariants(config)


async def _streamed(client: AsyncFormationClient, message: str) -> None:
    async for _ in client.chat_stream(message, "alice"):
        pass


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_formation_opens_again_on_a_full_disk(config: FormationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncFormationClient(config) as client:
        await client.chat("My budget is $5,000", "alice")
    monkeypatch.setattr(os, "fsync", _no_space)
    async with AsyncFormationClient(config) as client:
        assert (await client.get_user_context("alice"))["memories"][0]["content"] == "My budget is $5,000"


async def test_a_key_that_cannot_be_written_leaves_nothing(
    config: FormationConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_space)
        with pytest.raises(ConfigurationError, match="No space left"):
            await AsyncFormationClient(config).resolve_user("alice")
        assert [name for name in os.listdir(tmp_path) if ".key" in name] == []
    async with AsyncFormationClient(config) as client:
        assert (await client.resolve_user("alice", create_user=True))["created"]
