"""What mends the rows that break a constraint of the schema."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import BigInteger, Boolean, Column, ForeignKeyConstraint, Table

from muxi_identity.storage.checks.identifiers import UNLINK
from muxi_identity.storage.checks.keys import HIGHEST
from muxi_identity.storage.checks.users import REROOT
from muxi_identity.storage.tables import OWNED_TABLES, identifiers, link_codes, metadata

_THOSE = "{those}"
_HERE = "formation_id = {formation}"
_GIVE_TO_THEIRS = (
    "UPDATE {table} SET user_pk = (SELECT i.user_pk FROM muxi_identifiers i WHERE i.formation_id ="
    " {table}.formation_id AND i.pk = {table}.identifier_pk) WHERE {{those}} AND EXISTS (SELECT 1 FROM"
    " muxi_identifiers i WHERE i.formation_id = {table}.formation_id AND i.pk = {table}.identifier_pk"
    " AND i.user_pk IS NOT NULL)"
)
_NAME_NOBODY = (
    "UPDATE {table} SET identifier_pk = NULL WHERE {{those}} AND NOT EXISTS (SELECT 1 FROM muxi_identifiers i"
    " WHERE i.formation_id = {table}.formation_id AND i.pk = {table}.identifier_pk AND i.user_pk = {table}.user_pk)"
)
GIVE_RUN_TO_TASK = (
    "UPDATE muxi_task_runs SET (user_pk, identifier_pk) = (SELECT t.user_pk, t.identifier_pk FROM muxi_tasks t"
    " WHERE t.formation_id = muxi_task_runs.formation_id AND t.pk = muxi_task_runs.task_pk) WHERE {those}"
)
_BY_ITSELF = ("UPDATE muxi_users SET parent_pk = NULL, root_pk = pk WHERE {those}", REROOT)


def _by_history(column: str, name: str) -> tuple[str, str]:
    """Give a merge the user that the history names; where that one is gone as well, forget the merge."""
    user = (
        "SELECT u.pk FROM muxi_history h JOIN muxi_users u ON u.formation_id = h.formation_id"
        f" AND u.public_id = h.{name} WHERE h.formation_id = muxi_merges.formation_id"
        " AND h.merge_id = muxi_merges.merge_id AND h.event = 'user:merge'"
    )
    return (
        f"UPDATE muxi_merges SET {column} = (SELECT min(pk) FROM ({user}) x) WHERE {{those}} AND EXISTS ({user})",
        f"DELETE FROM muxi_merges WHERE {{those}} AND {column} NOT IN (SELECT u.pk FROM muxi_users u"
        " WHERE u.formation_id = muxi_merges.formation_id)",
    )


_FOREIGN = {
    "fk_users_parent": _BY_ITSELF,
    "fk_users_root": (
        "UPDATE muxi_users SET root_pk = pk WHERE {those} AND parent_pk IS NULL",
        "UPDATE muxi_users SET root_pk = parent_pk WHERE {those} AND parent_pk IS NOT NULL",
        REROOT,
    ),
    "fk_merges_primary": _by_history("primary_pk", "user_id"),
    "fk_merges_secondary": _by_history("secondary_pk", "other_user_id"),
    "fk_task_runs_user": (GIVE_RUN_TO_TASK,),
    "fk_task_runs_provenance": (GIVE_RUN_TO_TASK,),
}


def mend_foreign(constraint: ForeignKeyConstraint) -> tuple[str, ...]:
    """Return what mends rows that name something that is not there, or is another's."""
    table, name = constraint.table, str(constraint.name)
    if name in _FOREIGN:
        return _FOREIGN[name]
    if constraint.referred_table is not identifiers or table is link_codes:
        return tuple(delete_rows(table, _THOSE))
    return _GIVE_TO_THEIRS.format(table=table.name), _NAME_NOBODY.format(table=table.name)


def delete_rows(table: Table, which: str) -> Iterator[str]:
    """Return what deletes rows, with those first that name them.

    Secrets are unlinked and kept: what was revoked would else be somebody's again, and in clear, with the next link.
    """
    keys = f"SELECT formation_id, pk FROM {table.name} WHERE {which}"
    if table is identifiers:
        for owned in OWNED_TABLES:
            if owned is not link_codes:
                yield f"UPDATE {owned.name} SET identifier_pk = NULL WHERE (formation_id, identifier_pk) IN ({keys})"
        yield f"DELETE FROM muxi_link_codes WHERE (formation_id, identifier_pk) IN ({keys})"
        yield f"DELETE FROM {table.name} WHERE {which} AND NOT secret"
        yield (
            f"UPDATE {table.name} SET user_pk = NULL, unlinked_at = coalesce(unlinked_at, {{now}})"
            f" WHERE {which} AND secret"
        )
        return
    for other in metadata.sorted_tables:
        for constraint in other.foreign_key_constraints:
            if constraint.referred_table is table and "pk" in table.columns:
                named = ", ".join(constraint.column_keys)
                yield f"DELETE FROM {other.name} WHERE ({named}) IN ({keys})"
    yield f"DELETE FROM {table.name} WHERE {which}"


