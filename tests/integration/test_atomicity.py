"""All or nothing: whatever goes wrong, wherever it does, every table of the database is as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.config import DatabaseConfig, FormationConfig, Secret
from muxi_identity.errors import (
    AmbiguousIdentifierError,
    IdentifierConflictError,
    IdentifierLimitError,
    IdentifierNotFoundError,
    InvalidIdentifierError,
    InvalidRequestError,
    LastIdentifierError,
    MergeConflictError,
    UserExistsError,
    UserNotFoundError,
)
from muxi_identity.identifiers import BUILT_IN_TYPES, IdentifierRules, TypeRule
from tests.formations import Time, client_of, dump

KEY, OTHER_KEY, REVOKED = "key_7Hq2mZx9Lw4Tn8Rb5Vc1", "key_9Kd3pWs6Jf2Gh7Yt4Bn8", "key_2Xc5vBn8Mq1We4Rt7Yu0"
PAST = "2020-01-01T00:00:00Z"

Operation = Callable[[AsyncFormationClient], Awaitable[Any]]


@pytest.fixture
def config(database_config: FormationConfig, request: pytest.FixtureRequest) -> FormationConfig:
    """A formation in a database of this module's own, small enough to be compared whole."""
    types = {**BUILT_IN_TYPES, "crm": TypeRule(max_per_user=1)}
    # Heartbeats go the same way as what fails here; with this lease none is due before a test has ended.
    cache = dataclasses.replace(database_config.identity.cache, lease=60.0)
    rules = IdentifierRules(types=types, max_per_user=12)
    identity = dataclasses.replace(database_config.identity, rules=rules, cache=cache)
    config = dataclasses.replace(database_config, identity=identity)
    if config.database.provider == "postgres":
        url = Secret(request.getfixturevalue("postgres_url"))
        config = dataclasses.replace(config, database=DatabaseConfig("postgres", url=url))
    return config


@pytest.fixture
async def client(config: FormationConfig) -> AsyncIterator[AsyncFormationClient]:
    async with client_of(config, Time()) as client:
        await populate(client)
        yield client


async def populate(client: AsyncFormationClient) -> None:
    """Alice with three identifiers and a merged second self, Bob, visitors, an ambiguous number, a revoked key."""
    link = client.associate_user_identifiers
    for user_id in ("usr_alice", "usr_alice2", "usr_bob"):
        await client.create_user(user_id)
    await link(["alice@example.com", ("U-ALICE", "slack"), (KEY, "api_key"), (REVOKED, "api_key")], "usr_alice")
    await client.unlink_user_identifier((REVOKED, "api_key"))
    await link(["second@example.com"], "usr_alice2")
    await link(["second@example.com"], "usr_alice", on_conflict="merge")
    await link(["bob@example.com", ("77", "telegram"), ("bob", "crm")], "usr_bob")
    await link([("77", "github")], "usr_alice")
    await link(["alone"])
    await client.chat("My budget is $5,000", user_id="U-VISITOR")
    await client.chat("My name is Ann", user_id=("device-1", "anonymous"))
    await client.resolve_user("old", create_user=True)
    await link(["spare"], (await client.resolve_user("old"))["muxi_user_id"])
    await client.unlink_user_identifier("old")


NINE = [f"new-{number}" for number in range(9)]


def linking(last: Any, user_id: Any = None, **options: Any) -> Operation:
    return lambda client: client.associate_user_identifiers([*NINE, last], user_id, **options)


