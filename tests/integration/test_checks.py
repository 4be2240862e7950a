"""What the database is asked about itself: nothing where nothing is wrong, and of each planted fault just its rule.

The faults are planted in copies of furnished databases that have lost every constraint and trigger, in a transaction
that is taken back. Healthy rows then stand beside it: another formation with the same keys, and rows of the same times
and lines. What the finding says to mend it with is done there, too, must mend it, and leave those alone. On SQLite all
rules are asked of each fault, on PostgreSQL the one that must find it; ``MUXI_LONG=1`` asks all there too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import time_ns
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, ForeignKeyConstraint
from sqlalchemy.ext.asyncio import create_async_engine

from muxi_identity import LinkCodeError
from muxi_identity.config import DatabaseConfig, FormationConfig
from muxi_identity.context.inspection import inspect_formation
from muxi_identity.storage.checks import NOTICE, RULES, Finding, Rule, check, check_rows, rules_for
from muxi_identity.storage.checks.engine import engine_findings
from muxi_identity.storage.checks.rule import BEGIN, COMMIT
from muxi_identity.storage.checks.times import IN_ORDER
from muxi_identity.storage.opening import make_database
from muxi_identity.storage.tables import metadata
from muxi_identity.storage.tables.search import FILL_WORDS
from tests.formations import Time, client_of
from tests.long import LONG
from tests.postgres import PostgresCluster

SECRET = "k" * 40
KEY = "key_live_0123456789abcdefghij"
D1 = ("D1", "slack")
GONE = 999_999_999

_USER = "(SELECT pk FROM muxi_users WHERE public_id = '{}')"
A, B, C, D, E, H = (_USER.format(f"usr_{name}") for name in "abcdeh")
_COPY = (
    "INSERT INTO muxi_identifiers (formation_id, pk, user_pk, bucket, slot, type, scope, value, spelling, secret,"
    " linked_at) SELECT formation_id, 5000, {user}, bucket, slot + 1, {type}, scope, {value}, {spelling}, {secret},"
    " linked_at FROM muxi_identifiers WHERE {which}"
)
_LINKED = (
    "INSERT INTO muxi_history (formation_id, pk, at, event, user_id, identifier_pk, actor)"
    " SELECT formation_id, 5001, linked_at, 'identifier:link', 'usr_a', pk, 'test' FROM muxi_identifiers"
    " WHERE pk = 5000"
)
_SAME = {"type": "type", "value": "value", "spelling": "spelling", "secret": "secret"}
_SLACK = "spelling = 'D1'"
_SECRET = "type = 'api_key'"
_EMAIL = "spelling = 'd@example.com'"
_UPDATED = "event = 'identifier:update'"
_MERGED = (
    "INSERT INTO muxi_merges (formation_id, merge_id, primary_pk, secondary_pk, merged_at, mode, actor)"
    " VALUES ('f', 'mrg_x', {}, {}, 1, 'merge', 'test')"
)
_MERGED_BY_HISTORY = (
    "INSERT INTO muxi_history (formation_id, pk, at, event, user_id, other_user_id, merge_id, actor)"
    " VALUES ('f', 5000, 1, 'user:merge', '{}', '{}', 'mrg_x', 'test')"
)
HOURS = 2 * 3_600_000_000

# Rule -> what breaks it, and nothing else.
FAULTS: dict[str, tuple[str, ...]] = {
    "user-root": (f"UPDATE muxi_users SET root_pk = {A} WHERE public_id = 'usr_b'",),
    "user-parent-root": (f"UPDATE muxi_users SET root_pk = {D} WHERE public_id = 'usr_b'",),
    "user-parent-cycle": (
        f"UPDATE muxi_users SET parent_pk = {B} WHERE public_id = 'usr_a'",
        f"UPDATE muxi_merges SET primary_pk = {B} WHERE secondary_pk = {A}",
        "UPDATE muxi_history SET user_id = 'usr_b' WHERE event = 'user:merge' AND other_user_id = 'usr_a'",
    ),
    "user-public-id": ("UPDATE muxi_users SET public_id = 'usr_g!' WHERE public_id = 'usr_g'",),
    "user-created": ("DELETE FROM muxi_history WHERE event = 'user:create' AND user_id = 'usr_c'",),
    "user-lost": ("DELETE FROM muxi_users WHERE public_id = 'usr_g'",),
    "user-erased": (
        "INSERT INTO muxi_history (formation_id, pk, at, event, user_id, actor)"
        " VALUES ('f', 5000, 1, 'user:delete', 'usr_g', 'test')",
    ),
    "user-established": ("UPDATE muxi_users SET established_at = NULL WHERE public_id = 'usr_d'",),
    "user-version": ("UPDATE muxi_users SET version = -5",),
    "identifier-slot": (f"UPDATE muxi_identifiers SET slot = -1 WHERE {_SLACK}",),
    "identifier-bucket-form": (f"UPDATE muxi_identifiers SET bucket = :short WHERE {_SLACK}",),
    "identifier-type": (f"UPDATE muxi_identifiers SET type = 'No Such Type!!' WHERE {_SLACK}",),
    "identifier-scope": (f"UPDATE muxi_identifiers SET scope = ' T1' WHERE {_SLACK}",),
    "identifier-normal-form": (f"UPDATE muxi_identifiers SET value = 'D@EXAMPLE.COM' WHERE {_EMAIL}",),
    "identifier-spelling": (f"UPDATE muxi_identifiers SET spelling = 'other@example.com' WHERE {_EMAIL}",),
    "identifier-untyped": (f"UPDATE muxi_identifiers SET type = NULL WHERE {_EMAIL}",),
    "identifier-twice": (_COPY.format(user=A, which=_SLACK, **_SAME), _LINKED),
    "identifier-secret-twice": (_COPY.format(user=A, which=_SECRET, **_SAME), _LINKED),
    "identifier-secret-revived": (
        _COPY.format(user=A, which=_SECRET, **_SAME),
        _LINKED,
        f"UPDATE muxi_identifiers SET expires_at = linked_at WHERE {_SECRET} AND pk <> 5000",
    ),
    "identifier-in-clear": (
        f"UPDATE muxi_identifiers SET secret = false, value = '{KEY}', spelling = '{KEY}' WHERE {_SECRET}",
    ),
    "identifier-secret-hint": (f"UPDATE muxi_identifiers SET spelling = '{KEY}' WHERE {_SECRET}",),
    "identifier-secret-untyped": (f"UPDATE muxi_identifiers SET type = NULL WHERE {_SECRET}",),
    "identifier-secret-elsewhere": (
        _COPY.format(user=A, type="NULL", value=f"'{KEY}'", spelling=f"'{KEY}'", secret="false", which=_SECRET),
        _LINKED,
    ),
    "identifier-erased": (f"UPDATE muxi_identifiers SET value = '' WHERE {_SLACK}",),
    "identifier-erased-rest": ("UPDATE muxi_identifiers SET value = '', spelling = '' WHERE spelling = 'D2'",),
    "identifier-link-recorded": ("DELETE FROM muxi_history WHERE event = 'identifier:link'",),
    "identifier-unlink-recorded": ("UPDATE muxi_identifiers SET unlinked_at = NULL WHERE spelling = 'D2'",),
    "identifier-times": (f"UPDATE muxi_identifiers SET linked_at = linked_at - 1000 WHERE {_SLACK}",),
    "merge-of-member": (f"DELETE FROM muxi_merges WHERE secondary_pk = {B}",),
    "merge-standing": (_MERGED.format(A, D), _MERGED_BY_HISTORY.format("usr_a", "usr_d")),
    "merge-self": (
        "UPDATE muxi_history SET other_user_id = 'usr_d' WHERE merge_id IN (SELECT merge_id FROM muxi_merges WHERE"
        " undone_at IS NOT NULL)",
        f"UPDATE muxi_merges SET primary_pk = {D}, secondary_pk = {D} WHERE undone_at IS NOT NULL",
        f"DELETE FROM muxi_separations WHERE {D} IN (one_pk, other_pk)",
    ),
    "merge-mode": ("UPDATE muxi_merges SET mode = 'force' WHERE undone_at IS NOT NULL",),
    "merge-recorded": ("DELETE FROM muxi_history WHERE event = 'user:merge' AND other_user_id = 'usr_b'",),
    "merge-undone-recorded": ("DELETE FROM muxi_history WHERE event = 'user:unmerge'",),
    "merge-kept": (
        "DELETE FROM muxi_merges WHERE undone_at IS NOT NULL",
        f"DELETE FROM muxi_separations WHERE {D} IN (one_pk, other_pk)",
    ),
    "merge-separated": (f"DELETE FROM muxi_separations WHERE {D} IN (one_pk, other_pk)",),
    "split-separated": (f"DELETE FROM muxi_separations WHERE {H} IN (one_pk, other_pk)",),
    "separation-recorded": (
        "INSERT INTO muxi_separations SELECT 'f', min(pk), max(pk), 1 FROM muxi_users"
        " WHERE public_id IN ('usr_a', 'usr_d')",
    ),
    "history-names": ("UPDATE muxi_history SET other_user_id = 'usr_a@b.example' WHERE event = 'identifier:move'",),
    "history-details": ("""UPDATE muxi_history SET details = '{"said": "a@b.example"}' WHERE details IS NOT NULL""",),
    "history-event": (f"UPDATE muxi_history SET event = 'identifier:frobnicate' WHERE {_UPDATED}",),
    "history-form": ("UPDATE muxi_history SET merge_id = 'mrg_x' WHERE event = 'user:split'",),
    "history-identifier-user": (f"UPDATE muxi_history SET user_id = 'usr_g' WHERE {_UPDATED}",),
    "history-identifier-moved": ("UPDATE muxi_history SET user_id = 'usr_g' WHERE event = 'identifier:move'",),
    "session-audience": ("UPDATE muxi_sessions SET audience = 'everybody'",),
    "session-form": ("UPDATE muxi_sessions SET session_id = ''",),
    "session-times": ("UPDATE muxi_sessions SET created_at = last_activity_at + 1",),
    "message-owner": (f"UPDATE muxi_messages SET user_pk = {A}, identifier_pk = NULL",),
    "message-time": ("UPDATE muxi_messages SET created_at = created_at + 1000000000",),
    "message-role": ("UPDATE muxi_messages SET role = 'system'",),
    "memory-form": ("UPDATE muxi_memories SET memory_id = 'x', type = '' WHERE key = 'budget'",),
    "memory-key": ("UPDATE muxi_memories SET key = '#0' WHERE key LIKE '#%'",),
    "memory-words": ("UPDATE muxi_memories SET content = 'Something else' WHERE key = 'budget'",),
    "working-kind": ("UPDATE muxi_working_memory SET kind = 'message'",),
    "working-bounds": ("UPDATE muxi_working_memory SET expires_at = created_at - 1",),
    "preference-key": ("UPDATE muxi_preferences SET key = ' language'",),
    "credential-place": ("UPDATE muxi_credentials SET service = 'Git Hub'",),
    "credential-form": ("UPDATE muxi_credentials SET ciphertext = :short",),
    # Of one alone: several would be the synopsis of somebody who has two.
    "fk_synopses_user": (
        f"UPDATE muxi_synopses SET user_pk = {GONE} WHERE user_pk = (SELECT min(user_pk) FROM muxi_synopses)",
    ),
    "synopsis-whole": ("UPDATE muxi_synopses SET basis = NULL WHERE text IS NOT NULL",),
    "synopsis-basis": (f"UPDATE muxi_synopses SET basis = basis || ',' || {A} || ':' || 0 WHERE text IS NOT NULL",),
    "task-form": ("UPDATE muxi_tasks SET message = ' ' WHERE claim IS NULL",),
    "task-state": ("UPDATE muxi_tasks SET status = 'sleeping' WHERE claim IS NULL",),
    "task-due": ("UPDATE muxi_tasks SET next_run_at = NULL WHERE claim IS NULL",),
    "task-claim": ("UPDATE muxi_tasks SET claimed_until = NULL",),
    "task-claim-run": ("UPDATE muxi_task_runs SET status = 'lost', finished_at = started_at WHERE status = 'running'",),
    "task-run-claimed": ("UPDATE muxi_tasks SET claim = NULL, claimed_until = NULL",),
    "task-run-state": ("UPDATE muxi_task_runs SET attempt = 0",),
    "task-run-owner": (f"UPDATE muxi_task_runs SET user_pk = {A}, identifier_pk = NULL",),
    "link-code-form": ("UPDATE muxi_link_codes SET code_hash = :short",),
    "json-identifiers-metadata": ("UPDATE muxi_identifiers SET metadata = '[]'",),
    "json-sessions-context": ("UPDATE muxi_sessions SET context = '{'",),
    "json-memories-metadata": ("UPDATE muxi_memories SET metadata = 'x'",),
    "json-preferences-value": ("UPDATE muxi_preferences SET value = ''",),
    "outbox-form": ("UPDATE muxi_outbox SET endpoint = ''",),
    "outbox-claim": ("UPDATE muxi_outbox SET claim = 'x'",),
    "outbox-attempts": ("UPDATE muxi_outbox SET attempts = 1",),
    "outbox-body": ("UPDATE muxi_outbox SET user_id = 'usr_x'",),
    "idempotency-answer": ("UPDATE muxi_idempotency SET answer = '{}'",),
    "idempotency-form": ("UPDATE muxi_idempotency SET fingerprint = :short",),
    "request-form": ("UPDATE muxi_requests SET answer = :short",),
    "server-key-form": ("UPDATE muxi_api_keys SET digest = :short",),
    "import-form": ("UPDATE muxi_imports SET claim = ''",),
    "import-progress": ("UPDATE muxi_imports SET pending = '[7]'",),
    "import-notes": ("UPDATE muxi_import_notes SET code = ''",),
    "link-attempts": ("UPDATE muxi_link_attempts SET failures = 0",),
    "time-identifiers": (f"UPDATE muxi_identifiers SET expires_at = 1000000000000000000 WHERE {_SLACK}",),
    "time-users": ("UPDATE muxi_users SET created_at = -5",),
    "time-history": (f"UPDATE muxi_history SET at = -5 WHERE {_UPDATED}",),
    "time-ahead": ("UPDATE muxi_preferences SET updated_at = updated_at + 100000000000000",),
    "order-task-runs-finished-at": (
        f"UPDATE muxi_task_runs SET finished_at = started_at - {HOURS} WHERE finished_at IS NOT NULL",
    ),
    "order-identifiers-expires-at": (f"UPDATE muxi_identifiers SET expires_at = linked_at - {HOURS} WHERE {_SLACK}",),
    "order-outbox-failed-at": (
        f"UPDATE muxi_outbox SET attempts = 1, error = 'refused', failed_at = created_at - {HOURS}",
    ),
    "key-twice": ("UPDATE muxi_preferences SET pk = (SELECT min(pk) FROM muxi_messages)",),
    "key-positive": ("UPDATE muxi_preferences SET pk = -1",),
    "key-ahead": ("UPDATE muxi_preferences SET pk = 1000000",),
    "formation-form": ("UPDATE muxi_formations SET key_check = :short",),
    "formation-missing": ("UPDATE muxi_api_keys SET formation_id = 'nobody'",),
    "bool_identifiers_secret": ("UPDATE muxi_identifiers SET secret = 7 WHERE secret",),
    "fk_identifiers_user": (f"UPDATE muxi_identifiers SET user_pk = {GONE} WHERE spelling = 'A1'",),
    "fk_users_root": (f"UPDATE muxi_users SET root_pk = {GONE} WHERE parent_pk IS NOT NULL",),
    "nn_users": ("UPDATE muxi_users SET created_at = NULL",),
    "ck_users_not_own_parent": ("UPDATE muxi_users SET parent_pk = pk WHERE public_id = 'usr_b'",),
    "ck_users_root_has_no_parent": (
        f"UPDATE muxi_users SET parent_pk = {C} WHERE public_id = 'usr_d'",
        _MERGED.format(C, D),
        _MERGED_BY_HISTORY.format("usr_c", "usr_d"),
    ),
    "ck_identifiers_owned": ("UPDATE muxi_identifiers SET user_pk = NULL WHERE spelling = 'A1'",),
    "ck_identifiers_scope_has_type": (f"UPDATE muxi_identifiers SET scope = 'T1', type = NULL WHERE {_SLACK}",),
    "ck_identifiers_secret_not_kept": (f"UPDATE muxi_identifiers SET value = '{KEY}' WHERE {_SECRET}",),
    "ck_separations_order": (
        "UPDATE muxi_merges SET undone_at = NULL WHERE undone_at IS NOT NULL",
        f"UPDATE muxi_separations SET one_pk = other_pk, other_pk = one_pk WHERE {D} IN (one_pk, other_pk)",
    ),
}
SQLITE_FAULTS = {
    "memory-index": ("UPDATE muxi_memory_words SET words = 'else' WHERE words LIKE '%budget%'",),
    "memory-index-left": (
        "INSERT INTO muxi_memory_words (owner, memory, words, pk) VALUES ('66u1', '66m5000', 'gone', 5000)",
    ),
}
POSTGRES_FAULTS = {
    "memory-index": ("UPDATE muxi_memories SET lexemes = 'else' WHERE key = 'budget'",),
    "position-ahead": ("UPDATE muxi_outbox SET position = position + 1000000",),
}
# What follows from a fault by itself: the same row breaks these as well.
ALSO = {
    "user-public-id": {"user-created", "user-lost"},
    **{f"fk_{table}_{key}": {"message-owner"} for table in ("sessions", "messages") for key in ("user", "provenance")},
    **{f"fk_{table}_{key}": {"task-run-owner"} for table in ("tasks", "task_runs") for key in ("user", "provenance")},
    "fk_task_runs_task": {"task-claim-run"},
    "fk_memories_user": {"memory-index"},
    "fk_users_parent": {"merge-of-member", "merge-standing"},
    "fk_merges_primary": {"merge-of-member", "merge-standing", "merge-separated", "separation-recorded"},
    "fk_merges_secondary": {
        *("merge-of-member", "merge-recorded", "merge-undone-recorded", "merge-separated", "separation-recorded"),
    },
    "fk_separations_one": {"ck_separations_order", "merge-separated", "split-separated"},
    "fk_separations_other": {"merge-separated", "split-separated"},
    "fk_import_notes_import": {"import-progress"},
    "ck_users_not_own_parent": {"merge-of-member", "merge-standing"},
    "ck_users_root_has_no_parent": {"user-parent-root"},
    "ck_separations_order": {"merge-standing", "merge-undone-recorded", "separation-recorded"},
    "time-merges": {"merge-recorded"},
    "order-merges-undone-at": {"merge-undone-recorded"},
    "order-identifiers-unlinked-at": {"identifier-times"},
}
# The same of a row that is there twice.
TWICE = {"muxi_history": {"user-created"}, "muxi_merges": {"merge-of-member"}, "muxi_import_notes": {"import-progress"}}


def _generic_faults() -> dict[str, tuple[str, ...]]:
    """A fault for every key of the schema, made as the rules are: from the tables."""
    faults: dict[str, tuple[str, ...]] = {}
    for table in metadata.sorted_tables:
        for constraint in table.foreign_key_constraints:
            faults[str(constraint.name)] = _foreign_fault(constraint)
        for name in _unique_names(table):
            faults[name] = (f"INSERT INTO {table.name} SELECT * FROM {table.name} LIMIT 1",)
        required = next(column.name for column in reversed(table.columns) if not column.nullable)
        faults[f"nn_{_short(table)}"] = (f'UPDATE {table.name} SET "{required}" = NULL',)
        for column in table.columns:
            if isinstance(column.type, sa.Boolean):
                faults[f"bool_{_short(table)}_{column.name}"] = (f"UPDATE {table.name} SET {column.name} = 7",)
        times = [column.name for column in table.columns if column.name == "at" or column.name.endswith("_at")]
        if times:
            faults[f"time-{_short(table).replace('_', '-')}"] = (
                f"UPDATE {table.name} SET {times[0]} = -5 WHERE {times[0]} IS NOT NULL",
            )
    for name, first, then in IN_ORDER:
        rule = f"order-{name.removeprefix('muxi_')}-{then}".replace("_", "-")
        faults[rule] = (f"UPDATE {name} SET {then} = {first} - {HOURS} WHERE {then} IS NOT NULL",)
    return faults


def _foreign_fault(constraint: ForeignKeyConstraint) -> tuple[str, ...]:
    table, own = constraint.table.name, [element.parent.name for element in constraint.elements]
    if own[1:] == ["user_pk", "identifier_pk"]:
        return (f"UPDATE {table} SET identifier_pk = {GONE}",)
    return (f"UPDATE {table} SET {own[-1]} = {GONE} WHERE {own[-1]} IS NOT NULL",)


def _unique_names(table: sa.Table) -> list[str]:
    constraints = [
        each for each in table.constraints if isinstance(each, sa.PrimaryKeyConstraint | sa.UniqueConstraint)
    ]
    return [*(str(each.name) for each in constraints), *(str(each.name) for each in table.indexes if each.unique)]


def _short(table: sa.Table) -> str:
    return table.name.removeprefix("muxi_")


GENERIC = _generic_faults()
# What mends these is for a person to decide or to call: the finding shows where to look.
_BY_HAND = {
    "key-twice",
    "key-positive",
    "formation-form",
    "formation-missing",
    "memory-words",
    "time-ahead",
    "user-erased",
}
# In the copy on PostgreSQL the column is generated no longer.
BY_HAND = {"sqlite": _BY_HAND, "postgresql": {*_BY_HAND, "memory-index"}}


def fault_of(rule: Rule, dialect: str) -> tuple[str, ...] | None:
    """Return what breaks ``rule``, None where nobody has planted anything."""
    own = SQLITE_FAULTS if dialect == "sqlite" else POSTGRES_FAULTS
    return own.get(rule.name) or FAULTS.get(rule.name) or GENERIC.get(rule.name)


@dataclass
class Loose:
    """A furnished database without constraints; ``broken_by`` plants a fault, asks, and takes it back."""

    dialect: str
    now: int
    engine: Any
    loop: asyncio.AbstractEventLoop | None = None

    def broken_by(self, fault: tuple[str, ...], rules: list[Rule], rule: Rule) -> tuple[set[str], set[str]]:
        """Return which of ``rules`` the fault breaks, and which are broken after ``rule`` was mended."""

        def work(connection: Connection) -> tuple[set[str], set[str]]:
            for statement in fault:
                given = {"short": b"short"} if ":short" in statement else {}
                assert connection.execute(sa.text(statement), given).rowcount > 0, statement
            _stand_by(connection)
            found = [finding for each in rules for finding in each.findings(connection, self.now)]
            for finding in found:
                run_statements(connection, [finding] if finding.rule == rule.name else [])
            left = {finding.rule for each in rules for finding in each.findings(connection, self.now)}
            assert _bystanders_hurt(connection) == []
            return {finding.rule for finding in found}, left

        return self.run(work)

    def run(self, work: Any) -> Any:
        if self.loop is None:
            with self.engine.connect() as connection, contextlib.closing(connection.begin()) as transaction:
                found = work(connection)
                transaction.rollback()
            return found

        async def asynchronously() -> Any:
            async with self.engine.connect() as connection:
                await connection.begin()
                found = await connection.run_sync(work)
                await connection.rollback()
                return found

        return self.loop.run_until_complete(asynchronously())


def run_statements(connection: Connection, found: list[Finding]) -> None:
    """Run what findings say to mend them with, inside of the transaction of a test."""
    for finding in found:
        for statement in finding.statements:
            if statement not in (BEGIN, COMMIT):
                connection.exec_driver_sql(statement)


# Rows of "f" beside those of a fault: they have the same time, line or first key, and another of what callers choose.
_BESIDE = {
    "muxi_api_keys": {"role": "'client'"},
    "muxi_idempotency": {"key": "key || ' beside'"},
    "muxi_import_notes": {"import_id": "'beside'"},
    "muxi_imports": {"import_id": "'beside'"},
    "muxi_requests": {"key": "fingerprint"},
}


_LIKE_G = {"formation_id": "'g' AS formation_id", "body": """replace(body, '"f"', '"g"') AS body"""}


def _keep(connection: Connection) -> None:
    """Put healthy rows aside, which :func:`_stand_by` brings in: "g" is like "f"."""
    for table in metadata.sorted_tables:
        other = ", ".join(_LIKE_G.get(each.name, f'"{each.name}"') for each in table.columns)
        connection.exec_driver_sql(f"CREATE TABLE kept_{table.name} AS SELECT {other} FROM {table.name}")
        if table.name in _BESIDE:
            beside = ", ".join(_BESIDE[table.name].get(each.name, each.name) for each in table.columns)
            connection.exec_driver_sql(f"INSERT INTO kept_{table.name} SELECT {beside} FROM {table.name}")
    of_two = "FROM muxi_separations WHERE other_pk = (SELECT max(other_pk) FROM muxi_separations)"
    same_time = "SELECT formation_id, one_pk, other_pk, (SELECT min(separated_at) FROM muxi_separations)"
    connection.exec_driver_sql(f"INSERT INTO kept_muxi_separations {same_time} {of_two}")
    connection.exec_driver_sql(f"DELETE {of_two}")


def _stand_by(connection: Connection) -> None:
    inserts = [
        f"INSERT INTO {table.name} ({_names(table)}) SELECT {_names(table)} FROM kept_{table.name}"
        for table in metadata.sorted_tables
    ]
    if connection.dialect.name == "postgresql":
        every = ", ".join(f"i{number} AS ({insert})" for number, insert in enumerate(inserts))
        connection.exec_driver_sql(f"WITH {every} SELECT 1")
    else:
        for insert in (*inserts, f"{FILL_WORDS} WHERE formation_id = 'g'"):
            connection.exec_driver_sql(insert)


def _bystanders_hurt(connection: Connection) -> list[str]:
    """Return the tables in which a mend changed rows that nothing was wrong with."""
    gone = " UNION ALL ".join(
        f"SELECT '{table.name}' WHERE EXISTS"
        f" (SELECT {_names(table)} FROM kept_{table.name} EXCEPT SELECT {_names(table)} FROM {table.name})"
        for table in metadata.sorted_tables
    )
    return list(connection.exec_driver_sql(gone).scalars())


def _names(table: sa.Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


async def use_everything(config: FormationConfig, time: Time) -> None:
    """Leave a row of every kind that clients write."""
    async with client_of(config, time) as client:
        for name in "abcdefgh":
            await client.create_user(f"usr_{name}")
        for name in ("A1", "B1", "C1", "D1", "D2"):
            given = {"identifier": name, "type": "slack", "metadata": {"team": 1}}
            await client.associate_user_identifiers([given], f"usr_{name[0].lower()}", idempotency_key=f"key {name}")
        await client.associate_user_identifiers([(KEY, "api_key"), "d@example.com", "bare"], "usr_d")
        await client.unlink_user_identifier(("D2", "slack"))
        await client.merge_users("usr_a", "usr_b")
        await client.merge_users("usr_c", "usr_a")
        undone = await client.merge_users("usr_d", "usr_e")
        await client.unmerge_users(undone["merge_id"])
        await client.delete_user("usr_f")
        await client.associate_user_identifiers([("H1", "slack"), ("H2", "slack"), ("H3", "slack")], "usr_h")
        for name in ("H2", "H3"):
            await client.split_user("usr_h", [(name, "slack")])
        await client.associate_user_identifiers([D1], "usr_d", verified=True)
        reply = await client.chat("My budget is $5", user_id=D1)
        await client.set_session_context(reply["session_id"], D1, {"topic": "money"})
        await client.add_memory(D1, "Allergic to peanuts", metadata={"from": "form"})
        await client.add_working_memory(D1, "Peanuts")
        await client.set_preference(D1, "language", "pt")
        await client.set_credential(D1, "github", "ghp_abcdefghijklmnop")
        await client.get_synopsis(D1)
        for _ in range(2):
            await client.schedule_task(D1, "Anything new?", cron="0 9 * * *")
        await client.create_link_code(D1)
        with pytest.raises(LinkCodeError):
            await client.redeem_link_code("AAAA-AAAA", ("A1", "slack"), confirm=True)


async def furnish(config: FormationConfig, time: Time) -> None:
    """Leave a row of every kind."""
    await use_everything(config, time)
    async with client_of(config, time) as client:
        await client.import_users([{"identifiers": ["i@example.com"]}, {"identifiers": ["undefined"]}])
    database = make_database(config.database)
    await database.open()
    try:
        await database.transact(_serve)
    finally:
        await database.close()


def _serve(connection: Connection) -> None:
    """What workers and servers write: a run that is under way, a request that was answered, a key that was made."""
    task = connection.execute(sa.text("SELECT * FROM muxi_tasks ORDER BY pk LIMIT 1")).one()
    connection.execute(
        sa.text("UPDATE muxi_tasks SET claim = 'run_1', claimed_until = 2, attempts = 1 WHERE pk = :pk"),
        {"pk": task.pk},
    )
    (pk,) = connection.execute(sa.text("SELECT max(pk) FROM muxi_history")).one()
    connection.execute(sa.text("UPDATE muxi_formations SET next_key = next_key + 10000"))
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT setval('muxi_keys', 10000)"))
    tables = metadata.tables
    ran = {
        "formation_id": "f",
        "user_pk": task.user_pk,
        "identifier_pk": task.identifier_pk,
        "task_pk": task.pk,
        "due_at": task.created_at,
        "started_at": task.created_at,
        "attempt": 1,
        "missed": 0,
    }
    for number, status, finished_at in ((1, "running", None), (2, "succeeded", task.created_at)):
        names = {"pk": pk + number, "run_id": f"run_{number}", "status": status, "finished_at": finished_at}
        connection.execute(tables["muxi_task_runs"].insert(), {**ran, **names})
    common = {"formation_id": "f", "created_at": 1}
    connection.execute(
        tables["muxi_requests"].insert(),
        {**common, "key": b"k" * 32, "fingerprint": b"f" * 32, "claim": "c", "claimed_until": 2, "answer": b"a" * 40},
    )
    connection.execute(tables["muxi_api_keys"].insert(), {**common, "role": "admin", "digest": b"d" * 32})


def config_of(provider: str, where: str) -> FormationConfig:
    os.environ["MUXI_SECRET_KEY"] = SECRET
    try:
        persistent = {"provider": provider, "connection_string": where}
        hook = {"url": "https://example.com/hooks", "secret": "whsec_" + "QUJD" * 12}
        return FormationConfig.from_mapping({"id": "f", "memory": {"persistent": persistent}, "webhooks": [hook]})
    finally:
        del os.environ["MUXI_SECRET_KEY"]


def _loosen(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        connection.exec_driver_sql(f"CREATE TABLE loose AS SELECT * FROM {table.name}")
        connection.exec_driver_sql(f"DROP TABLE {table.name}" + " CASCADE" * (connection.dialect.name == "postgresql"))
        connection.exec_driver_sql(f"ALTER TABLE loose RENAME TO {table.name}")
    _keep(connection)


@pytest.fixture(scope="module")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[FormationConfig, Time]:
    config, time = config_of("sqlite", str(tmp_path_factory.mktemp("checks") / "muxi.db")), Time()
    asyncio.run(furnish(config, time))
    return config, time


@pytest.fixture(scope="module")
def postgres_database(postgres_cluster: PostgresCluster) -> tuple[FormationConfig, Time]:
    config, time = config_of("postgres", postgres_cluster.create_database()), Time()
    asyncio.run(furnish(config, time))
    return config, time


@pytest.fixture(scope="module")
def loose_sqlite(
    sqlite_file: tuple[FormationConfig, Time], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loose]:
    config, time = sqlite_file
    assert config.database.path is not None
    copy = tmp_path_factory.mktemp("loose") / "muxi.db"
    with contextlib.closing(sqlite3.connect(config.database.path)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))
    engine = _sqlite_engine(copy)
    with engine.begin() as connection:
        _loosen(connection)
    yield Loose("sqlite", time.at, engine)
    engine.dispose()


def _sqlite_engine(path: Path) -> sa.Engine:
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(path, isolation_level=None))
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


@pytest.fixture(scope="module")
def loose_postgres(postgres_database: tuple[FormationConfig, Time]) -> Iterator[Loose]:
    config, time = postgres_database
    assert config.database.url is not None
    loop = asyncio.new_event_loop()
    engine = create_async_engine(config.database.url.reveal().replace("postgresql://", "postgresql+asyncpg://"))
    name = f"loose_{time.at}"
    loop.run_until_complete(_copy_database(engine, config, name))
    copy = create_async_engine(engine.url.set(database=name))

    async def loosen() -> None:
        async with copy.begin() as connection:
            await connection.run_sync(_loosen)

    loop.run_until_complete(loosen())
    yield Loose("postgresql", time.at, copy, loop)
    loop.run_until_complete(copy.dispose())
    loop.close()


async def _copy_database(engine: Any, config: FormationConfig, name: str) -> None:
    source = engine.url.database
    await engine.dispose()
    admin = create_async_engine(engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(sa.text(f'CREATE DATABASE "{name}" TEMPLATE "{source}"'))
    await admin.dispose()


@pytest.mark.parametrize("place", ["sqlite_file", "postgres_database"])
def test_nothing_is_wrong(place: str, request: pytest.FixtureRequest) -> None:
    config, time = request.getfixturevalue(place)

    async def look() -> Any:
        database = make_database(config.database)
        await database.open(upgrade=False)
        try:
            return await database.read(
                lambda connection: [
                    *engine_findings(connection),
                    *check_rows(connection, time.at),
                    *inspect_formation(connection, config, SECRET, time.at),
                ]
            )
        finally:
            await database.close()

    assert asyncio.run(look()) == []


async def test_what_a_call_mends(database_config: FormationConfig) -> None:
    """A memory is told to say the same again, by which it gets its words and its key. Who came back is erased again."""
    async with client_of(database_config) as client:
        kept = await client.add_memory(D1, "Allergic to peanuts")
        database = make_database(database_config.database)
        await database.open()
        damage = sa.text("UPDATE muxi_memories SET words = 'else', key = '#0' WHERE memory_id = :memory_id")
        await database.transact(lambda connection: connection.execute(damage, {"memory_id": kept["memory_id"]}))
        await client.create_user("usr_back")
        deleted = sa.text(
            FAULTS["user-erased"][0].replace("'f', 5000", ":formation_id, 1").replace("usr_g", "usr_back")
        )
        await database.transact(lambda connection: connection.execute(deleted, {"formation_id": database_config.id}))
        now = time_ns() // 1000

        def broken(connection: Connection) -> set[str]:
            return {finding.rule for finding in check_rows(connection, now, database_config.id)}

        try:
            assert await database.read(broken) - {"key-twice"} == {"memory-key", "memory-words", "user-erased"}
            await client.delete_user("usr_back")
            await client.update_memory(kept["memory_id"], D1, content="Allergic to peanuts")
            assert await database.read(broken) - {"key-twice"} == set()
        finally:
            await database.close()


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_every_rule_has_a_planted_fault(dialect: str) -> None:
    assert [rule.name for rule in rules_for(dialect) if fault_of(rule, dialect) is None] == []
    assert {*FAULTS, *SQLITE_FAULTS, *POSTGRES_FAULTS, *GENERIC} <= {rule.name for rule in RULES}


def test_names_and_words() -> None:
    for dialect in ("sqlite", "postgresql"):
        names = [rule.name for rule in rules_for(dialect)]
        assert len(names) == len(set(names))
    for rule in RULES:
        assert rule.meaning.endswith("."), rule.name
        assert rule.mend.endswith("."), rule.name


@pytest.mark.parametrize("name", [rule.name for rule in rules_for("sqlite")])
def test_a_fault_on_sqlite(name: str, loose_sqlite: Loose) -> None:
    _just_its_own(name, loose_sqlite)


@pytest.mark.parametrize("name", [rule.name for rule in rules_for("postgresql")])
def test_a_fault_on_postgres(name: str, loose_postgres: Loose) -> None:
    _just_its_own(name, loose_postgres)


def _just_its_own(name: str, loose: Loose) -> None:
    rules = list(rules_for(loose.dialect))
    (rule,) = (rule for rule in rules if rule.name == name)
    fault = fault_of(rule, loose.dialect)
    assert fault is not None
    everything = loose.dialect == "sqlite" or LONG
    found, left = loose.broken_by(fault, rules if everything else [rule], rule)
    also = ALSO.get(name) or _of_the_same_row(name)
    assert name in found
    if everything:
        assert found - {name} == also - {name}
    # Without triggers, nothing tells the search index that a memory is gone.
    left -= {"memory-index", "memory-index-left"} if not name.startswith("memory-index") else set()
    assert left <= also - {name} | ({name} & BY_HAND[loose.dialect]), "what is said to mend it does not"


def _of_the_same_row(name: str) -> set[str]:
    """What else breaks where a row is there twice: the other keys of its table."""
    for table in metadata.sorted_tables:
        if name in _unique_names(table):
            of_keys = {"key-twice"} if "pk" in table.columns else set()
            return {*_unique_names(table), *TWICE.get(table.name, ()), *of_keys}
    return set()


# The databases of the tests sort by bytes, which has no version: as if the operating system told one.
_SORTED = "CREATE FUNCTION pg_database_collation_actual_version(oid) RETURNS text LANGUAGE sql AS $$ SELECT 'newer' $$"
ENGINE_FAULTS = {
    "sqlite": {
        "schema-parts": ("DROP TRIGGER tr_memories_changed", "DROP INDEX uq_sessions_key"),
        "file-integrity": (
            "UPDATE sqlite_master SET sql = replace(sql, 'user_pk, last', 'pk, last')"
            " WHERE name = 'ix_sessions_newest'",
        ),
        "memory-index-damaged": ("DELETE FROM muxi_memory_words_data WHERE id > 10",),
    },
    "postgresql": {
        "schema-parts": (
            "DROP INDEX uq_sessions_key",
            "ALTER TABLE muxi_users DROP CONSTRAINT ck_users_not_own_parent",
        ),
        "index-invalid": ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_users_root'::regclass",),
        "constraint-invalid": (
            "ALTER TABLE muxi_users DROP CONSTRAINT ck_users_not_own_parent,"
            " ADD CONSTRAINT ck_users_not_own_parent CHECK (parent_pk <> pk) NOT VALID",
        ),
        "trigger-off": ("ALTER TABLE muxi_messages DISABLE TRIGGER ALL",),
        "collation-changed": (
            _SORTED,
            "SET LOCAL search_path TO public, pg_catalog",
            "UPDATE pg_database SET datcollversion = 'older' WHERE datname = current_database()",
        ),
    },
}


@pytest.mark.parametrize("rule", ENGINE_FAULTS["sqlite"])
def test_a_damaged_file(rule: str, sqlite_file: tuple[FormationConfig, Time], tmp_path: Path) -> None:
    source, _ = sqlite_file
    assert source.database.path is not None
    copy = tmp_path / "muxi.db"
    with contextlib.closing(sqlite3.connect(source.database.path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for statement in ENGINE_FAULTS["sqlite"][rule]:
            connection.execute(statement)
        connection.commit()
    engine = _sqlite_engine(copy)
    with engine.begin() as connection:
        found = engine_findings(connection)
    engine.dispose()
    # An index that holds other columns than it says is that as well.
    also = ["schema-changed"] if rule == "file-integrity" else []
    assert [finding.rule for finding in found] == [*also, rule]
    assert all(finding.about and finding.statements for finding in found)


@pytest.mark.parametrize("rule", ENGINE_FAULTS["postgresql"])
def test_a_schema_that_does_not_keep(rule: str, postgres_database: tuple[FormationConfig, Time]) -> None:
    config, _ = postgres_database
    assert config.database.url is not None
    engine = create_async_engine(config.database.url.reveal().replace("postgresql://", "postgresql+asyncpg://"))

    def work(connection: Connection) -> Any:
        for statement in ENGINE_FAULTS["postgresql"][rule]:
            if rule == "collation-changed":  # no version was kept of a database that was upgraded
                assert engine_findings(connection) == []
            connection.exec_driver_sql(statement)
        return engine_findings(connection)

    async def look() -> Any:
        try:
            async with engine.connect() as connection:
                await connection.begin()
                found = await connection.run_sync(work)
                await connection.rollback()
                return found
        finally:
            await engine.dispose()

    found = asyncio.run(look())
    assert [finding.rule for finding in found] == [rule]
    assert found[0].about
    assert found[0].statements
    # REINDEX DATABASE is refused inside of a transaction.
    assert BEGIN not in found[0].statements or rule != "collation-changed"


KEYED_FAULTS = {
    "formation-key": "UPDATE muxi_formations SET key_check = zeroblob(32)",
    "identifier-bucket": "UPDATE muxi_identifiers SET bucket = zeroblob(16) WHERE spelling = 'D1'",
    "identifier-secret-type": "UPDATE muxi_identifiers SET type = 'badge' WHERE spelling = 'D1'",
    "identifier-secret-undeclared": "UPDATE muxi_identifiers SET type = 'crm' WHERE type = 'api_key'",
    "credential-unreadable": "UPDATE muxi_credentials SET service = 'gitlab'",
    "credential-key-unknown": "UPDATE muxi_credentials SET key_id = 'other'",
    "task-schedule": "UPDATE muxi_tasks SET schedule = '99 9 * * *'",
    "person-over-limit": "UPDATE muxi_identifiers SET type = 'crm', secret = false WHERE user_pk IN"
    " (SELECT pk FROM muxi_users WHERE public_id = 'usr_d')",
}
NOT_BY_SQL = {"formation-key", "credential-key-unknown", "person-over-limit"}
_KEYED = FormationConfig.from_mapping(
    {"id": "f", "identity": {"types": {"badge": {"secret": True}, "crm": {"max_per_user": 1}}}}
)


@pytest.mark.parametrize("rule", KEYED_FAULTS)
def test_what_the_key_tells(rule: str, loose_sqlite: Loose) -> None:
    def work(connection: Connection) -> Any:
        assert connection.execute(sa.text(KEYED_FAULTS[rule])).rowcount > 0
        found = inspect_formation(connection, _KEYED, SECRET, loose_sqlite.now)
        run_statements(connection, found)
        return found, inspect_formation(connection, _KEYED, SECRET, loose_sqlite.now)

    found, left = loose_sqlite.run(work)
    assert [finding.rule for finding in found] == [rule]
    assert (found[0].level == NOTICE) == (rule in {"credential-key-unknown", "person-over-limit"})
    assert (left == []) == (rule not in NOT_BY_SQL)
    assert "ghp_" not in repr(found)


NO_TEXT = "CAST(x'ff41' AS TEXT)"
CELLS = {
    "muxi_messages.content": NO_TEXT,
    "muxi_identifiers.spelling": NO_TEXT,
    "muxi_identifiers.value": "CAST(x'00410042c3a900' AS TEXT)",
    "muxi_identifiers.metadata": "CAST(x'c328' AS TEXT)",
    "muxi_preferences.value": "CAST(x'eda080' AS TEXT)",
    "muxi_credentials.ciphertext": "CAST(ciphertext AS TEXT)",
    "muxi_credentials.service": "x'6769'",
    "muxi_history.reason": NO_TEXT,
    "muxi_users.version": "'many'",
    "muxi_users.created_at": "'1 000'",
    "muxi_formations.key_check": "'text'",
    "muxi_memories.content": NO_TEXT,
}
# What no statement can turn into what it must be without taking off what it says.
FOR_A_PERSON = {
    *(cell for cell, value in CELLS.items() if value == NO_TEXT),
    *("muxi_identifiers.metadata", "muxi_preferences.value", "muxi_users.version", "muxi_users.created_at"),
}


@pytest.mark.parametrize("cell", CELLS)
def test_what_a_cell_cannot_hold(cell: str, sqlite_file: tuple[FormationConfig, Time], tmp_path: Path) -> None:
    """It is told by table, column and key, whatever else cannot be read then, and can be made readable."""
    config, time = sqlite_file
    assert config.database.path is not None
    table, column = cell.split(".")
    copy = tmp_path / "muxi.db"
    with contextlib.closing(sqlite3.connect(config.database.path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        which = "WHERE NOT secret" if cell == "muxi_identifiers.value" else ""
        number = connection.execute(f"UPDATE {table} SET {column} = {CELLS[cell]} {which}").rowcount
        name = "created_at" if table == "muxi_formations" else "pk"
        (key,) = connection.execute(f"SELECT min({name}) FROM {table} {which}").fetchone()
        connection.commit()
    engine = _sqlite_engine(copy)

    def look(connection: Connection) -> Any:
        found = [*check(connection, time.at), *inspect_formation(connection, config, SECRET, time.at)]
        return [each for each in found if each.rule == "cell-kind"]

    with engine.begin() as connection:
        (found,) = look(connection)
        assert (found.about, found.rows, found.formation_id) == (cell, number, "f")
        assert found.keys[0] == f"pk {key}" or table == "muxi_formations"
        run_statements(connection, [found])
        assert bool(look(connection)) == (cell in FOR_A_PERSON)
        assert not found.statements or cell not in FOR_A_PERSON or table == "muxi_users"
        if cell == "muxi_identifiers.value":
            left = connection.exec_driver_sql(f"SELECT DISTINCT value FROM muxi_identifiers {which}").scalars()
            assert left.all() == ["AB\xe9"]
    engine.dispose()


def test_a_rule_that_is_refused_keeps_no_other_from_being_asked(
    sqlite_file: tuple[FormationConfig, Time], tmp_path: Path
) -> None:
    config, time = sqlite_file
    assert config.database.path is not None
    copy = tmp_path / "muxi.db"
    with contextlib.closing(sqlite3.connect(config.database.path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'muxi_preferences'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute("UPDATE muxi_tasks SET next_run_at = NULL WHERE claim IS NULL")
        connection.commit()
    with copy.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)

    async def look() -> Any:
        database = make_database(DatabaseConfig("sqlite", path=copy))
        await database.open(upgrade=False)
        try:
            return await database.read(lambda connection: check(connection, time.at))
        finally:
            await database.close()

    found = {finding.rule: finding for finding in asyncio.run(look())}
    assert {"file-integrity", "rule-not-asked", "task-due"} <= set(found)
    assert "json-preferences-value" in str(found["rule-not-asked"].about)


# Mends at their edges


def test_nothing_is_said_to_delete_a_formation_or_a_secret() -> None:
    """A formation's key cannot be checked, nor a revoked key stay revoked, when its row is gone."""
    for rule in RULES:
        for statement in rule.statements:
            assert "DELETE FROM muxi_formations" not in statement or "min(" in statement, rule.name
            of_identifiers = "DELETE FROM muxi_identifiers" in statement
            assert not of_identifiers or "NOT secret" in statement or "min(" in statement, rule.name


