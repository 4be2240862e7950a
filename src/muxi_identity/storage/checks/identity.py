"""Rules about who is who: the tree of users, identifiers, the ledger of merges and the history."""

from __future__ import annotations

import json
import re
from typing import Any

from sqlalchemy import Row

from muxi_identity.storage.checks.rule import Rule

_REROOT = (
    "Undo what was changed by hand. The ledger (muxi_merges, rows without undone_at) says whose parent is who: set "
    "parent_pk by it, and root_pk to the user at the top."
)
_HISTORY = "Restore the missing rows of muxi_history from a back-up; they are never written again."

USER_RULES = (
    Rule(
        "user-root",
        """
        SELECT u.formation_id, u.public_id FROM muxi_users u
          JOIN muxi_users r ON r.formation_id = u.formation_id AND r.pk = u.root_pk
         WHERE r.root_pk <> r.pk""",
        "The root of a user is itself part of somebody else: what belongs to the person is not found.",
        _REROOT,
    ),
    Rule(
        "user-parent-root",
        """
        SELECT u.formation_id, u.public_id FROM muxi_users u
          JOIN muxi_users p ON p.formation_id = u.formation_id AND p.pk = u.parent_pk
          JOIN muxi_users r ON r.formation_id = u.formation_id AND r.pk = u.root_pk
         WHERE p.root_pk <> u.root_pk AND r.root_pk = r.pk""",
        "A user has another root than the user that it was merged into: it is read as part of the wrong person.",
        _REROOT,
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
        SELECT formation_id, start_pk FROM up WHERE start_pk = pk""",
        "The parents of users go in a circle: an unmerge of one of them would never end.",
        _REROOT,
    ),
    Rule(
        "user-public-id",
        """
        SELECT formation_id, pk FROM muxi_users
         WHERE public_id NOT LIKE 'usr~_%' ESCAPE '~' OR length(public_id) NOT BETWEEN 5 AND 68""",
        "A public id does not look like one (usr_...): nobody can be named by it.",
        "Give the user another public_id that begins with usr_, in muxi_users and in muxi_history.",
    ),
    Rule(
        "user-created",
        """
        SELECT q.formation_id, q.public_id FROM (
            SELECT u.formation_id, u.public_id, (
                SELECT count(*) FROM muxi_history h
                 WHERE h.formation_id = u.formation_id AND h.user_id = u.public_id AND h.event = 'user:create')
                   AS created
              FROM muxi_users u) q
         WHERE q.created = 0 OR (q.created > 1 AND q.created > 1 + (
            SELECT count(*) FROM muxi_history d
             WHERE d.formation_id = q.formation_id AND d.event = 'user:delete'
               AND (d.user_id = q.public_id OR d.details LIKE '%"' || q.public_id || '"%')))""",
        "A user was not created, or more often than deleted, by what the history says.",
        _HISTORY,
    ),
)

IDENTIFIER_RULES = (
    Rule(
        "identifier-slot",
        "SELECT formation_id, pk FROM muxi_identifiers WHERE slot < 0",
        "An identifier has a slot below 0: somebody could make a second user of the same spelling.",
        "Give it the slot after the highest of its bucket.",
    ),
    Rule(
        "identifier-twice",
        """
        SELECT formation_id, count(*) AS number FROM muxi_identifiers
         WHERE unlinked_at IS NULL AND (expires_at IS NULL OR expires_at > :now) AND value <> '' AND NOT secret
         GROUP BY formation_id, type, scope, value HAVING count(*) > 1""",
        "One identifier is linked twice: whom it means is a matter of chance.",
        "Merge the two users if they are one person (muxi users merge); else set unlinked_at on the row that is wrong.",
    ),
    Rule(
        "identifier-secret-twice",
        """
        SELECT formation_id, count(*) AS number FROM muxi_identifiers
         WHERE unlinked_at IS NULL AND (expires_at IS NULL OR expires_at > :now) AND secret
         GROUP BY formation_id, bucket, type, scope HAVING count(*) > 1""",
        "One key is linked twice: whom it lets in is a matter of chance.",
        "Set unlinked_at on all rows of the key, and issue another one.",
    ),
    Rule(
        "identifier-in-clear",
        """
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
         WHERE i.type = 'api_key' AND NOT i.secret""",
        "An API key is kept in clear.",
        "Take it for known to others: set value and spelling to '' and unlinked_at on the row, and issue another one.",
    ),
    Rule(
        "identifier-secret-hint",
        """
        SELECT formation_id, pk FROM muxi_identifiers
         WHERE secret AND spelling <> '' AND (spelling NOT LIKE '%...%' OR length(spelling) > 16)""",
        "Of a secret more is kept than its hint.",
        "Set its spelling to '...'. If others could read the database or its back-ups, rotate it.",
    ),
    Rule(
        "identifier-secret-elsewhere",
        """
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
         WHERE i.type IS NULL AND NOT i.secret AND i.value <> '' AND EXISTS (
            SELECT 1 FROM muxi_identifiers s
             WHERE s.formation_id = i.formation_id AND s.bucket = i.bucket AND s.secret)""",
        "What is known for a secret is also kept in clear, as an identifier without a type.",
        "Set value and spelling of that row to ''. If others could read the database or its back-ups, rotate the key.",
    ),
    Rule(
        "identifier-erased",
        """
        SELECT formation_id, pk FROM muxi_identifiers
         WHERE unlinked_at IS NULL AND (expires_at IS NULL OR expires_at > :now) AND NOT secret
           AND (value = '' OR spelling = '')""",
        "An identifier is linked and its spelling is gone: nobody can be found by it.",
        "Restore the row from a back-up, or set unlinked_at and link the identifier again.",
    ),
    Rule(
        "identifier-link-recorded",
        """
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
         WHERE i.user_pk IS NOT NULL AND 1 <> (
            SELECT count(*) FROM muxi_history h
             WHERE h.formation_id = i.formation_id AND h.identifier_pk = i.pk AND h.event = 'identifier:link')""",
        "The history does not say once that an identifier was linked.",
        _HISTORY,
    ),
    Rule(
        "identifier-unlink-recorded",
        """
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
         WHERE i.user_pk IS NOT NULL AND CASE WHEN i.unlinked_at IS NULL THEN 0 ELSE 1 END <> (
            SELECT count(*) FROM muxi_history h
             WHERE h.formation_id = i.formation_id AND h.identifier_pk = i.pk AND h.event = 'identifier:unlink')""",
        "An identifier and the history do not agree on whether it was unlinked.",
        "Believe the history where it has the event: set unlinked_at to its time. Else restore from a back-up.",
    ),
)

LEDGER_RULES = (
    Rule(
        "merge-of-member",
        """
        SELECT u.formation_id, u.public_id FROM muxi_users u
         WHERE u.parent_pk IS NOT NULL AND 1 <> (
            SELECT count(*) FROM muxi_merges m
             WHERE m.formation_id = u.formation_id AND m.secondary_pk = u.pk AND m.primary_pk = u.parent_pk
               AND m.undone_at IS NULL)""",
        "A user is part of another one without exactly one merge that stands and made it so: it cannot be unmerged.",
        "Restore the row of muxi_merges from a back-up, by the merge_id in the history (event user:merge).",
    ),
    Rule(
        "merge-standing",
        """
        SELECT m.formation_id, m.merge_id FROM muxi_merges m
          JOIN muxi_users u ON u.formation_id = m.formation_id AND u.pk = m.secondary_pk
         WHERE m.undone_at IS NULL AND (u.parent_pk IS NULL OR u.parent_pk <> m.primary_pk)""",
        "A merge is said to stand, and its user is not part of the other one.",
        "Set undone_at where the history has the event user:unmerge; else merge the two again by hand.",
    ),
    Rule(
        "merge-self",
        "SELECT formation_id, merge_id FROM muxi_merges WHERE primary_pk = secondary_pk",
        "A user is said to have been merged with itself.",
        "Delete that row of muxi_merges.",
    ),
    Rule(
        "merge-recorded",
        """
        SELECT m.formation_id, m.merge_id FROM muxi_merges m
          JOIN muxi_users u ON u.formation_id = m.formation_id AND u.pk = m.primary_pk
         WHERE 1 <> (
            SELECT count(*) FROM muxi_history h
             WHERE h.formation_id = m.formation_id AND h.merge_id = m.merge_id AND h.event = 'user:merge'
               AND h.other_user_id IN (
                   SELECT s.public_id FROM muxi_users s
                    WHERE s.formation_id = m.formation_id AND s.pk = m.secondary_pk))""",
        "The history does not say once that a merge was made.",
        _HISTORY,
    ),
    Rule(
        "merge-undone-recorded",
        """
        SELECT m.formation_id, m.merge_id FROM muxi_merges m
         WHERE CASE WHEN m.undone_at IS NULL THEN 0 ELSE 1 END <> (
            SELECT count(*) FROM muxi_history h
              JOIN muxi_users s ON s.formation_id = h.formation_id AND s.public_id = h.other_user_id
             WHERE h.formation_id = m.formation_id AND h.merge_id = m.merge_id AND h.event = 'user:unmerge'
               AND s.pk = m.secondary_pk)""",
        "A merge and the history do not agree on whether it was undone.",
        "Believe the history where it has the event: undo the merge (muxi users unmerge). Else restore from a back-up.",
    ),
    Rule(
        "merge-separated",
        """
        SELECT m.formation_id, m.merge_id FROM muxi_merges m
         WHERE m.undone_at IS NOT NULL AND m.primary_pk <> m.secondary_pk AND NOT EXISTS (
            SELECT 1 FROM muxi_separations s
             WHERE s.formation_id = m.formation_id
               AND s.one_pk = CASE WHEN m.primary_pk < m.secondary_pk THEN m.primary_pk ELSE m.secondary_pk END
               AND s.other_pk = CASE WHEN m.primary_pk < m.secondary_pk THEN m.secondary_pk ELSE m.primary_pk END)""",
        "Two users were taken apart and that is not remembered: a link may merge them again.",
        "Insert the pair into muxi_separations, the lower key first, with undone_at as separated_at.",
    ),
)

_PUBLIC_ID = re.compile(r"usr_[A-Za-z0-9_-]{1,64}")


def _says_more_than_ids(row: Row[Any]) -> bool:
    try:
        return not _ids_alone(json.loads(row.details))
    except ValueError:
        return True


def _ids_alone(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_ids_alone(each) for each in value.values())
    if isinstance(value, list):
        return all(_ids_alone(each) for each in value)
    return isinstance(value, int | None) or (isinstance(value, str) and _PUBLIC_ID.fullmatch(value) is not None)


HISTORY_RULES = (
    Rule(
        "history-names",
        """
        SELECT formation_id, pk FROM muxi_history
         WHERE user_id NOT LIKE 'usr~_%' ESCAPE '~' OR other_user_id NOT LIKE 'usr~_%' ESCAPE '~'""",
        "The history names somebody otherwise than by public id. It outlives people: erasing them leaves this behind.",
        "Put the public id in its place.",
    ),
    Rule(
        "history-details",
        "SELECT formation_id, details FROM muxi_history WHERE details IS NOT NULL",
        "The history holds something other than ids and numbers. It outlives people: erasing them leaves this behind.",
        "Set details to NULL in those rows.",
        broken=_says_more_than_ids,
    ),
)
