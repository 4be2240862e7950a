"""Rules about times: whole microseconds since 1970 that a calendar has, in the order in which things happen."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table

from muxi_identity.storage.checks.naming import named, own
from muxi_identity.storage.checks.rule import NOTICE, Rule
from muxi_identity.storage.tables import metadata

_LAST = 253_402_300_799_999_999  # the end of the year 9999
_HOUR, _DAY = 3_600_000_000, 86_400_000_000
_TO_COME = ("expires_at", "due_at", "next_run_at", "claimed_until", "pending_until")
# Written by whichever machine comes later, whose clock may be behind: by an hour no two clocks differ.
IN_ORDER = (
    ("muxi_identifiers", "linked_at", "verified_at"),
    ("muxi_identifiers", "linked_at", "unlinked_at"),
    ("muxi_identifiers", "linked_at", "expires_at"),
    ("muxi_merges", "merged_at", "undone_at"),
    ("muxi_users", "created_at", "established_at"),
    ("muxi_memories", "created_at", "updated_at"),
    ("muxi_preferences", "created_at", "updated_at"),
    ("muxi_credentials", "created_at", "updated_at"),
    ("muxi_tasks", "created_at", "updated_at"),
    ("muxi_task_runs", "started_at", "finished_at"),
    ("muxi_imports", "started_at", "updated_at"),
    ("muxi_imports", "started_at", "finished_at"),
    ("muxi_outbox", "created_at", "failed_at"),
)
"""Table, and two of its columns: the one does not lie before the other."""


def time_rules() -> Iterator[Rule]:
    """Return the rules about times, for every column that holds one."""
    for table in metadata.sorted_tables:
        columns = _times_of(table)
        if columns:
            yield _range(table, columns)
    for name, first, then in IN_ORDER:
        table = metadata.tables[name]
        yield Rule(
            f"order-{_short(table)}-{then.replace('_', '-')}",
            f"SELECT {named(table, 't')} FROM {name} t WHERE {then} < {first} - {_HOUR}",
            f"Rows of {name} have a time ({then}) that lies before their beginning ({first}).",
            "Restore them from a back-up, or let the one be the other.",
            (f"UPDATE {name} SET {then} = {first} WHERE {{those}}",),
            own=own(table),
        )
    yield _ahead()


def _range(table: Table, columns: list[str]) -> Rule:
    wrong = " OR ".join(f"{column} NOT BETWEEN 0 AND {_LAST}" for column in columns)
    right = ", ".join(
        f"{column} = CASE WHEN {column} < 0 THEN 0 WHEN {column} > {_LAST} THEN {_LAST} ELSE {column} END"
        for column in columns
    )
    return Rule(
        f"time-{_short(table)}",
        f"SELECT {named(table, 't')} FROM {table.name} t WHERE {wrong}",
        f"Rows of {table.name} have a time that no calendar has: whoever lists them gets an error.",
        "Restore them from a back-up, or take the nearest time that there is.",
        (f"UPDATE {table.name} SET {right} WHERE {{those}}",),
        own=own(table),
    )


def _ahead() -> Rule:
    every = " UNION ALL ".join(
        f"SELECT formation_id, max({column}) AS at FROM {table.name} GROUP BY formation_id"
        for table in metadata.sorted_tables
        for column in _times_of(table)
        if column not in _TO_COME
    )
    return Rule(
        "time-ahead",
        f"SELECT formation_id, count(*) AS number FROM ({every}) t WHERE at > :now + {_DAY} GROUP BY formation_id, at",
        "Something happened at a time that is yet to come: a clock is, or was, set wrong.",
        "Set the clocks of all machines, and restart what runs there. What was written meanwhile stays where it is in "
        "the order of time, and newer words count before it: nothing must be done.",
        level=NOTICE,
    )


def _times_of(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name == "at" or column.name.endswith(("_at", "_until"))]


def _short(table: Table) -> str:
    return table.name.removeprefix("muxi_").replace("_", "-")