def _mended(loose: Loose, faults: tuple[str, ...], names: set[str], look: str) -> tuple[set[str], list[Any]]:
    """Plant faults, mend by the rules of these ``names``, and return what is broken then, and what ``look`` reads."""
    rules = list(rules_for(loose.dialect))

    def work(connection: Connection) -> tuple[set[str], list[Any]]:
        for fault in faults:
            assert connection.exec_driver_sql(fault).rowcount > 0, fault
        _stand_by(connection)
        for rule in rules:
            if rule.name in names:
                run_statements(connection, rule.findings(connection, loose.now))
        left = {finding.rule for rule in rules for finding in rule.findings(connection, loose.now)}
        assert _bystanders_hurt(connection) == []
        return left, [tuple(row) for row in connection.exec_driver_sql(look)]

    found: tuple[set[str], list[Any]] = loose.run(work)
    return found


_REVOKED = "UPDATE muxi_identifiers SET unlinked_at = linked_at WHERE type = 'api_key'"
_UNLINKED = (
    "INSERT INTO muxi_history (formation_id, pk, at, event, user_id, identifier_pk, actor) SELECT formation_id, 5002,"
    " linked_at, 'identifier:unlink', 'usr_d', pk, 'test' FROM muxi_identifiers WHERE type = 'api_key'"
)
_SECRET_LEFT = "SELECT count(*) FROM muxi_identifiers WHERE formation_id = 'f' AND secret AND unlinked_at IS NOT NULL"


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("fk_identifiers_user", f"UPDATE muxi_identifiers SET user_pk = {GONE} WHERE type = 'api_key'"),
        ("ck_identifiers_owned", "UPDATE muxi_identifiers SET user_pk = NULL, unlinked_at = NULL WHERE secret"),
        ("nn_identifiers", "UPDATE muxi_identifiers SET value = NULL, secret = NULL WHERE type = 'api_key'"),
        ("nn_identifiers", "UPDATE muxi_identifiers SET spelling = NULL, bucket = NULL, slot = NULL WHERE secret"),
    ],
)
def test_a_secret_stays_revoked(rule: str, fault: str, loose_sqlite: Loose) -> None:
    left, rows = _mended(loose_sqlite, (_REVOKED, _UNLINKED, fault), {rule}, _SECRET_LEFT)
    assert left <= {"identifier-times"}
    assert rows == [(1,)]


