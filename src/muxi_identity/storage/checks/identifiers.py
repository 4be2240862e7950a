"""Rules about identifiers: each in its normal form, of one person, and none that is secret kept in clear."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from muxi_identity.errors import InvalidIdentifierError
from muxi_identity.identifiers import normalise, same_value
from muxi_identity.refusals import parse_scope, parse_type
from muxi_identity.storage.checks.rule import KEYS_DRAWN, Rule

# Of two rows the later one is compared with "pk + 0": by the index on keys, all rows before it would be looked through.
_LIVE = "{0}.unlinked_at IS NULL AND ({0}.expires_at IS NULL OR {0}.expires_at > :now)"
_ROOT = """
    (SELECT r.public_id FROM muxi_users m
       JOIN muxi_users r ON r.formation_id = m.formation_id AND r.pk = m.root_pk
      WHERE m.formation_id = t.formation_id AND m.pk = t.user_pk)"""
_EVENT = "SELECT 1 FROM muxi_history h WHERE h.formation_id = t.formation_id AND h.identifier_pk = t.pk AND h.event = "
_WRITE_UNLINK = (
    "INSERT INTO muxi_history (formation_id, pk, at, event, user_id, identifier_pk, actor)"
    f" SELECT t.formation_id, {{key}}, coalesce(t.unlinked_at, {{now}}), 'identifier:unlink', {_ROOT}, t.pk, 'mended'"
    " FROM muxi_identifiers t WHERE {those} AND t.user_pk IS NOT NULL"
    f" AND NOT EXISTS ({_EVENT} 'identifier:unlink')",
    KEYS_DRAWN,
)
UNLINK = (
    *_WRITE_UNLINK,
    "UPDATE muxi_identifiers SET unlinked_at = {now} WHERE {those} AND unlinked_at IS NULL",
)
"""Unlinks identifiers, and says so in the history."""


def _type_is_none(row: Row[Any]) -> bool:
    return not _reads(parse_type, row.type)


def _scope_is_none(row: Row[Any]) -> bool:
    return not _reads(parse_scope, row.scope)


def _reads(read: Any, given: str) -> bool:
    try:
        return bool(read(given) == given)
    except InvalidIdentifierError:
        return False


def _value_is_no_normal_form(row: Row[Any]) -> bool:
    return not same_value(row.value, row.type, row.value)


def _spelling_differs(row: Row[Any]) -> bool:
    return same_value(row.value, row.type, row.value) and not same_value(row.spelling, row.type, row.value)


def _needs_a_type(row: Row[Any]) -> bool:
    if row.value.startswith("usr_"):
        return True
    try:
        return bool(normalise(row.value, "email"))
    except InvalidIdentifierError:
        return False


IDENTIFIER_RULES = (
    Rule(
        "identifier-slot",
        "SELECT formation_id, pk FROM muxi_identifiers WHERE slot < 0",
        "An identifier has a slot below 0: somebody could make a second user of the same spelling.",
        "Give it the slot after the highest of its bucket.",
        (
            "UPDATE muxi_identifiers SET slot = (SELECT max(x.slot) FROM muxi_identifiers x"
            " WHERE x.formation_id = muxi_identifiers.formation_id AND x.bucket = muxi_identifiers.bucket) + 1 - slot"
            " WHERE {those}",
        ),
    ),
    Rule(
        "identifier-bucket-form",
        "SELECT formation_id, pk FROM muxi_identifiers WHERE length(bucket) <> 16",
        "The bucket of an identifier is not as one is made: nobody finds it, and nothing keeps others from taking it.",
        "Restore the row from a back-up, or give it a bucket of its own, unlinked; link the identifier again then.",
        (*UNLINK, "UPDATE muxi_identifiers SET bucket = {bytes16} WHERE {those}"),
    ),
    Rule(
        "identifier-type",
        "SELECT formation_id, pk, type FROM muxi_identifiers WHERE type IS NOT NULL",
        "The type of an identifier is no name of a type: nobody can name it with that, and it is not found.",
        "Give it back the type that it had. Where nobody knows it, take off what is none.",
        (
            "UPDATE muxi_identifiers SET scope = NULL, type = CASE WHEN secret THEN 'api_key'"
            " WHEN value LIKE '%_@_%' THEN 'email' WHEN value LIKE 'usr~_%' ESCAPE '~' THEN 'internal' END"
            " WHERE {those}",
        ),
        broken=_type_is_none,
    ),
    Rule(
        "identifier-scope",
        "SELECT formation_id, pk, scope FROM muxi_identifiers WHERE scope IS NOT NULL",
        "The scope of an identifier is none that anybody can name.",
        "Give it back the scope that it had, or none.",
        ("UPDATE muxi_identifiers SET scope = NULL WHERE {those}",),
        broken=_scope_is_none,
    ),
    Rule(
        "identifier-normal-form",
        "SELECT formation_id, pk, type, value FROM muxi_identifiers WHERE NOT secret AND value <> ''",
        "The value of an identifier is not the normal form of its type: nobody finds it, and who writes in under it "
        "becomes a second user.",
        "Derive it anew from the spelling, which is as it was given. Where its bucket is then another one, restore the "
        "row, or unlink it and link the identifier again.",
        (
            "UPDATE muxi_identifiers SET value = CASE type WHEN 'email' THEN lower(trim(spelling))"
            " WHEN 'phone' THEN '+' || replace(replace(replace(replace(replace(spelling, '+', ''), ' ', ''), '-', ''),"
            " '(', ''), ')', '') ELSE trim(spelling) END WHERE {those}",
        ),
        broken=_value_is_no_normal_form,
    ),
    Rule(
        "identifier-spelling",
        "SELECT formation_id, pk, type, value, spelling FROM muxi_identifiers"
        " WHERE NOT secret AND value <> '' AND spelling <> ''",
        "The spelling of an identifier is that of another one: people are shown somebody else's.",
        "Let it be shown by its value, by which it is found.",
        ("UPDATE muxi_identifiers SET spelling = value WHERE {those}",),
        broken=_spelling_differs,
    ),
    Rule(
        "identifier-untyped",
        "SELECT formation_id, pk, value FROM muxi_identifiers WHERE type IS NULL AND NOT secret"
        " AND (value LIKE '%@%' OR value LIKE 'usr~_%' ESCAPE '~')",
        "An e-mail address, or what looks like a public id, has no type: bare it is read as something else, and "
        "nobody finds it.",
        "Give it the type that it would have been given.",
        (
            "UPDATE muxi_identifiers SET value = lower(value), type = 'email' WHERE {those} AND value LIKE '%@%'",
            "UPDATE muxi_identifiers SET type = 'internal' WHERE {those} AND value NOT LIKE '%@%'",
        ),
        broken=_needs_a_type,
    ),
    Rule(
        "identifier-twice",
        f"""
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
         WHERE {_LIVE.format("i")} AND i.value <> '' AND NOT i.secret AND EXISTS (
            SELECT 1 FROM muxi_identifiers o
             WHERE o.formation_id = i.formation_id AND o.value = i.value AND o.pk + 0 < i.pk AND NOT o.secret
               AND coalesce(o.type, '') = coalesce(i.type, '') AND coalesce(o.scope, '') = coalesce(i.scope, '')
               AND {_LIVE.format("o")})""",
        "One identifier is linked twice: whom it means is a matter of chance.",
        "Merge the two users if they are one person (`muxi users merge`). Else unlink the row that is wrong; the later "
        "one, where nobody knows.",
        UNLINK,
    ),
    Rule(
        "identifier-secret-twice",
        f"""
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
         WHERE {_LIVE.format("i")} AND i.secret AND EXISTS (
            SELECT 1 FROM muxi_identifiers o
             WHERE o.formation_id = i.formation_id AND o.bucket = i.bucket AND o.pk + 0 < i.pk AND o.secret
               AND {_LIVE.format("o")})""",
        "One key is linked twice: whom it lets in is a matter of chance.",
        "Unlink the row that is wrong; the later one, where nobody knows. Better unlink both, and issue another key.",
        UNLINK,
    ),
    Rule(
        "identifier-secret-revived",
        f"""
        SELECT DISTINCT i.formation_id, i.pk FROM muxi_identifiers s CROSS JOIN muxi_identifiers i
         WHERE i.formation_id = s.formation_id AND i.bucket = s.bucket AND i.pk + 0 > s.pk
           AND s.secret AND NOT ({_LIVE.format("s")}) AND {_LIVE.format("i")}""",
        "A key that was revoked or has expired means somebody again: whoever kept it is let in.",
        "Unlink it, and issue another one.",
        UNLINK,
    ),
    Rule(
        "identifier-in-clear",
        """
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
         WHERE i.type = 'api_key' AND NOT i.secret""",
        "An API key is kept in clear.",
        "Take it for known to others: take the clear text off, unlink it, and issue another one.",
        (*UNLINK, "UPDATE muxi_identifiers SET secret = true, value = '', spelling = '...' WHERE {those}"),
    ),
    Rule(
        "identifier-secret-hint",
        """
        SELECT formation_id, pk FROM muxi_identifiers
         WHERE secret AND spelling <> '' AND (spelling NOT LIKE '%...%' OR length(spelling) > 16)""",
        "Of a secret more is kept than its hint.",
        "Take it off. If others could read the database or its back-ups, rotate the key.",
        ("UPDATE muxi_identifiers SET spelling = '...' WHERE {those}",),
    ),
    Rule(
        "identifier-secret-untyped",
        "SELECT formation_id, pk FROM muxi_identifiers WHERE secret AND type IS NULL",
        "A secret has no type: named by the one that it was linked under, it is not found.",
        "Give it back its type.",
        ("UPDATE muxi_identifiers SET type = 'api_key' WHERE {those}",),
    ),
    Rule(
        "identifier-secret-elsewhere",
        """
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
         WHERE i.type IS NULL AND NOT i.secret AND i.value <> '' AND EXISTS (
            SELECT 1 FROM muxi_identifiers s
             WHERE s.formation_id = i.formation_id AND s.bucket = i.bucket AND s.secret)""",
        "What is known for a secret is also kept in clear, as an identifier without a type.",
        "Take the clear text off, and unlink it. If others could read the database or its back-ups, rotate the key.",
        (*UNLINK, "UPDATE muxi_identifiers SET value = '', spelling = '...' WHERE {those}"),
    ),
    Rule(
        "identifier-erased",
        f"""
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
         WHERE {_LIVE.format("i")} AND NOT i.secret AND (i.value = '' OR i.spelling = '')""",
        "An identifier is linked and its spelling is gone: nobody can be found by it.",
        "Restore the row from a back-up, or unlink it and link the identifier again.",
        UNLINK,
    ),
    Rule(
        "identifier-erased-rest",
        "SELECT formation_id, pk FROM muxi_identifiers"
        " WHERE spelling = '' AND (value <> '' OR metadata IS NOT NULL OR source IS NOT NULL)",
        "Of an identifier that was erased something is left.",
        "Take it off.",
        ("UPDATE muxi_identifiers SET value = '', metadata = NULL, source = NULL WHERE {those}",),
    ),
    Rule(
        "identifier-link-recorded",
        """
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
         WHERE i.user_pk IS NOT NULL AND 1 <> (
            SELECT count(*) FROM muxi_history h
             WHERE h.formation_id = i.formation_id AND h.identifier_pk = i.pk AND h.event = 'identifier:link')""",
        "The history does not say once that an identifier was linked.",
        "Restore the rows of muxi_history that are missing from a back-up. Where there is none, write them anew; "
        "of one that is there too often delete the later ones.",
        (
            "INSERT INTO muxi_history (formation_id, pk, at, event, user_id, identifier_pk, actor)"
            f" SELECT t.formation_id, {{key}}, t.linked_at, 'identifier:link', {_ROOT}, t.pk, 'mended'"
            f" FROM muxi_identifiers t WHERE {{those}} AND NOT EXISTS ({_EVENT} 'identifier:link')",
            KEYS_DRAWN,
        ),
    ),
    Rule(
        "identifier-unlink-recorded",
        """
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
         WHERE i.user_pk IS NOT NULL AND CASE WHEN i.unlinked_at IS NULL THEN 0 ELSE 1 END <> (
            SELECT count(*) FROM muxi_history h
             WHERE h.formation_id = i.formation_id AND h.identifier_pk = i.pk AND h.event = 'identifier:unlink')""",
        "An identifier and the history do not agree on whether it was unlinked.",
        "Believe the history where it has the event. Where it has none, believe the identifier, and write the event.",
        (
            "UPDATE muxi_identifiers SET unlinked_at = (SELECT min(h.at) FROM muxi_history h WHERE h.formation_id ="
            " muxi_identifiers.formation_id AND h.identifier_pk = muxi_identifiers.pk"
            " AND h.event = 'identifier:unlink') WHERE {those} AND unlinked_at IS NULL",
            *_WRITE_UNLINK,
        ),
    ),
    Rule(
        "identifier-times",
        """
        SELECT i.formation_id, i.pk FROM muxi_identifiers i
          JOIN muxi_history h ON h.formation_id = i.formation_id AND h.identifier_pk = i.pk
         WHERE (h.event = 'identifier:link' AND h.at <> i.linked_at)
            OR (h.event = 'identifier:unlink' AND h.at <> i.unlinked_at)
         GROUP BY i.formation_id, i.pk""",
        "An identifier and the history do not agree on when it was linked or unlinked.",
        "Believe the history.",
        tuple(
            f"UPDATE muxi_identifiers SET {column} = coalesce((SELECT min(h.at) FROM muxi_history h"
            " WHERE h.formation_id = muxi_identifiers.formation_id AND h.identifier_pk = muxi_identifiers.pk"
            f" AND h.event = '{event}'), {column}) WHERE {{those}}"
            for column, event in (("linked_at", "identifier:link"), ("unlinked_at", "identifier:unlink"))
        ),
    ),
)
