"""Rules about what belongs to people: sessions, memories, tasks and the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from muxi_identity.storage.checks.rule import Rule
from muxi_identity.storage.tables import memory_words

SESSION_RULES = (
    Rule(
        "session-audience",
        "SELECT formation_id, session_id FROM muxi_sessions WHERE audience NOT IN ('private', 'shared')",
        "A session is for an audience that there is not.",
        "Set it to 'private': nothing that was said in it is then read before others.",
    ),
    Rule(
        "message-owner",
        """
        SELECT m.formation_id, m.pk FROM muxi_messages m
          JOIN muxi_sessions s ON s.formation_id = m.formation_id AND s.pk = m.session_pk
         WHERE s.user_pk <> m.user_pk OR coalesce(s.identifier_pk, 0) <> coalesce(m.identifier_pk, 0)""",
        "A message lies in a session of another user or identifier: one person's words may be read by another.",
        "Delete the message, or give it the user and the identifier of its session if it was said there.",
    ),
    Rule(
        "message-time",
        """
        SELECT m.formation_id, m.pk FROM muxi_messages m
          JOIN muxi_sessions s ON s.formation_id = m.formation_id AND s.pk = m.session_pk
         WHERE m.created_at > s.last_activity_at""",
        "A message is later than the last activity of its session: what is said next would stand before it.",
        "Set last_activity_at of the session to the time of its last message.",
    ),
    Rule(
        "message-role",
        "SELECT formation_id, pk FROM muxi_messages WHERE role NOT IN ('user', 'assistant')",
        "A message is from neither the user nor the assistant.",
        "Set its role, or delete it.",
    ),
)


def _words_differ(row: Row[Any]) -> bool:
    return bool(memory_words(row.content, row.value, row.key) != row.words)


_INDEX = (
    "Empty the index (DELETE FROM muxi_memory_words) and have it made anew: UPDATE muxi_memories SET words = "
    "words || ' '; UPDATE muxi_memories SET words = substr(words, 1, length(words) - 1)."
)

MEMORY_RULES = (
    Rule(
        "memory-words",
        "SELECT formation_id, content, value, key, words FROM muxi_memories",
        "A memory is not searched by what it says.",
        "Have the memory say it again: update_memory(memory_id, user_id, content=...).",
        broken=_words_differ,
    ),
    Rule(
        "memory-index",
        """
        SELECT m.formation_id, m.memory_id FROM muxi_memories m
          LEFT JOIN (SELECT memory, count(*) AS number, max(owner) AS owner, max(words) AS words
                       FROM muxi_memory_words GROUP BY memory) f
            ON f.memory = lower(hex(m.formation_id)) || 'm' || m.pk
         WHERE f.number IS NULL OR f.number <> 1 OR f.words <> m.words
            OR f.owner <> lower(hex(m.formation_id)) || 'u' || m.user_pk""",
        "The search index does not have a memory as it is: it is not found, or under another user.",
        _INDEX,
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
        "DELETE FROM muxi_memory_words WHERE pk NOT IN (SELECT pk FROM muxi_memories); then INSERT INTO "
        "muxi_memory_words (muxi_memory_words) VALUES ('optimize').",
        dialect="sqlite",
    ),
    Rule(
        "memory-index",
        """
        SELECT formation_id, memory_id FROM muxi_memories
         WHERE lexemes IS DISTINCT FROM to_tsvector('pg_catalog.english'::regconfig, words)
                                        || array_to_tsvector(ARRAY['@' || user_pk::text])""",
        "The search index does not have a memory as it is: it is not found, or under another user.",
        "The text search configuration changed, or the column is not generated any more. If it is: UPDATE "
        "muxi_memories SET words = words. Else make the column anew as the migrations do.",
        dialect="postgresql",
    ),
)

WORKING_RULES = (
    Rule(
        "working-kind",
        "SELECT formation_id, pk FROM muxi_working_memory WHERE kind NOT IN ('fact', 'topic', 'summary')",
        "An item of working memory is of no kind that there is.",
        "Delete it.",
    ),
    Rule(
        "working-bounds",
        "SELECT formation_id, pk FROM muxi_working_memory WHERE length(content) > 300 OR expires_at < created_at",
        "An item of working memory is longer than one may be, or expires before it was made.",
        "Delete it.",
    ),
)

_ONE_BY_ONE = "See muxi_task_runs for what was run. Then set claim and claimed_until to NULL: the task is run again."

TASK_RULES = (
    Rule(
        "task-state",
        """
        SELECT formation_id, task_id FROM muxi_tasks
         WHERE status NOT IN ('active', 'paused', 'finished') OR kind NOT IN ('cron', 'once')""",
        "A task is in no state, or of no kind, that there is: no worker runs it.",
        "Set its status to 'paused' and its schedule anew (update_task), then resume it.",
    ),
    Rule(
        "task-due",
        """
        SELECT formation_id, task_id FROM muxi_tasks
         WHERE claim IS NULL AND ((status = 'active' AND next_run_at IS NULL)
                                  OR (status IN ('paused', 'finished') AND next_run_at IS NOT NULL))""",
        "A task is active and never due, or due though it is paused or finished.",
        "Pause the task and resume it: its next run is reckoned anew.",
    ),
    Rule(
        "task-claim",
        """
        SELECT formation_id, task_id FROM muxi_tasks
         WHERE (claim IS NULL) <> (claimed_until IS NULL) OR attempts < 0 OR (claim IS NOT NULL AND attempts = 0)""",
        "A task is claimed by halves: no worker takes it, or two do.",
        _ONE_BY_ONE,
    ),
    Rule(
        "task-claim-run",
        """
        SELECT t.formation_id, t.task_id FROM muxi_tasks t
         WHERE t.claim IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM muxi_task_runs r
             WHERE r.formation_id = t.formation_id AND r.run_id = t.claim AND r.task_pk = t.pk
               AND r.status = 'running')""",
        "A task is claimed for a run that there is not, or that has ended.",
        _ONE_BY_ONE,
    ),
    Rule(
        "task-run-claimed",
        """
        SELECT r.formation_id, r.run_id FROM muxi_task_runs r
          JOIN muxi_tasks t ON t.formation_id = r.formation_id AND t.pk = r.task_pk
         WHERE r.status = 'running' AND (t.claim IS NULL OR t.claim <> r.run_id)""",
        "A run is said to be under way, and its task is not claimed for it.",
        "Set its status to 'lost' and finished_at to the time at which its worker ended.",
    ),
    Rule(
        "task-run-state",
        """
        SELECT formation_id, run_id FROM muxi_task_runs
         WHERE status NOT IN ('running', 'succeeded', 'failed', 'lost') OR attempt < 1 OR missed < 0
            OR (status = 'running') <> (finished_at IS NULL)""",
        "A run has ended by halves, or in a state that there is not.",
        "Set its status to 'lost', and finished_at where it is missing.",
    ),
    Rule(
        "task-run-owner",
        """
        SELECT r.formation_id, r.run_id FROM muxi_task_runs r
          JOIN muxi_tasks t ON t.formation_id = r.formation_id AND t.pk = r.task_pk
         WHERE t.user_pk <> r.user_pk OR coalesce(t.identifier_pk, 0) <> coalesce(r.identifier_pk, 0)""",
        "A run belongs to another user or identifier than its task: one person's reply may be read by another.",
        "Give the run the user and the identifier of its task.",
    ),
)

OTHER_RULES = (
    Rule(
        "synopsis-whole",
        """
        SELECT formation_id, user_pk FROM muxi_synopses
         WHERE (text IS NULL) <> (basis IS NULL) OR (text IS NULL) <> (built_at IS NULL) OR revision < 0""",
        "A synopsis has a text without what it was made of, or the other way round.",
        "Set text, basis and built_at to NULL: it is made again when it is asked for.",
    ),
    Rule(
        "link-code-form",
        """
        SELECT formation_id, pk FROM muxi_link_codes
         WHERE length(code_hash) <> 32 OR identifier_pk IS NULL OR expires_at <= created_at
            OR asked_as NOT LIKE 'usr~_%' ESCAPE '~'
            OR (pending_identifier_pk IS NULL) <> (pending_message_pk IS NULL)
            OR (pending_identifier_pk IS NULL) <> (pending_until IS NULL)""",
        "A link code is not as one is made: it may be kept in clear, or never expire.",
        "Delete it; whoever asked for it asks for another one.",
    ),
)


def _json_rule(table: str, column: str, key: str, whole: Callable[[Any], bool], meaning: str, mend: str) -> Rule:
    def broken(row: Row[Any]) -> bool:
        try:
            return not whole(json.loads(row.told))
        except ValueError:
            return True

    return Rule(
        f"json-{table.removeprefix('muxi_').replace('_', '-')}-{column}",
        f"SELECT formation_id, {key}, {column} AS told FROM {table} WHERE {column} IS NOT NULL",  # noqa: S608
        meaning,
        mend,
        broken=broken,
    )


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_anything(value: Any) -> bool:
    return True


JSON_RULES = (
    _json_rule(
        "muxi_identifiers",
        "metadata",
        "pk",
        _is_object,
        "The metadata of an identifier cannot be read: its person cannot be listed or exported.",
        "Set it to NULL, or restore it from a back-up.",
    ),
    _json_rule(
        "muxi_sessions",
        "context",
        "pk",
        _is_object,
        "The context of a session cannot be read: turns in it fail.",
        "Set it to NULL, or restore it from a back-up.",
    ),
    _json_rule(
        "muxi_memories",
        "metadata",
        "pk",
        _is_object,
        "The metadata of a memory cannot be read: the memories of its person cannot be listed.",
        "Set it to NULL, or restore it from a back-up.",
    ),
    _json_rule(
        "muxi_preferences",
        "value",
        "pk",
        _is_anything,
        "A preference cannot be read: the preferences of its person cannot be loaded.",
        "Delete it, or restore it from a back-up.",
    ),
)