def test_what_an_identifier_lacks_is_taken_from_what_it_has(loose_sqlite: Loose) -> None:
    faults = (
        "UPDATE muxi_identifiers SET value = NULL WHERE spelling = 'D1'",
        "UPDATE muxi_identifiers SET spelling = NULL, slot = NULL WHERE spelling = 'd@example.com'",
    )
    look = "SELECT value, spelling FROM muxi_identifiers WHERE formation_id = 'f' AND value IN ('D1', 'd@example.com')"
    left, rows = _mended(loose_sqlite, faults, {"nn_identifiers"}, f"{look} ORDER BY 1")
    assert left == set()
    assert rows == [("D1", "D1"), ("d@example.com", "d@example.com")]


def test_what_cannot_be_known_is_left(loose_sqlite: Loose) -> None:
    faults = ("UPDATE muxi_formations SET key_check = NULL", "UPDATE muxi_messages SET content = NULL")
    look = "SELECT count(*) FROM muxi_messages UNION ALL SELECT count(*) FROM muxi_formations"
    names = {"nn_formations", "nn_messages"}
    left, rows = _mended(loose_sqlite, faults, names, look)
    assert left == names
    assert rows == [(4,), (2,)]


_MANY = 1_100 if LONG else 40
_NUMBERS = {
    "sqlite": f"(WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {_MANY}) SELECT n FROM n)",
    "postgresql": f"(SELECT generate_series(1, {_MANY}) AS n)",
}