# What must fail, and how. Each link is of ten identifiers, of which the last is at fault.
REFUSED: list[tuple[str, Operation, type[Exception]]] = [
    ("conflict with a given user", linking("bob@example.com", "usr_alice"), IdentifierConflictError),
    ("conflict of several", linking(("U-ALICE", "slack"), "usr_bob"), IdentifierConflictError),
    (
        "conflict with nobody given",
        lambda client: client.associate_user_identifiers([*NINE[:8], "alice@example.com", "bob@example.com"]),
        IdentifierConflictError,
    ),
    ("conflict under absorb", linking("bob@example.com", "usr_alice", on_conflict="absorb"), IdentifierConflictError),
    ("conflict although verified", linking("bob@example.com", "usr_alice", verified=True), IdentifierConflictError),
    ("conflict with a visitor", linking("U-VISITOR", "usr_alice"), IdentifierConflictError),
    ("conflict of a key", linking((KEY, "api_key"), "usr_bob"), IdentifierConflictError),
    (
        "conflict with an idempotency key",
        linking("bob@example.com", "usr_alice2", idempotency_key="once"),
        IdentifierConflictError,
    ),
    (
        "conflict, with another absorbed before",
        lambda client: client.associate_user_identifiers(
            ["U-VISITOR", *NINE[:8], "bob@example.com"], "usr_alice", on_conflict="absorb"
        ),
        IdentifierConflictError,
    ),
    ("over the limit", linking("new-9", "usr_alice"), IdentifierLimitError),
    (
        "over the limit, all new",
        lambda client: client.associate_user_identifiers([f"new-{number}" for number in range(13)]),
        IdentifierLimitError,
    ),
    ("over the limit by a merge", linking("bob@example.com", "usr_alice", on_conflict="merge"), IdentifierLimitError),
    ("over the limit of a type", linking(("bob2", "crm"), "usr_bob"), IdentifierLimitError),
    (
        "over the limit of a type, all new",
        lambda client: client.associate_user_identifiers([*NINE[:8], ("a", "crm"), ("b", "crm")]),
        IdentifierLimitError,
    ),
    ("ambiguous", linking("77"), AmbiguousIdentifierError),
    ("ambiguous user", linking("new-9", "77"), AmbiguousIdentifierError),
    ("revoked key", linking((REVOKED, "api_key"), "usr_bob"), InvalidIdentifierError),
    ("revoked key, bare", linking(REVOKED, "usr_bob"), InvalidIdentifierError),
    ("unknown user", linking("new-9", "usr_nobody"), UserNotFoundError),
    ("unknown user by identifier", linking("new-9", "nobody@example.com"), UserNotFoundError),
    ("unknown user, known identifier", linking("alice@example.com", "usr_nobody"), UserNotFoundError),
    ("user is a secret that is unknown", linking("new-9", (OTHER_KEY, "api_key")), UserNotFoundError),
    ("invalid", linking("undefined"), InvalidIdentifierError),
    ("invalid type", linking(("x", "no type")), InvalidIdentifierError),
    ("public id", linking("usr_alice"), InvalidIdentifierError),
    ("expired", linking({"identifier": "new-9", "expires_at": PAST}), InvalidRequestError),
    (
        "expired, of a known one",
        linking({"identifier": "alice@example.com", "expires_at": PAST}, "usr_alice2"),
        InvalidRequestError,
    ),
    (
        "anonymous alone",
        lambda client: client.associate_user_identifiers([("device-9", "anonymous")], on_conflict="absorb"),
        InvalidRequestError,
    ),
    ("no such mode", linking("new-9", on_conflict="steal"), InvalidRequestError),
    ("no list", lambda client: client.associate_user_identifiers("alice@example.com"), InvalidRequestError),
    ("empty", lambda client: client.associate_user_identifiers([]), InvalidRequestError),
    ("bytes", lambda client: client.associate_user_identifiers(bytearray(b"alice")), InvalidRequestError),
    ("too many", lambda client: client.associate_user_identifiers(["x"] * 1001), InvalidRequestError),
    ("reason too long", linking("new-9", reason="x" * 1001), InvalidRequestError),
    ("unlink unknown", lambda client: client.unlink_user_identifier("no-one"), IdentifierNotFoundError),
    ("unlink unlinked", lambda client: client.unlink_user_identifier("old"), IdentifierNotFoundError),
    ("unlink ambiguous", lambda client: client.unlink_user_identifier("77"), AmbiguousIdentifierError),
    ("unlink the last", lambda client: client.unlink_user_identifier("alone"), LastIdentifierError),
    ("unlink a public id", lambda client: client.unlink_user_identifier("usr_alice"), InvalidIdentifierError),
    ("delete unknown", lambda client: client.delete_user("usr_nobody"), UserNotFoundError),
    ("delete unknown identifier", lambda client: client.delete_user("no-one"), UserNotFoundError),
    ("delete ambiguous", lambda client: client.delete_user("77"), AmbiguousIdentifierError),
    ("delete merged unasked", lambda client: client.delete_user("usr_alice"), MergeConflictError),
    ("delete by the merged id", lambda client: client.delete_user("usr_alice2"), MergeConflictError),
    ("create what is there", lambda client: client.create_user("usr_alice"), UserExistsError),
    ("create what was merged", lambda client: client.create_user("usr_alice2"), UserExistsError),
    ("create no public id", lambda client: client.create_user("alice"), InvalidRequestError),
    ("create nonsense", lambda client: client.create_user("usr_a b"), InvalidIdentifierError),
    ("resolve unknown", lambda client: client.resolve_user("no-one"), UserNotFoundError),
    ("resolve a revoked key", lambda client: client.resolve_user(REVOKED, create_user=True), UserNotFoundError),
    ("resolve ambiguous", lambda client: client.resolve_user("77", create_user=True), AmbiguousIdentifierError),
    ("chat by an unknown public id", lambda client: client.chat("Hi", "usr_nobody"), UserNotFoundError),
    ("chat by a revoked key", lambda client: client.chat("Hi", REVOKED), UserNotFoundError),
]


