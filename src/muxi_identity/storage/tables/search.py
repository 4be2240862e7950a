"""What full-text search over memories needs beside the tables: a column, an index and triggers, which each database has
in its own way.

The migrations make them. They stand here for the check, which compares what a database has with what it must have.
"""

from __future__ import annotations

LEXEMES = (
    "tsvector GENERATED ALWAYS AS (to_tsvector('english'::regconfig, words)"
    " || array_to_tsvector(ARRAY['@' || user_pk])) STORED"
)
"""PostgreSQL: the column of muxi_memories."""
LEXEMES_INDEX = "CREATE INDEX ix_memories_lexemes ON muxi_memories USING gin (lexemes) WITH (fastupdate = off)"

_ADD = """
    INSERT INTO muxi_memory_words (owner, memory, words, pk)
    VALUES (lower(hex(new.formation_id)) || 'u' || new.user_pk, lower(hex(new.formation_id)) || 'm' || new.pk,
            new.words, new.pk);"""
_REMOVE = """
    DELETE FROM muxi_memory_words
     WHERE rowid IN (SELECT rowid FROM muxi_memory_words
                      WHERE muxi_memory_words MATCH 'memory : ' || lower(hex(old.formation_id)) || 'm' || old.pk);"""
WORDS_TABLE = """
    CREATE VIRTUAL TABLE muxi_memory_words USING fts5 (
        owner, memory, words, pk UNINDEXED,
        tokenize = "porter unicode61 remove_diacritics 0 categories 'L* N* Co Mn Mc'"
    )"""
"""SQLite: the index, and the triggers of muxi_memories that keep it."""
FILL_WORDS = """
    INSERT INTO muxi_memory_words (owner, memory, words, pk)
    SELECT lower(hex(formation_id)) || 'u' || user_pk, lower(hex(formation_id)) || 'm' || pk, words, pk
      FROM muxi_memories"""
TRIGGERS = {
    "tr_memories_added": f"CREATE TRIGGER tr_memories_added AFTER INSERT ON muxi_memories BEGIN {_ADD} END",
    "tr_memories_removed": f"CREATE TRIGGER tr_memories_removed AFTER DELETE ON muxi_memories BEGIN {_REMOVE} END",
    "tr_memories_changed": f"""
    CREATE TRIGGER tr_memories_changed AFTER UPDATE OF formation_id, pk, user_pk, words ON muxi_memories
    WHEN (old.formation_id, old.pk, old.user_pk, old.words) IS NOT (new.formation_id, new.pk, new.user_pk, new.words)
    BEGIN {_REMOVE} {_ADD} END""",
}
