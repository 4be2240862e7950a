"""Rules about memories, and about the index that they are searched by."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from muxi_identity.storage.checks.rule import Rule
from muxi_identity.storage.tables import DIGEST, memory_digest, memory_words
from muxi_identity.storage.tables.search import FILL_WORDS

# What the key of a memory looks like that is about no attribute: no more than that, since "#" may begin an attribute.
_IS_DIGEST = f"(length(key) = 33 AND key LIKE '{DIGEST}%' AND trim(substr(key, 2), '0123456789abcdef') = '')"
_OWNER = "lower(hex({0}.formation_id)) || 'u' || {0}.user_pk"
_MEMORY = "lower(hex({0}.formation_id)) || 'm' || {0}.pk"


def _words_differ(row: Row[Any]) -> bool:
    return bool(memory_words(row.content, row.value, row.key) != row.words)


def _digest_differs(row: Row[Any]) -> bool:
    return bool(memory_digest(row.content) != row.key)


MEMORY_RULES = (
    Rule(
        "memory-form",
        f"""
        SELECT formation_id, pk FROM muxi_memories
         WHERE memory_id NOT LIKE 'mem~_%' ESCAPE '~' OR type = '' OR key = '' OR trim(content) = ''
            OR (value IS NOT NULL AND {_IS_DIGEST})""",
        "A memory is not as one is made: without an id, a type, a key or content, or with a value of nothing.",
        "Restore it from a back-up. Where there is none, give it what it lacks; what says nothing is of no use.",
        (
            "DELETE FROM muxi_memories WHERE {those} AND trim(content) = ''",
            "UPDATE muxi_memories SET memory_id = CASE WHEN memory_id LIKE 'mem~_%' ESCAPE '~' THEN memory_id"
            " ELSE 'mem_' || pk END, type = CASE type WHEN '' THEN 'note' ELSE type END,"
            f" key = CASE WHEN key = '' OR (value IS NOT NULL AND {_IS_DIGEST}) THEN 'mended ' || pk"
            " ELSE key END WHERE {those}",
        ),
    ),
    Rule(
        "memory-key",
        f"SELECT formation_id, pk, content, key FROM muxi_memories WHERE key LIKE '{DIGEST}%' AND value IS NULL",
        "A memory has the key of another content: it is replaced by what does not say the same, or kept beside what "
        "does.",
        "Have it say the same again: update_memory(memory_id, user_id, content=...). By that it gets its key. Or "
        "delete it.",
        ("DELETE FROM muxi_memories WHERE {those}",),
        broken=_digest_differs,
    ),
    Rule(
        "memory-words",
        "SELECT formation_id, pk, content, value, key, words FROM muxi_memories",
        "A memory is not searched by what it says.",
        "Have it say the same again: update_memory(memory_id, user_id, content=...). By that it gets its words.",
        broken=_words_differ,
    ),
    Rule(
        "memory-index",
        f"""
        SELECT m.formation_id, m.pk FROM muxi_memories m
          LEFT JOIN (SELECT memory, count(*) AS number, max(owner) AS owner, max(words) AS words
                       FROM muxi_memory_words GROUP BY memory) f
            ON f.memory = {_MEMORY.format("m")}
         WHERE f.number IS NULL OR f.number <> 1 OR f.words <> m.words OR f.owner <> {_OWNER.format("m")}""",
        "The search index does not have a memory as it is: it is not found, or under another user.",
        "Have the index made anew.",
        ("DELETE FROM muxi_memory_words", FILL_WORDS),
        dialect="sqlite",
    ),
    Rule(
        "memory-index-left",
        """
        SELECT f.formation_id, w.pk FROM muxi_memory_words w
          JOIN muxi_formations f
            ON lower(hex(f.formation_id)) = substr(w.memory, 1, length(w.memory) - length('m' || w.pk))
         WHERE NOT EXISTS (SELECT 1 FROM muxi_memories m WHERE m.formation_id = f.formation_id AND m.pk = w.pk)""",
        "The search index holds words of memories that are gone: what was erased can still be read in the file.",
        "Have the index made anew, and merged.",
        (
            "DELETE FROM muxi_memory_words",
            FILL_WORDS,
            "INSERT INTO muxi_memory_words (muxi_memory_words) VALUES ('optimize')",
        ),
        dialect="sqlite",
    ),
    Rule(
        "memory-index",
        """
        SELECT formation_id, pk FROM muxi_memories
         WHERE lexemes IS DISTINCT FROM to_tsvector('pg_catalog.english'::regconfig, words)
                                        || array_to_tsvector(ARRAY['@' || user_pk::text])""",
        "The search index does not have a memory as it is: it is not found, or under another user.",
        "The text search configuration changed: have the column reckoned anew. Where it is not generated any more, "
        "another finding says how it is made.",
        ("UPDATE muxi_memories SET words = words WHERE {those}",),
        dialect="postgresql",
    ),
)