async def test_what_is_refused_changes_nothing(
    config: FormationConfig, client: AsyncFormationClient, subtests: pytest.Subtests
) -> None:
    before = await dump(config, formation_only=False)
    for name, operation, kind in REFUSED:
        with subtests.test(name):
            with pytest.raises(kind) as caught:
                await operation(client)
            assert type(caught.value) is kind
            assert await dump(config, formation_only=False) == before


async def test_a_refused_link_does_not_use_its_idempotency_key_up(client: AsyncFormationClient) -> None:
    with pytest.raises(IdentifierConflictError):
        await linking("bob@example.com", "usr_alice2", idempotency_key="once")(client)
    linked = await client.associate_user_identifiers(["new-1"], "usr_alice2", idempotency_key="once")
    assert linked["new_identifiers"] == ["new-1"]


# Failures in the middle


class Injected(Exception):
    """What a test makes a statement fail with."""


@contextlib.contextmanager
def failing_at(client: AsyncFormationClient, number: int) -> Iterator[list[str]]:
    """Fail the ``number``-th statement, counting commits, that goes through SQLAlchemy from now on."""
    database = client._lifecycle.open_formation.database
    engine = database._engine if database.dialect == "sqlite" else database._engine._engine.sync_engine
    seen: list[str] = []

    def count(statement: str) -> None:
        seen.append(statement)
        if len(seen) == number:
            raise Injected

    def on_statement(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        count(statement)

    def on_commit(_connection: Any) -> None:
        count("COMMIT")

    sa.event.listen(engine, "before_cursor_execute", on_statement)
    sa.event.listen(engine, "commit", on_commit)
    try:
        yield seen
    finally:
        sa.event.remove(engine, "before_cursor_execute", on_statement)
        sa.event.remove(engine, "commit", on_commit)


# Each writes what it can in one operation, and goes the long way: one of its buckets is in use.
INTERRUPTED: list[tuple[str, Operation]] = [
    (
        "link that merges, retypes, promotes and inserts",
        lambda client: client.associate_user_identifiers(
            [("U-VISITOR", "slack"), ("device-1", "anonymous"), {"identifier": "spare", "metadata": {"a": 1}}, "new-1",
             ("77", "github")],
            on_conflict="absorb",
            user_id="usr_alice",
            idempotency_key="once",
        ),
    ),
    ("link that takes over", lambda client: client.associate_user_identifiers(
        ["U-VISITOR", "new-1"], "usr_bob", verified=True)),
    ("link of a user with nobody known", lambda client: client.associate_user_identifiers(
        ["old", "new-1"], idempotency_key="once")),
    ("merge of established users", lambda client: client.associate_user_identifiers(
        ["alone"], "usr_bob", on_conflict="merge", reason="the same person")),
    ("first contact where somebody was before", lambda client: client.resolve_user("old", create_user=True)),
    ("unlink", lambda client: client.unlink_user_identifier("bob@example.com")),
    ("unlink of a key", lambda client: client.unlink_user_identifier((KEY, "api_key"))),
    ("create", lambda client: client.create_user("usr_carol")),
    ("chat", lambda client: client.chat("My name is Bob", "bob@example.com")),
    ("delete of a person with others", lambda client: client.delete_user("usr_alice", include_merged=True)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "operation"), INTERRUPTED, ids=[name for name, _ in INTERRUPTED])
async def test_a_failure_at_any_statement_changes_nothing(
    config: FormationConfig, client: AsyncFormationClient, name: str, operation: Operation
) -> None:
    if name.startswith("link that merges"):
        # "spare" belongs to a user made on purpose: only a visitor is absorbed.
        await client.unlink_user_identifier("spare", force=True)
    spellings = ["U-VISITOR", "alice@example.com", "bob@example.com", "old", ("device-1", "anonymous"), KEY]
    known = {repr(each): await client.find_user(each) for each in spellings}
    before = await dump(config, formation_only=False)
    failures = 0
    while True:
        with failing_at(client, failures + 1) as seen:
            try:
                await operation(client)
            except Injected:
                failures += 1
            else:
                break
        assert await dump(config, formation_only=False) == before, seen
        assert {repr(each): await client.find_user(each) for each in spellings} == known, seen
    assert failures >= 4, seen
    assert sum(statement.startswith(("INSERT", "UPDATE", "DELETE")) for statement in seen) >= 2, seen
    assert "COMMIT" in seen
    assert await dump(config, formation_only=False) != before  # undisturbed, it does do something


# Failures inside of the one-statement paths, which know no SQLAlchemy: the database itself refuses a row.

AT_ONCE: list[tuple[str, Operation]] = [
    ("first contact", lambda client: client.resolve_user("new-1", create_user=True)),
    ("link of a new user", lambda client: client.associate_user_identifiers(NINE)),
    ("link to a given user", lambda client: client.associate_user_identifiers(NINE[:5], "usr_bob")),
]
WRITTEN = ("muxi_users", "muxi_identifiers", "muxi_history")


@contextlib.asynccontextmanager
async def refusing(config: FormationConfig, table: str) -> AsyncIterator[None]:
    """Let the database refuse the last row that a statement writes to ``table``."""
    if config.database.path is not None:
        connection = sqlite3.connect(config.database.path)
        try:
            for event in ("INSERT", "UPDATE"):
                connection.execute(
                    f"CREATE TRIGGER refuse_{event} AFTER {event} ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"
                )
            connection.commit()
            yield
            for event in ("INSERT", "UPDATE"):
                connection.execute(f"DROP TRIGGER refuse_{event}")
            connection.commit()
        finally:
            connection.close()
        return
    assert config.database.url is not None
    server = await asyncpg.connect(config.database.url.reveal())
    try:
        await server.execute(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$"
        )
        await server.execute(
            f"CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        yield
        await server.execute(f"DROP TRIGGER refuse ON {table}")
    finally:
        await server.close()


@pytest.mark.parametrize(("name", "operation"), AT_ONCE, ids=[name for name, _ in AT_ONCE])
async def test_a_row_that_the_database_refuses_takes_everything_back(
    config: FormationConfig, client: AsyncFormationClient, name: str, operation: Operation
) -> None:
    before = await dump(config, formation_only=False)
    for table in WRITTEN:
        async with refusing(config, table):
            with pytest.raises(Exception) as caught:  # noqa: PT011 (the driver's, translated or not)
                await operation(client)
            assert not isinstance(caught.value, AssertionError)
        assert await dump(config, formation_only=False) == before, table
        assert await client.find_user("new-1") is None
    await operation(client)
    assert await dump(config, formation_only=False) != before
