"""Rules about keys: none is given twice, and none is given that lies ahead."""

from __future__ import annotations

from collections.abc import Iterator

from muxi_identity.storage.checks.rule import Rule
from muxi_identity.storage.tables import metadata

KEYED_TABLES = [table for table in metadata.sorted_tables if "pk" in table.columns]
_FORMATIONS = "muxi_formations"


def key_rules() -> Iterator[Rule]:
    """Return the rules about keys and about the formations that rows belong to."""
    every = " UNION ALL ".join(f"SELECT formation_id, pk FROM {table.name}" for table in KEYED_TABLES)  # noqa: S608
    yield Rule(
        "key-twice",
        f"SELECT formation_id, count(*) AS number FROM ({every}) k GROUP BY formation_id, pk HAVING count(*) > 1",  # noqa: S608
        "Two rows have one key: what a process remembers of the one may be taken for the other.",
        "Find out which row was written by hand or restored into a database in use, and give it another key.",
    )
    yield Rule(
        "key-positive",
        f"SELECT formation_id, pk FROM ({every}) k WHERE pk < 1",  # noqa: S608
        "A key is not positive.",
        "Give the row, and all that name it, another key.",
    )
    ahead = "Keys that lie ahead are in use: rows to come will collide with them, or be taken for what others remember."
    drawn = [*((table.name, "pk") for table in KEYED_TABLES), ("muxi_outbox", "position")]
    highest = ", ".join(
        f"(SELECT coalesce(max({column}), 0) FROM {table} t WHERE t.formation_id = f.formation_id)"  # noqa: S608
        for table, column in drawn
    )
    yield Rule(
        "key-ahead",
        f"SELECT formation_id, next_key FROM {_FORMATIONS} f WHERE next_key <= max({highest})",  # noqa: S608
        ahead,
        "Set next_key of the formation above the highest key of all its rows.",
        dialect="sqlite",
    )
    beyond = " UNION ALL ".join(
        f"SELECT formation_id, {column} AS pk FROM {table}"  # noqa: S608
        f" WHERE {column} > (SELECT last_value FROM {'muxi_keys' if column == 'pk' else 'muxi_outbox_positions'})"
        for table, column in drawn
    )
    yield Rule(
        "key-ahead",
        beyond,
        ahead,
        "Set the sequences muxi_keys and muxi_outbox_positions above the highest keys (SELECT setval(...)).",
        dialect="postgresql",
    )
    yield Rule(
        "formation-form",
        f"SELECT formation_id, epoch FROM {_FORMATIONS} WHERE length(key_check) <> 32 OR epoch < 0 OR next_key < 1",  # noqa: S608
        "A formation's own row is not as one is made: its key cannot be checked, or its caches not be emptied.",
        "Restore the row from a back-up.",
    )
    belonging = " UNION ALL ".join(
        f"SELECT t.formation_id FROM {table.name} t WHERE NOT EXISTS"  # noqa: S608
        f" (SELECT 1 FROM {_FORMATIONS} f WHERE f.formation_id = t.formation_id)"
        for table in metadata.sorted_tables
        if table.name != _FORMATIONS
    )
    yield Rule(
        "formation-missing",
        belonging,
        "Rows belong to a formation that there is not: it would be made anew, perhaps with another key.",
        "Restore its row of muxi_formations from a back-up, or delete what is left of the formation.",
    )
