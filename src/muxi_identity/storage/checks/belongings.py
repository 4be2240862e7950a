"""Rules about what else belongs to people: working memory, preferences, credentials, synopses, link codes."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from muxi_identity.arguments import MAX_KEY
from muxi_identity.storage.checks.public_ids import is_none
from muxi_identity.storage.checks.rule import HERE, Rule

_SERVICE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_FORGET_SYNOPSIS = "UPDATE muxi_synopses SET text = NULL, basis = NULL, built_at = NULL WHERE {those}"
_MOST_SHOWN = 203  # characters of a credential's preview: names of fields, cut off


def _key_is_none(row: Row[Any]) -> bool:
    normal = unicodedata.normalize("NFC", row.key.strip())
    return not row.key or row.key != normal or not row.key.isprintable() or len(row.key) > MAX_KEY


def _place_is_none(row: Row[Any]) -> bool:
    return not (_SERVICE.fullmatch(row.service) and _SERVICE.fullmatch(row.name))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_anything(value: Any) -> bool:
    return True


def _json_rule(table: str, column: str, whole: Callable[[Any], bool], meaning: str, mend: str, statement: str) -> Rule:
    def broken(row: Row[Any]) -> bool:
        return not whole(json.loads(row.told))

    return Rule(
        f"json-{table.removeprefix('muxi_').replace('_', '-')}-{column}",
        f"SELECT formation_id, pk, {column} AS told FROM {table} WHERE {column} IS NOT NULL",
        meaning,
        mend,
        (statement,),
        broken=broken,
    )


_WITHOUT = "Restore it from a back-up, or do without."
_JSON_RULES = (
    _json_rule(
        "muxi_identifiers",
        "metadata",
        _is_object,
        "The metadata of an identifier cannot be read: its person cannot be listed or exported.",
        _WITHOUT,
        "UPDATE muxi_identifiers SET metadata = NULL WHERE {those}",
    ),
    _json_rule(
        "muxi_sessions",
        "context",
        _is_object,
        "The context of a session cannot be read: turns in it fail.",
        _WITHOUT,
        "UPDATE muxi_sessions SET context = NULL WHERE {those}",
    ),
    _json_rule(
        "muxi_memories",
        "metadata",
        _is_object,
        "The metadata of a memory cannot be read: the memories of its person cannot be listed.",
        _WITHOUT,
        "UPDATE muxi_memories SET metadata = NULL WHERE {those}",
    ),
    _json_rule(
        "muxi_preferences",
        "value",
        _is_anything,
        "A preference cannot be read: the preferences of its person cannot be loaded.",
        _WITHOUT,
        "DELETE FROM muxi_preferences WHERE {those}",
    ),
)


def _synopsis_basis(dialect: str) -> Rule:
    # "12:3,15:0": members and their revisions.
    if dialect == "postgresql":
        parts = """
            SELECT y.formation_id, y.pk, y.user_pk, CASE WHEN b.part ~ '^[0-9]+:[0-9]+$'
                   THEN split_part(b.part, ':', 1)::bigint END AS member_pk
              FROM muxi_synopses y CROSS JOIN LATERAL unnest(string_to_array(y.basis, ',')) b (part)"""
        head = ""
    else:
        head = f"""
            WITH RECURSIVE rest (formation_id, pk, user_pk, part, left_over) AS (
                SELECT u.formation_id, u.pk, u.user_pk, NULL, u.basis || ',' FROM muxi_synopses u
                 WHERE u.basis IS NOT NULL {HERE}
                 UNION ALL
                SELECT formation_id, pk, user_pk, substr(left_over, 1, instr(left_over, ',') - 1),
                       substr(left_over, instr(left_over, ',') + 1)
                  FROM rest WHERE left_over <> '')"""
        parts = """
            SELECT formation_id, pk, user_pk, CAST(substr(part, 1, instr(part, ':') - 1) AS INTEGER) AS member_pk
              FROM rest WHERE part IS NOT NULL"""
    return Rule(
        "synopsis-basis",
        f"""{head}
        SELECT DISTINCT p.formation_id, p.pk FROM ({parts}) p
          JOIN muxi_users o ON o.formation_id = p.formation_id AND o.pk = p.user_pk
         WHERE NOT EXISTS (
            SELECT 1 FROM muxi_users m
             WHERE m.formation_id = p.formation_id AND m.pk = p.member_pk AND m.root_pk = o.root_pk)""",
        "A synopsis was made of what is another person's by now: the words of one lie with the other.",
        "Forget it: it is made again when it is asked for.",
        (_FORGET_SYNOPSIS,),
        dialect=dialect,
    )


def _link_code_form(dialect: str) -> Rule:
    return Rule(
        "link-code-form",
        f"""
        SELECT formation_id, pk FROM muxi_link_codes
         WHERE length(code_hash) <> 32 OR identifier_pk IS NULL OR expires_at <= created_at
            OR {is_none("asked_as", dialect)}
            OR (pending_identifier_pk IS NULL) <> (pending_message_pk IS NULL)
            OR (pending_identifier_pk IS NULL) <> (pending_until IS NULL)
            OR pending_identifier_pk = identifier_pk""",
        "A link code is not as one is made: it may be kept in clear, or never expire.",
        "Delete it; whoever asked for it asks for another one.",
        ("DELETE FROM muxi_link_codes WHERE {those}",),
        dialect=dialect,
    )


BELONGING_RULES = (
    Rule(
        "working-kind",
        "SELECT formation_id, pk FROM muxi_working_memory WHERE kind NOT IN ('fact', 'topic', 'summary')",
        "An item of working memory is of no kind that there is.",
        "Delete it.",
        ("DELETE FROM muxi_working_memory WHERE {those}",),
    ),
    Rule(
        "working-bounds",
        "SELECT formation_id, pk FROM muxi_working_memory"
        " WHERE length(content) NOT BETWEEN 1 AND 300 OR expires_at < created_at",
        "An item of working memory is empty, or longer than one may be, or expires before it was made.",
        "Delete it.",
        ("DELETE FROM muxi_working_memory WHERE {those}",),
    ),
    Rule(
        "preference-key",
        "SELECT formation_id, pk, key FROM muxi_preferences",
        "The key of a preference is not as it is asked for: nobody can read, replace or delete it by its key.",
        "Delete it, and set the preference again.",
        ("DELETE FROM muxi_preferences WHERE {those}",),
        broken=_key_is_none,
    ),
    Rule(
        "credential-place",
        "SELECT formation_id, pk, service, name FROM muxi_credentials",
        "The service or the name of a credential is none that can be asked for.",
        "Restore it from a back-up; under another name it does not open. Or delete it; its owner sets it again.",
        ("DELETE FROM muxi_credentials WHERE {those}",),
        broken=_place_is_none,
    ),
    Rule(
        "credential-form",
        f"""
        SELECT formation_id, pk FROM muxi_credentials
         WHERE credential_id NOT LIKE 'cred~_%' ESCAPE '~' OR length(ciphertext) < 30 OR key_id = ''
            OR length(preview) > {_MOST_SHOWN}""",
        "A credential is not kept as one is: with an id, encrypted, under a key, and with a hint alone in clear.",
        "Restore it from a back-up, or delete it, and have its owner set it again. What was in clear may be known to "
        "others: have it revoked.",
        ("DELETE FROM muxi_credentials WHERE {those}",),
    ),
    Rule(
        "synopsis-whole",
        """
        SELECT formation_id, pk FROM muxi_synopses
         WHERE (text IS NULL) <> (basis IS NULL) OR (text IS NULL) <> (built_at IS NULL) OR revision < 0""",
        "A synopsis has a text without what it was made of, or the other way round, or a revision below 0.",
        "Forget it: it is made again when it is asked for.",
        (_FORGET_SYNOPSIS, "UPDATE muxi_synopses SET revision = 0 WHERE {those} AND revision < 0"),
    ),
    _synopsis_basis("sqlite"),
    _synopsis_basis("postgresql"),
    _link_code_form("sqlite"),
    _link_code_form("postgresql"),
    *_JSON_RULES,
)
