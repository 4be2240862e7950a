"""Rules about users: the tree that merges make of them, and that none was made or is gone without a word."""

from __future__ import annotations

from muxi_identity.storage.checks.public_ids import is_none
from muxi_identity.storage.checks.rule import KEYS_DRAWN, Rule

REROOT = """
    WITH RECURSIVE tree (formation_id, pk, root_pk) AS (
        SELECT formation_id, pk, pk FROM muxi_users
         WHERE formation_id = {formation} AND parent_pk IS NULL
         UNION ALL
        SELECT u.formation_id, u.pk, t.root_pk FROM muxi_users u
          JOIN tree t ON t.formation_id = u.formation_id AND t.pk = u.parent_pk)
    UPDATE muxi_users SET root_pk = t.root_pk FROM tree t
     WHERE t.formation_id = muxi_users.formation_id AND t.pk = muxi_users.pk AND t.root_pk <> muxi_users.root_pk"""
"""Derives every root of a formation from the parents."""
_REROOT = (
    "Where a parent was changed by hand, undo that: the ledger (muxi_merges, rows without undone_at) says whose parent "
    "is who. Then derive the roots anew."
)

_CREATED = """
    SELECT u.formation_id, u.pk, u.public_id, (
        SELECT count(*) FROM muxi_history h
         WHERE h.formation_id = u.formation_id AND h.user_id = u.public_id AND h.event = 'user:create') AS created
      FROM muxi_users u"""
# Deleted in its own name, or, which is looked for in all of those, with whom it was merged into.
_DELETED = """
    SELECT count(*) FROM muxi_history d
     WHERE d.formation_id = q.formation_id AND d.user_id = q.public_id AND d.event = 'user:delete'"""
_DELETED_WITH = """
    SELECT count(*) FROM muxi_history d
     WHERE d.formation_id = q.formation_id AND d.event = 'user:delete' AND d.details NOT LIKE '%"merged_users": []%'
       AND d.details LIKE '%"' || q.public_id || '"%'"""


def _public_id(dialect: str) -> Rule:
    return Rule(
        "user-public-id",
        f"SELECT formation_id, pk FROM muxi_users WHERE {is_none('public_id', dialect)}",
        "A public id does not look like one (usr_...): nobody can be named by it.",
        "Give the user back the id that the history has for it, or give it another one in both.",
        (
            "UPDATE muxi_history SET user_id = 'usr_' || (SELECT u.pk FROM muxi_users u"
            " WHERE u.formation_id = muxi_history.formation_id AND u.public_id = muxi_history.user_id)"
            " WHERE (formation_id, user_id) IN (SELECT formation_id, public_id FROM muxi_users WHERE {those})",
            "UPDATE muxi_history SET other_user_id = 'usr_' || (SELECT u.pk FROM muxi_users u"
            " WHERE u.formation_id = muxi_history.formation_id AND u.public_id = muxi_history.other_user_id)"
            " WHERE (formation_id, other_user_id) IN (SELECT formation_id, public_id FROM muxi_users WHERE {those})",
            "UPDATE muxi_users SET public_id = 'usr_' || pk WHERE {those}",
        ),
        dialect=dialect,
    )