CHECKS = {
    "ck_users_not_own_parent": _BY_ITSELF,
    "ck_users_root_has_no_parent": ("UPDATE muxi_users SET root_pk = pk WHERE {those} AND parent_pk IS NULL", REROOT),
    "ck_identifiers_owned": tuple(delete_rows(identifiers, _THOSE)),
    "ck_identifiers_scope_has_type": ("UPDATE muxi_identifiers SET scope = NULL WHERE {those}",),
    "ck_identifiers_secret_not_kept": ("UPDATE muxi_identifiers SET value = '' WHERE {those}",),
    "ck_separations_order": (
        "DELETE FROM muxi_separations WHERE {those} AND one_pk = other_pk",
        "UPDATE muxi_separations SET one_pk = other_pk, other_pk = one_pk WHERE {those} AND one_pk > other_pk",
    ),
}
"""Of each check, by its name."""


_BY_EVENT = (
    "(SELECT min(h.at) FROM muxi_history h WHERE h.formation_id = {table}.formation_id AND {same}"
    " AND h.event = '{event}'), {{now}}"
)
_SEEMS_HIDDEN = "coalesce(type, '') = 'api_key' OR coalesce(value, '') = ''"
_IS_HIDDEN = f"coalesce(secret, {_SEEMS_HIDDEN})"
# What a value can be derived from, or what is so where nobody knows.
_KNOWN = {
    ("muxi_users", "created_at"): _BY_EVENT.format(
        table="muxi_users", same="h.user_id = muxi_users.public_id", event="user:create"
    ),
    ("muxi_users", "public_id"): "'usr_' || pk",
    ("muxi_users", "root_pk"): "parent_pk, pk",
    ("muxi_identifiers", "linked_at"): _BY_EVENT.format(
        table="muxi_identifiers", same="h.identifier_pk = muxi_identifiers.pk", event="identifier:link"
    ),
    ("muxi_merges", "merged_at"): _BY_EVENT.format(
        table="muxi_merges", same="h.merge_id = muxi_merges.merge_id", event="user:merge"
    ),
    (
        "muxi_formations",
        "next_key",
    ): f"1 + {{greatest}}({HIGHEST.replace('f.formation_id', 'muxi_formations.formation_id')})",
    ("muxi_messages", "created_at"): (
        "(SELECT s.created_at FROM muxi_sessions s WHERE s.formation_id = muxi_messages.formation_id"
        " AND s.pk = muxi_messages.session_pk), 0"
    ),
    # What is known of a secret is its hint: no value, and no more of its spelling.
    ("muxi_identifiers", "value"): f"CASE WHEN {_IS_HIDDEN} THEN '' ELSE spelling END",
    ("muxi_identifiers", "spelling"): f"CASE WHEN {_IS_HIDDEN} THEN '...' ELSE value END",
    ("muxi_identifiers", "secret"): _SEEMS_HIDDEN,
    # Nobody is found in a bucket that nobody knows; a secret stays where nobody can give it to others.
    ("muxi_identifiers", "bucket"): "{bytes16}",
    ("muxi_identifiers", "slot"): (
        "coalesce((SELECT max(x.slot) FROM muxi_identifiers x WHERE x.formation_id = muxi_identifiers.formation_id"
        " AND x.bucket = muxi_identifiers.bucket), -1) + (SELECT count(*) FROM muxi_identifiers x WHERE x.slot IS NULL"
        " AND x.formation_id = muxi_identifiers.formation_id AND x.pk <= muxi_identifiers.pk)"
    ),
    ("muxi_requests", "created_at"): "claimed_until",
    ("muxi_import_notes", "code"): "'INVALID_REQUEST'",
    ("muxi_sessions", "audience"): "'private'",
    ("muxi_merges", "mode"): "'operator'",
}
_ANYWHERE = {
    "actor": "'mended'",
    "attempt": "1",
    "failures": "1",
    "continued": "false",
    "shareable": "false",
}
_COUNTED = ("epoch", "version", "attempts", "missed", "revision")


def mend_required(table: Table) -> tuple[str, ...]:
    """Return what mends rows that lack a value: what can be known is filled in, and those that still lack one shown.

    Nothing is deleted: a row that lacks one value has all the others, and a formation's own row, or a secret, cannot be
    made again.
    """
    required = [column for column in table.columns if not column.nullable]
    known = {column.name: value for column in required if (value := _known(table, column)) is not None}
    missing = " OR ".join(f'"{column.name}" IS NULL' for column in required)
    which = f"{_HERE} AND ({missing})"
    filled = ", ".join(f"{name} = coalesce({name}, {value})" for name, value in known.items())
    unlinked = [each.replace(_THOSE, f"{_HERE} AND bucket IS NULL") for each in UNLINK] if table is identifiers else []
    updated = [f"UPDATE {table.name} SET {filled} WHERE {which}"] if filled else []
    return (*unlinked, *updated, f"SELECT {{place}}, * FROM {table.name} WHERE {which}")


def _known(table: Table, column: Column[object]) -> str | None:
    known = _KNOWN.get((table.name, column.name)) or _ANYWHERE.get(column.name)
    if known is not None:
        return known
    if column.name in _COUNTED:
        return "0"
    is_time = isinstance(column.type, BigInteger) and column.name.endswith(("_at", "_until"))
    return "{now}" if is_time and not isinstance(column.type, Boolean) else None
