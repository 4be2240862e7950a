"""Rules about sessions and what was said in them."""

from __future__ import annotations

from muxi_identity.storage.checks.rule import Rule

SESSION_RULES = (
    Rule(
        "session-audience",
        "SELECT formation_id, pk FROM muxi_sessions WHERE audience NOT IN ('private', 'shared')",
        "A session is for an audience that there is not.",
        "Make it private: nothing that was said in it is then read before others.",
        ("UPDATE muxi_sessions SET audience = 'private' WHERE {those}",),
    ),
    Rule(
        "session-form",
        "SELECT formation_id, pk FROM muxi_sessions WHERE length(session_id) NOT BETWEEN 1 AND 255",
        "The id of a session is empty or too long: nobody can go on with it.",
        "Give it another one.",
        ("UPDATE muxi_sessions SET session_id = 'ses_' || pk WHERE {those}",),
    ),
    Rule(
        "session-times",
        "SELECT formation_id, pk FROM muxi_sessions WHERE last_activity_at < created_at",
        "A session was last spoken in before it began.",
        "Let it have begun when it was last spoken in.",
        ("UPDATE muxi_sessions SET created_at = last_activity_at WHERE {those}",),
    ),
    Rule(
        "message-owner",
        """
        SELECT m.formation_id, m.pk FROM muxi_messages m
          JOIN muxi_sessions s ON s.formation_id = m.formation_id AND s.pk = m.session_pk
         WHERE s.user_pk <> m.user_pk OR coalesce(s.identifier_pk, 0) <> coalesce(m.identifier_pk, 0)""",
        "A message lies in a session of another user or identifier: one person's words may be read by another.",
        "Where it was said there, give it the user and the identifier of its session. Where nobody knows, delete it.",
        ("DELETE FROM muxi_messages WHERE {those}",),
    ),
    Rule(
        "message-time",
        """
        SELECT m.formation_id, m.pk FROM muxi_messages m
          JOIN muxi_sessions s ON s.formation_id = m.formation_id AND s.pk = m.session_pk
         WHERE m.created_at > s.last_activity_at""",
        "A message is later than the last activity of its session: what is said next would stand before it.",
        "Let the session have been spoken in at the time of its last message.",
        (
            "UPDATE muxi_sessions SET last_activity_at = (SELECT max(m.created_at) FROM muxi_messages m"
            " WHERE m.formation_id = muxi_sessions.formation_id AND m.session_pk = muxi_sessions.pk)"
            " WHERE (formation_id, pk) IN (SELECT formation_id, session_pk FROM muxi_messages WHERE {those})",
        ),
    ),
    Rule(
        "message-role",
        "SELECT formation_id, pk FROM muxi_messages WHERE role NOT IN ('user', 'assistant')",
        "A message is from neither the user nor the assistant.",
        "Say whose it is, or delete it.",
        ("DELETE FROM muxi_messages WHERE {those}",),
    ),
)
