"""Rules about the ledger of merges, and about who was taken apart."""

from __future__ import annotations

from muxi_identity.storage.checks.rule import KEYS_DRAWN, Rule

_HISTORY = (
    "Restore the rows of muxi_history that are missing from a back-up. Where there is none, write them anew; of one "
    "that is there too often delete the later ones."
)
_NAMES = """
    (SELECT p.public_id FROM muxi_users p WHERE p.formation_id = t.formation_id AND p.pk = t.primary_pk),
    (SELECT s.public_id FROM muxi_users s WHERE s.formation_id = t.formation_id AND s.pk = t.secondary_pk)"""


def _write_down(event: str, at: str, right: str) -> tuple[str, ...]:
    """Write the event of a merge where the history does not say it right, then delete what it says beside that.

    In this order, so that nothing is lost where it cannot be written.
    """
    event_of = (
        "FROM muxi_history h WHERE h.formation_id = {0}.formation_id AND h.merge_id = {0}.merge_id"
        f" AND h.event = '{event}'"
    )
    stands = f"{event_of} AND EXISTS (SELECT 1 FROM muxi_merges m WHERE m.formation_id = h.formation_id"
    stands += f" AND m.merge_id = h.merge_id AND h.at = m.{at} AND {right})"
    return (
        "INSERT INTO muxi_history (formation_id, pk, at, event, user_id, other_user_id, merge_id, actor)"
        f" SELECT t.formation_id, {{key}}, t.{at}, '{event}', {_NAMES}, t.merge_id, 'mended' FROM muxi_merges t"
        f" WHERE {{those}} AND t.{at} IS NOT NULL AND NOT EXISTS (SELECT 1 {stands.format('t')})",
        KEYS_DRAWN,
        f"DELETE FROM muxi_history WHERE event = '{event}' AND (formation_id, merge_id) IN"
        " (SELECT formation_id, merge_id FROM muxi_merges WHERE {those})"
        f" AND pk <> (SELECT min(h.pk) {stands.format('muxi_history')})",
    )


_OTHER_IS_RIGHT = (
    "h.other_user_id IN (SELECT s.public_id FROM muxi_users s"
    " WHERE s.formation_id = m.formation_id AND s.pk = m.secondary_pk)"
)
_BOTH_ARE_RIGHT = (
    f"{_OTHER_IS_RIGHT} AND h.user_id IN (SELECT p.public_id FROM muxi_users p"
    " WHERE p.formation_id = m.formation_id AND p.pk = m.primary_pk)"
)


def _enter(which: str) -> str:
    """Write what the history knows of merges, and the ledger does not, into the ledger.

    Of people who were deleted and made again the history tells as well: merges of an earlier life are none of these.
    """
    return f"""
    INSERT INTO muxi_merges
           (formation_id, merge_id, primary_pk, secondary_pk, merged_at, undone_at, mode, actor, source)
    SELECT h.formation_id, h.merge_id, p.pk, s.pk, h.at, (
               SELECT min(x.at) FROM muxi_history x WHERE x.formation_id = h.formation_id AND x.merge_id = h.merge_id
                  AND x.event = 'user:unmerge'), 'operator', h.actor, h.source
      FROM muxi_history h
      JOIN muxi_users p ON p.formation_id = h.formation_id AND p.public_id = h.user_id
      JOIN muxi_users s ON s.formation_id = h.formation_id AND s.public_id = h.other_user_id
     WHERE h.event = 'user:merge' AND h.formation_id = {{formation}} AND p.created_at <= h.at AND s.created_at <= h.at
       AND {which} AND NOT EXISTS (
        SELECT 1 FROM muxi_merges m WHERE m.formation_id = h.formation_id AND m.merge_id = h.merge_id)"""


_REMEMBER = """
    INSERT INTO muxi_separations (formation_id, one_pk, other_pk, separated_at)
    SELECT p.formation_id, p.one_pk, p.other_pk, max(p.undone_at) FROM (
        SELECT formation_id, undone_at,
               CASE WHEN primary_pk < secondary_pk THEN primary_pk ELSE secondary_pk END AS one_pk,
               CASE WHEN primary_pk < secondary_pk THEN secondary_pk ELSE primary_pk END AS other_pk
          FROM muxi_merges
         WHERE formation_id = {formation} AND undone_at IS NOT NULL AND primary_pk <> secondary_pk) p
     WHERE NOT EXISTS (
        SELECT 1 FROM muxi_separations s
         WHERE s.formation_id = p.formation_id AND s.one_pk = p.one_pk AND s.other_pk = p.other_pk)
     GROUP BY p.formation_id, p.one_pk, p.other_pk"""
"""Remembers every pair of a formation that its ledger says was taken apart."""
_STANDS_BY_PARENT = """
    DELETE FROM muxi_merges WHERE {those} AND undone_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM muxi_users u WHERE u.formation_id = muxi_merges.formation_id AND u.pk = muxi_merges.secondary_pk
           AND u.parent_pk = muxi_merges.primary_pk)"""