USER_RULES = (
    Rule(
        "user-root",
        """
        SELECT u.formation_id, u.pk FROM muxi_users u
          JOIN muxi_users r ON r.formation_id = u.formation_id AND r.pk = u.root_pk
         WHERE r.root_pk <> r.pk""",
        "The root of a user is itself part of somebody else: what belongs to the person is not found.",
        _REROOT,
        (REROOT,),
    ),
    Rule(
        "user-parent-root",
        """
        SELECT u.formation_id, u.pk FROM muxi_users u
          JOIN muxi_users p ON p.formation_id = u.formation_id AND p.pk = u.parent_pk
          JOIN muxi_users r ON r.formation_id = u.formation_id AND r.pk = u.root_pk
         WHERE p.root_pk <> u.root_pk AND r.root_pk = r.pk""",
        "A user has another root than the user that it was merged into: it is read as part of the wrong person.",
        _REROOT,
        (REROOT,),
    ),
    Rule(
        "user-parent-cycle",
        """
        WITH RECURSIVE up (formation_id, start_pk, pk) AS (
            SELECT u.formation_id, u.pk, p.parent_pk FROM muxi_users u
              JOIN muxi_users p ON p.formation_id = u.formation_id AND p.pk = u.parent_pk
             WHERE p.parent_pk IS NOT NULL AND p.pk <> u.pk /*here*/
             UNION
            SELECT up.formation_id, up.start_pk, p.parent_pk FROM up
              JOIN muxi_users p ON p.formation_id = up.formation_id AND p.pk = up.pk
             WHERE p.parent_pk IS NOT NULL)
        SELECT formation_id, start_pk AS pk FROM up WHERE start_pk = pk""",
        "The parents of users go in a circle: an unmerge of one of them would never end.",
        "Make each of them a person of its own; what they are one person of, `muxi users merge` says anew.",
        (
            "DELETE FROM muxi_history WHERE event = 'user:merge' AND (formation_id, merge_id) IN"
            " (SELECT formation_id, merge_id FROM muxi_merges WHERE undone_at IS NULL AND (formation_id, secondary_pk)"
            " IN (SELECT formation_id, pk FROM muxi_users WHERE {those}))",
            "DELETE FROM muxi_merges WHERE undone_at IS NULL AND (formation_id, secondary_pk) IN"
            " (SELECT formation_id, pk FROM muxi_users WHERE {those})",
            "UPDATE muxi_users SET parent_pk = NULL, root_pk = pk WHERE {those}",
            REROOT,
        ),
    ),
    _public_id("sqlite"),
    _public_id("postgresql"),
    Rule(
        "user-created",
        f"""
        SELECT q.formation_id, q.pk FROM ({_CREATED}) q
         WHERE q.created = 0
            OR (q.created > 1 AND q.created > 1 + ({_DELETED}) AND q.created > 1 + ({_DELETED}) + ({_DELETED_WITH}))""",
        "A user was not created, or more often than deleted, by what the history says.",
        "Restore the rows of muxi_history that are missing from a back-up. Where there is none, write them anew; "
        "of one that is there too often delete the later ones.",
        (
            "INSERT INTO muxi_history (formation_id, pk, at, event, user_id, actor)"
            " SELECT t.formation_id, {key}, t.created_at, 'user:create', t.public_id, 'mended' FROM muxi_users t"
            " WHERE {those} AND NOT EXISTS (SELECT 1 FROM muxi_history h WHERE h.formation_id = t.formation_id"
            " AND h.user_id = t.public_id AND h.event = 'user:create')",
            KEYS_DRAWN,
        ),
    ),
    Rule(
        "user-lost",
        f"""
        SELECT q.formation_id, q.pk FROM (
            SELECT h.formation_id, min(h.pk) AS pk, h.user_id AS public_id, count(*) AS created FROM muxi_history h
             WHERE h.event = 'user:create' AND NOT EXISTS (
                SELECT 1 FROM muxi_users u WHERE u.formation_id = h.formation_id AND u.public_id = h.user_id)
             GROUP BY h.formation_id, h.user_id) q
         WHERE q.created > ({_DELETED}) AND q.created > ({_DELETED}) + ({_DELETED_WITH})""",
        "By what the history says, a user was created and never deleted, and is not there (the key is that of the "
        "event).",
        "Restore the user and what belongs to it from a back-up. Where nobody misses it, write its deletion down.",
        (
            "INSERT INTO muxi_history (formation_id, pk, at, event, user_id, actor, details)"
            """ SELECT t.formation_id, {key}, {now}, 'user:delete', t.user_id, 'mended', '{"merged_users": []}'"""
            " FROM muxi_history t WHERE {those}",
            KEYS_DRAWN,
        ),
    ),
    Rule(
        "user-erased",
        f"""
        SELECT q.formation_id, q.pk FROM ({_CREATED}) q
         WHERE q.created > 0 AND q.created <= ({_DELETED})""",
        "By what the history says, a user was deleted, and is there: a person who was erased came back with a restore.",
        "Erase it again, with what belongs to it: `muxi users erase`.",
    ),
    Rule(
        "user-established",
        """
        SELECT u.formation_id, u.pk FROM muxi_users u
         WHERE u.established_at IS NULL AND u.parent_pk IS NULL AND 1 < (
            SELECT count(*) FROM muxi_identifiers i WHERE i.formation_id = u.formation_id AND i.user_pk = u.pk)
           AND NOT EXISTS (
            SELECT 1 FROM muxi_history h
             WHERE h.formation_id = u.formation_id AND h.other_user_id = u.public_id AND h.event = 'user:merge')""",
        "A user has several identifiers, which only a link gives, and counts as made by first contact alone: a link "
        "with on_conflict='absorb' would merge it away.",
        "Establish it.",
        ("UPDATE muxi_users SET established_at = {now} WHERE {those}",),
    ),
    Rule(
        "user-version",
        "SELECT formation_id, pk FROM muxi_users WHERE version < 0",
        "The version of a user is below 0, where it begins.",
        "Let it begin anew.",
        ("UPDATE muxi_users SET version = 0 WHERE {those}",),
    ),
)
