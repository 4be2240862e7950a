"""Rules about the history: it outlives people, holds ids alone, and speaks of whom it is about."""

from __future__ import annotations

import json
import re
from typing import Any

from sqlalchemy import Row

from muxi_identity.models import EVENT_TYPES, IMPORT_FINISH, TASK_RUN_FINISH
from muxi_identity.storage.checks.public_ids import is_none
from muxi_identity.storage.checks.rule import HERE, Rule

_PUBLIC_ID = re.compile(r"usr_[A-Za-z0-9_-]{1,64}")
_EVENTS = ", ".join(
    f"'{each.replace('.', ':')}'" for each in EVENT_TYPES if each not in (TASK_RUN_FINISH, IMPORT_FINISH)
)
_OUTLIVES = "It outlives people: erasing them leaves this behind."


def _says_more_than_ids(row: Row[Any]) -> bool:
    details = json.loads(row.details)
    return not isinstance(details, dict) or not _ids_alone(details)


def _ids_alone(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_ids_alone(each) for each in value.values())
    if isinstance(value, list):
        return all(_ids_alone(each) for each in value)
    return isinstance(value, int | None) or (isinstance(value, str) and _PUBLIC_ID.fullmatch(value) is not None)


def _names(dialect: str) -> Rule:
    return Rule(
        "history-names",
        f"SELECT formation_id, pk FROM muxi_history WHERE {is_none('user_id', dialect)}"
        f" OR {is_none('other_user_id', dialect)}",
        f"The history names somebody otherwise than by public id. {_OUTLIVES}",
        "Put the public id in its place; where nobody knows it, one that nobody has.",
        tuple(
            f"UPDATE muxi_history SET {column} = 'usr_gone' WHERE {{those}} AND {is_none(column, dialect)}"
            for column in ("user_id", "other_user_id")
        ),
        dialect=dialect,
    )


# Of identifiers that never moved to another user in a split. Whom an event names was at that time the root of the
# member that the identifier belongs to: the member itself, or somebody that it was ever merged into.
_NOT_THEIRS = f"""
    WITH RECURSIVE odd (formation_id, pk, user_id, name) AS (
        SELECT u.formation_id, h.pk, h.user_id, m.public_id FROM muxi_history h
          JOIN muxi_identifiers u ON u.formation_id = h.formation_id AND u.pk = h.identifier_pk
          JOIN muxi_users m ON m.formation_id = u.formation_id AND m.pk = u.user_pk
         WHERE h.user_id <> m.public_id AND NOT EXISTS (
            SELECT 1 FROM muxi_history x
             WHERE x.formation_id = h.formation_id AND x.identifier_pk = h.identifier_pk
               AND x.event = 'identifier:move')
               {HERE}
         UNION
        SELECT o.formation_id, o.pk, o.user_id, h.user_id FROM odd o
          JOIN muxi_history h ON h.formation_id = o.formation_id AND h.other_user_id = o.name AND h.event = 'user:merge'
         WHERE o.name <> o.user_id)
    SELECT formation_id, pk FROM odd GROUP BY formation_id, pk
    HAVING max(CASE WHEN name = user_id THEN 1 ELSE 0 END) = 0"""

# What each event is about. Written out: a column that holds what it must not is a mistake as well.
_ABOUT = {
    "identifier_pk": "event LIKE 'identifier:%'",
    "merge_id": "event IN ('user:merge', 'user:unmerge')",
    "other_user_id": "event IN ('user:merge', 'user:unmerge', 'user:split', 'identifier:move')",
    "other_identifier_pk": "event = 'identifier:replace'",
}
_FORM = " OR ".join(
    [
        *(f"({when}) <> ({column} IS NOT NULL)" for column, when in _ABOUT.items()),
        "(event <> 'user:delete' AND details IS NOT NULL)",
    ]
)
_TAKE_OFF = (
    "UPDATE muxi_history SET "
    + ", ".join(f"{column} = CASE WHEN {when} THEN {column} END" for column, when in _ABOUT.items())
    + ", details = CASE event WHEN 'user:delete' THEN details END WHERE {those}"
)

HISTORY_RULES = (
    _names("sqlite"),
    _names("postgresql"),
    Rule(
        "history-details",
        "SELECT formation_id, pk, details FROM muxi_history WHERE details IS NOT NULL",
        f"The history holds something other than ids and numbers. {_OUTLIVES}",
        "Take it off.",
        ("UPDATE muxi_history SET details = NULL WHERE {those}",),
        broken=_says_more_than_ids,
    ),
    Rule(
        "history-event",
        f"SELECT formation_id, pk FROM muxi_history WHERE event NOT IN ({_EVENTS})",
        "The history tells of an event that there is not: it is told to nobody, and explains nothing.",
        "Restore the row from a back-up, or delete it; what it should have said, other findings name then.",
        ("DELETE FROM muxi_history WHERE {those}",),
    ),
    Rule(
        "history-form",
        f"SELECT formation_id, pk FROM muxi_history WHERE {_FORM}",
        "An event of the history does not name what it is about, or names what it cannot be about.",
        "Restore the row from a back-up. Where there is none, take off what it cannot be about, and delete what does "
        "not say enough then; what that should have said, other findings name.",
        (_TAKE_OFF, f"DELETE FROM muxi_history WHERE {{those}} AND ({_FORM})"),
    ),
    Rule(
        "history-identifier-user",
        _NOT_THEIRS,
        "An event of an identifier names a user that it never belonged to: the history of one person is shown as "
        "another's.",
        "Put the user in its place that the identifier belongs to.",
        (
            "UPDATE muxi_history SET user_id = (SELECT m.public_id FROM muxi_identifiers i"
            " JOIN muxi_users m ON m.formation_id = i.formation_id AND m.pk = i.user_pk"
            " WHERE i.formation_id = muxi_history.formation_id AND i.pk = muxi_history.identifier_pk) WHERE {those}",
        ),
    ),
    Rule(
        "history-identifier-moved",
        """
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
          JOIN muxi_users m ON m.formation_id = i.formation_id AND m.pk = i.user_pk
          JOIN muxi_history h ON h.formation_id = i.formation_id AND h.identifier_pk = i.pk
         WHERE h.event = 'identifier:move'
         GROUP BY i.formation_id, i.pk, m.public_id
        HAVING max(CASE WHEN h.user_id = m.public_id THEN 1 ELSE 0 END) = 0""",
        "An identifier left one user for another by what the history says, and belongs to neither of those (the key is "
        "the identifier's).",
        "Find out which of the two is wrong: restore the identifier with its rows, or let the history say whose it is.",
        (
            "UPDATE muxi_history SET user_id = (SELECT m.public_id FROM muxi_identifiers i"
            " JOIN muxi_users m ON m.formation_id = i.formation_id AND m.pk = i.user_pk"
            " WHERE i.formation_id = muxi_history.formation_id AND i.pk = muxi_history.identifier_pk)"
            " WHERE event = 'identifier:move' AND (formation_id, identifier_pk) IN"
            " (SELECT formation_id, pk FROM muxi_identifiers WHERE {those})",
        ),
    ),
)
