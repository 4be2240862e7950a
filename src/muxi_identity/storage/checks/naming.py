"""How rows are named: by a key of ours where they have one that is theirs alone, never by what callers choose."""

from __future__ import annotations

from sqlalchemy import Table

_KEYS_OF_OURS = ("pk", "merge_id", "position")
# Beside the formation, these tell the rows of a table apart; what is shown of them is not theirs alone.
_SHOWN = {
    "muxi_api_keys": ("created_at", ("role",)),
    "muxi_formations": ("created_at", ()),
    "muxi_idempotency": ("created_at", ("key",)),
    "muxi_import_notes": ("line", ("import_id", "line")),
    "muxi_imports": ("started_at", ("import_id",)),
    "muxi_link_attempts": ("identifier_pk", ()),
    "muxi_requests": ("created_at", ("key",)),
    "muxi_separations": ("one_pk", ("one_pk", "other_pk")),
}


def shown(table: Table) -> str:
    """Return the column by which rows are shown."""
    return _SHOWN[table.name][0] if table.name in _SHOWN else _own_key(table)


def own(table: Table) -> tuple[str, ...]:
    """Return the columns that tell rows apart, none where the shown one does: the ``own`` of a rule."""
    return _SHOWN[table.name][1] if table.name in _SHOWN else ()


def named(table: Table, alias: str) -> str:
    """Return what a rule about rows selects of them: the formation, what is shown, and what tells them apart."""
    columns = dict.fromkeys(("formation_id", shown(table), *own(table)))
    return ", ".join(f'{alias}."{column}"' for column in columns)


def _own_key(table: Table) -> str:
    return next(name for name in _KEYS_OF_OURS if name in table.columns)