@pytest.mark.parametrize("place", ["loose_sqlite", "loose_postgres"])
def test_keys_are_drawn_for_as_many_rows_as_there_are(place: str, request: pytest.FixtureRequest) -> None:
    loose = request.getfixturevalue(place)
    users = (
        "INSERT INTO muxi_users (formation_id, pk, public_id, root_pk, created_at, version)"
        f" SELECT 'f', 5000 + n, 'usr_many_' || n, 5000 + n, 1, 0 FROM {_NUMBERS[loose.dialect]} numbers"
    )
    look = "SELECT count(DISTINCT pk), count(*) FROM muxi_history WHERE formation_id = 'f' AND actor = 'mended'"
    left, rows = _mended(loose, (users,), {"user-created"}, look)
    assert left <= {"memory-index"}
    assert rows == [(_MANY, _MANY)]


def test_a_merge_of_an_earlier_life_is_none(loose_sqlite: Loose) -> None:
    """Its people were deleted, which left the history alone, and made again since."""
    faults = (
        "INSERT INTO muxi_history (formation_id, pk, at, event, user_id, other_user_id, merge_id, actor)"
        " SELECT 'f', 5000, min(created_at) - 1, 'user:merge', 'usr_g', 'usr_h', 'mrg_earlier', 'test' FROM muxi_users",
        FAULTS["merge-of-member"][0],
    )
    look = "SELECT count(*) FROM muxi_merges WHERE merge_id = 'mrg_earlier'"
    left, rows = _mended(loose_sqlite, faults, {"merge-of-member"}, look)
    assert left == set()
    assert rows == [(0,)]


async def test_a_sign_is_no_attribute(database_config: FormationConfig) -> None:
    """It begins the keys of memories that are about nothing. What was learned under it before is nothing broken."""
    async with client_of(database_config) as client:
        await client.chat("My # is 5", user_id=D1)
        assert (await client.list_memories(D1))["memories"] == []
        kept = await client.add_memory(D1, "My number is 5", key="number", value="5")
        database = make_database(database_config.database)
        await database.open()
        try:
            learned = sa.text("UPDATE muxi_memories SET key = '#' WHERE memory_id = :memory_id")
            await database.transact(lambda tx: tx.execute(learned, {"memory_id": kept["memory_id"]}))
            found = await database.read(lambda tx: check_rows(tx, time_ns() // 1000, database_config.id))
        finally:
            await database.close()
    assert {finding.rule for finding in found} <= {"memory-words"}