_UNDONE_BY_HISTORY = """
    UPDATE muxi_merges SET undone_at = (
        SELECT min(h.at) FROM muxi_history h WHERE h.formation_id = muxi_merges.formation_id
           AND h.merge_id = muxi_merges.merge_id AND h.event = 'user:unmerge')
     WHERE undone_at IS NULL AND {those}"""

LEDGER_RULES = (
    Rule(
        "merge-of-member",
        """
        SELECT u.formation_id, u.pk FROM muxi_users u
         WHERE u.parent_pk IS NOT NULL AND 1 <> (
            SELECT count(*) FROM muxi_merges m
             WHERE m.formation_id = u.formation_id AND m.secondary_pk = u.pk AND m.primary_pk = u.parent_pk
               AND m.undone_at IS NULL)""",
        "A user is part of another one without exactly one merge that stands and made it so: it cannot be unmerged.",
        "Restore the row of muxi_merges from a back-up, or write it anew by the history. Where the history does not "
        "have it either, the merge was made by hand: take the user out of the other one, and merge the two by "
        "`muxi users merge`.",
        (
            _enter("(s.pk, p.pk) IN (SELECT pk, parent_pk FROM muxi_users WHERE {those})"),
            "UPDATE muxi_merges SET undone_at = NULL WHERE (formation_id, secondary_pk, primary_pk) IN"
            " (SELECT formation_id, pk, parent_pk FROM muxi_users WHERE {those}) AND NOT EXISTS"
            " (SELECT 1 FROM muxi_history h WHERE h.formation_id = muxi_merges.formation_id"
            " AND h.merge_id = muxi_merges.merge_id AND h.event = 'user:unmerge')",
        ),
    ),
    Rule(
        "merge-standing",
        """
        SELECT m.formation_id, m.merge_id FROM muxi_merges m
          JOIN muxi_users u ON u.formation_id = m.formation_id AND u.pk = m.secondary_pk
         WHERE m.undone_at IS NULL AND (u.parent_pk IS NULL OR u.parent_pk <> m.primary_pk)""",
        "A merge is said to stand, and its user is not part of the other one.",
        "Where the history says that it was undone, so it was. Else take it out of the ledger and the history; where "
        "the two are one person, `muxi users merge` makes them one.",
        (
            _UNDONE_BY_HISTORY,
            "DELETE FROM muxi_history WHERE event = 'user:merge' AND (formation_id, merge_id) IN"
            " (SELECT formation_id, merge_id FROM muxi_merges WHERE undone_at IS NULL AND {those})",
            _STANDS_BY_PARENT,
        ),
    ),
    Rule(
        "merge-self",
        "SELECT formation_id, merge_id FROM muxi_merges WHERE primary_pk = secondary_pk",
        "A user is said to have been merged with itself.",
        "Take it out of the ledger and the history.",
        (
            "DELETE FROM muxi_history WHERE event IN ('user:merge', 'user:unmerge') AND (formation_id, merge_id) IN"
            " (SELECT formation_id, merge_id FROM muxi_merges WHERE {those})",
            "DELETE FROM muxi_merges WHERE {those}",
        ),
    ),
    Rule(
        "merge-mode",
        "SELECT formation_id, merge_id FROM muxi_merges WHERE mode NOT IN ('absorb', 'merge', 'operator', 'link_code')",
        "A merge was made in a way that there is not.",
        "Say that it was made by hand.",
        ("UPDATE muxi_merges SET mode = 'operator' WHERE {those}",),
    ),
    Rule(
        "merge-recorded",
        """
        SELECT m.formation_id, m.merge_id FROM muxi_merges m
          JOIN muxi_users u ON u.formation_id = m.formation_id AND u.pk = m.primary_pk
         WHERE 1 <> (
            SELECT count(*) FROM muxi_history h
             WHERE h.formation_id = m.formation_id AND h.merge_id = m.merge_id AND h.event = 'user:merge'
               AND h.user_id = u.public_id AND h.at = m.merged_at AND h.other_user_id IN (
                   SELECT s.public_id FROM muxi_users s
                    WHERE s.formation_id = m.formation_id AND s.pk = m.secondary_pk))""",
        "The history does not say once that a merge was made, when and of whom.",
        _HISTORY,
        _write_down("user:merge", "merged_at", _BOTH_ARE_RIGHT),
    ),
    Rule(
        "merge-undone-recorded",
        """
        SELECT m.formation_id, m.merge_id FROM muxi_merges m
         WHERE CASE WHEN m.undone_at IS NULL THEN 0 ELSE 1 END <> (
            SELECT count(*) FROM muxi_history h
              JOIN muxi_users s ON s.formation_id = h.formation_id AND s.public_id = h.other_user_id
             WHERE h.formation_id = m.formation_id AND h.merge_id = m.merge_id AND h.event = 'user:unmerge'
               AND s.pk = m.secondary_pk AND (m.undone_at IS NULL OR h.at = m.undone_at))""",
        "A merge and the history do not agree on whether it was undone, or when.",
        "Where the ledger says that it was undone, write it down. Where only the history says so, delete what it says, "
        "and undo the merge by `muxi users unmerge`.",
        (
            *_write_down("user:unmerge", "undone_at", _OTHER_IS_RIGHT),
            "DELETE FROM muxi_history WHERE event = 'user:unmerge' AND (formation_id, merge_id) IN"
            " (SELECT formation_id, merge_id FROM muxi_merges WHERE {those} AND undone_at IS NULL)",
        ),
    ),
    Rule(
        "merge-kept",
        """
        SELECT h.formation_id, h.pk FROM muxi_history h
          JOIN muxi_users p ON p.formation_id = h.formation_id AND p.public_id = h.user_id
          JOIN muxi_users s ON s.formation_id = h.formation_id AND s.public_id = h.other_user_id
         WHERE h.event = 'user:merge' AND p.created_at <= h.at AND s.created_at <= h.at AND NOT EXISTS (
            SELECT 1 FROM muxi_merges m WHERE m.formation_id = h.formation_id AND m.merge_id = h.merge_id)
           AND (s.parent_pk IS NULL OR s.parent_pk <> p.pk)""",
        "By what the history says, two users were merged; both are there, and the ledger knows nothing of it (the key "
        "is that of the event).",
        "Restore the row of muxi_merges from a back-up. Where there is none, write it anew by the history; a merge "
        "that was never undone takes effect by `muxi users merge`, when what the history says of it was deleted.",
        (
            "DELETE FROM muxi_history WHERE {those} AND NOT EXISTS (SELECT 1 FROM muxi_history x"
            " WHERE x.formation_id = muxi_history.formation_id AND x.merge_id = muxi_history.merge_id"
            " AND x.event = 'user:unmerge')",
            _enter("h.pk IN (SELECT pk FROM muxi_history WHERE {those})"),
            _REMEMBER,
        ),
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
        "Remember it: the lower key first.",
        (_REMEMBER,),
    ),
    Rule(
        "split-separated",
        """
        SELECT h.formation_id, h.pk FROM muxi_history h
          JOIN muxi_users p ON p.formation_id = h.formation_id AND p.public_id = h.user_id
          JOIN muxi_users n ON n.formation_id = h.formation_id AND n.public_id = h.other_user_id
         WHERE h.event = 'user:split' AND p.created_at <= h.at AND n.created_at <= h.at AND NOT EXISTS (
            SELECT 1 FROM muxi_history m
             WHERE m.formation_id = h.formation_id AND m.event = 'user:merge' AND m.user_id = h.user_id)
           AND NOT EXISTS (
            SELECT 1 FROM muxi_separations s
             WHERE s.formation_id = h.formation_id
               AND s.one_pk = CASE WHEN p.pk < n.pk THEN p.pk ELSE n.pk END
               AND s.other_pk = CASE WHEN p.pk < n.pk THEN n.pk ELSE p.pk END)""",
        "Somebody was split from a user and that is not remembered: a link may merge the two again (the key is that of "
        "the event).",
        "Remember it: the lower key first.",
        (
            "INSERT INTO muxi_separations (formation_id, one_pk, other_pk, separated_at)"
            " SELECT t.formation_id, CASE WHEN p.pk < n.pk THEN p.pk ELSE n.pk END,"
            " CASE WHEN p.pk < n.pk THEN n.pk ELSE p.pk END, max(t.at)"
            " FROM (SELECT * FROM muxi_history WHERE {those}) t"
            " JOIN muxi_users p ON p.formation_id = t.formation_id AND p.public_id = t.user_id"
            " JOIN muxi_users n ON n.formation_id = t.formation_id AND n.public_id = t.other_user_id GROUP BY 1, 2, 3",
        ),
    ),
    Rule(
        "separation-recorded",
        """
        SELECT s.formation_id, s.one_pk, s.other_pk FROM muxi_separations s
          JOIN muxi_users o ON o.formation_id = s.formation_id AND o.pk = s.one_pk
          JOIN muxi_users x ON x.formation_id = s.formation_id AND x.pk = s.other_pk
         WHERE NOT EXISTS (
            SELECT 1 FROM muxi_merges m
             WHERE m.formation_id = s.formation_id AND m.undone_at IS NOT NULL
               AND ((m.primary_pk = s.one_pk AND m.secondary_pk = s.other_pk)
                    OR (m.primary_pk = s.other_pk AND m.secondary_pk = s.one_pk)))
           AND NOT EXISTS (
            SELECT 1 FROM muxi_history h
             WHERE h.formation_id = s.formation_id AND h.event = 'user:split'
               AND h.other_user_id IN (o.public_id, x.public_id))""",
        "Two users are kept apart, and neither an unmerge nor a split says why: a link that should make them one "
        "person is refused.",
        "Forget it, where nobody knows better.",
        ("DELETE FROM muxi_separations WHERE {those}",),
        own=("one_pk", "other_pk"),
    ),
)
