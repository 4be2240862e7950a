"""Rules about keys: none is given twice, and none is given that lies ahead."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table

from muxi_identity.storage.checks.rule import Rule
from muxi_identity.storage.tables import metadata

KEYED_TABLES = [table for table in metadata.sorted_tables if "pk" in table.columns]
_FORMATIONS = "muxi_formations"
# What has a key of its own, and what still names the keys of rows that are gone.
_DRAWN = (
    *((table.name, "pk") for table in KEYED_TABLES),
    ("muxi_history", "identifier_pk"),
    ("muxi_history", "other_identifier_pk"),
    ("muxi_link_codes", "pending_message_pk"),
)
_POSITIONS = (("muxi_outbox", "position"),)
HIGHEST = ", ".join(
    f"(SELECT coalesce(max({column}), 0) FROM {table} t WHERE t.formation_id = f.formation_id)"
    for table, column in (*_DRAWN, *_POSITIONS)
)
"""The highest keys of a formation ``f``, table by table."""
_AHEAD = "Keys that lie ahead are in use: rows to come will collide with them, or be taken for what others remember."


def key_rules() -> Iterator[Rule]:
    """Return the rules about keys and about the formations that rows belong to."""
    every = " UNION ALL ".join(
        f"SELECT formation_id, pk, '{table.name}' AS lies_in FROM {table.name}" for table in KEYED_TABLES
    )
    yield Rule(
        "key-twice",
        f"SELECT formation_id, pk FROM ({every}) k GROUP BY formation_id, pk HAVING count(*) > 1",
        "Two rows have one key: what a process remembers of the one may be taken for the other.",
        "See where they lie. Find out which row was written by hand or restored into a database in use, and give it, "
        "and all that names it, another key; or delete it.",
        (f"SELECT * FROM ({every}) k WHERE {{those}}",),
    )
    yield Rule(
        "key-positive",
        f"SELECT formation_id, pk FROM ({every}) k WHERE pk < 1",
        "A key is not positive.",
        "See where the row lies, and give it, and all that names it, another key; or delete it.",
        (f"SELECT * FROM ({every}) k WHERE {{those}}",),
    )
    yield from _ahead()
    yield Rule(
        "formation-form",
        f"SELECT formation_id, created_at FROM {_FORMATIONS}"
        " WHERE length(key_check) <> 32 OR epoch < 0 OR next_key < 1",
        "A formation's own row is not as one is made: its key cannot be checked, or its caches not be emptied.",
        "Restore the row from a back-up: what checks the key cannot be made anew. What counts can.",
        (
            f"UPDATE {_FORMATIONS} SET epoch = 0 WHERE {{those}} AND epoch < 0",
            f"UPDATE {_FORMATIONS} SET next_key = 1 WHERE {{those}} AND next_key < 1",
        ),
    )
    others = [table for table in metadata.sorted_tables if table.name != _FORMATIONS]
    gone = f"NOT EXISTS (SELECT 1 FROM {_FORMATIONS} f WHERE f.formation_id = t.formation_id)"
    yield Rule(
        "formation-missing",
        " UNION ALL ".join(f"SELECT t.formation_id, 1 AS number FROM {table.name} t WHERE {gone}" for table in others),
        "Rows belong to a formation that there is not: it would be made anew, perhaps with another key.",
        "Restore its row of muxi_formations from a back-up: all that is left hangs by it, also which secrets were "
        "revoked. Only where nobody misses it, delete what is left, which is counted here.",
        ("SELECT * FROM (" + " UNION ALL ".join(_count(table) for table in others) + ") c WHERE number > 0",),
    )


def _count(table: Table) -> str:
    return f"SELECT '{table.name}' AS lies_in, count(*) AS number FROM {table.name} WHERE {{those}}"


def _ahead() -> Iterator[Rule]:
    yield Rule(
        "key-ahead",
        f"SELECT f.formation_id, f.next_key FROM {_FORMATIONS} f WHERE f.next_key <= max({HIGHEST})",
        _AHEAD,
        "Begin above the highest.",
        (f"UPDATE {_FORMATIONS} AS f SET next_key = max({HIGHEST}) + 1 WHERE {{those}}",),
        dialect="sqlite",
    )
    for sequence, drawn in (("muxi_keys", _DRAWN), ("muxi_outbox_positions", _POSITIONS)):
        every = " UNION ALL ".join(f"SELECT formation_id, {column} AS pk FROM {table}" for table, column in drawn)
        yield Rule(
            "key-ahead" if sequence == "muxi_keys" else "position-ahead",
            f"SELECT DISTINCT formation_id, pk FROM ({every}) k WHERE pk > (SELECT last_value FROM {sequence})",
            _AHEAD,
            "Begin above the highest.",
            (f"SELECT setval('{sequence}', (SELECT max(pk) FROM ({every}) k))",),
            dialect="postgresql",
        )
