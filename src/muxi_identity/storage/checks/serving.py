"""Rules about what is on its way: events to be delivered, answers that are kept for who asks again, keys of servers."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row

from muxi_identity.storage.checks.rule import Rule

_IDS = ("formation_id", "muxi_user_id", "other_user_id", "merge_id", "task_id", "run_id", "status")


def _body_differs(row: Row[Any]) -> bool:
    try:
        body = json.loads(row.body)
        data = body["data"]
        named = (body["id"], body["type"], data["muxi_user_id"], data.get("other_user_id"), data["formation_id"])
        return named != (row.event_id, row.type, row.user_id, row.other_user_id, row.formation_id) or not set(
            data
        ) <= set(_IDS)
    except (ValueError, KeyError, TypeError, AttributeError):
        return True


def _answer_names_others(row: Row[Any]) -> bool:
    try:
        answer = json.loads(row.answer)
        return not (_is_link(answer) if "user_id" in answer else _is_turn(answer))
    except (ValueError, KeyError, TypeError, AttributeError):
        return True


def _is_link(answer: Any) -> bool:
    positions = [*answer["new"], *answer["existing"], *answer["skipped"], *answer["secrets"]]
    return answer["user_id"].startswith("usr_") and all(isinstance(each, int) for each in positions)


def _is_turn(answer: Any) -> bool:
    """Whether it is what a recorded turn keeps: ids, and the session by its key, since callers choose its id."""
    ids, numbers = answer["memory_ids"], (answer["messages_recorded"], answer["session_pk"])
    named = answer["muxi_user_id"].startswith("usr_") and all(isinstance(each, str) for each in ids)
    return named and len(answer) == 4 and all(isinstance(each, int) for each in numbers)


SERVING_RULES = (
    Rule(
        "outbox-claim",
        """
        SELECT formation_id, event_id FROM muxi_outbox
         WHERE (claim IS NULL) <> (claimed_until IS NULL) OR (failed_at IS NOT NULL AND claim IS NOT NULL)""",
        "An event is claimed by halves, or claimed though it was given up: it is not delivered.",
        "Set claim and claimed_until to NULL: the event is delivered by whoever comes next.",
    ),
    Rule(
        "outbox-attempts",
        """
        SELECT formation_id, event_id FROM muxi_outbox
         WHERE attempts < 0 OR position < 1 OR (attempts > 0 AND error IS NULL)
            OR (failed_at IS NOT NULL AND attempts = 0)""",
        "An event was given up without an attempt, or failed without an error.",
        "Deliver it anew: set attempts to 0 and failed_at to NULL.",
    ),
    Rule(
        "outbox-body",
        "SELECT formation_id, event_id, type, user_id, other_user_id, body FROM muxi_outbox",
        "The body of an event is not what its row says, or tells more than ids.",
        "Delete the event, and tell its receiver by other means what happened.",
        broken=_body_differs,
    ),
    Rule(
        "idempotency-answer",
        "SELECT formation_id, key, answer FROM muxi_idempotency",
        "The answer kept for a repeated call cannot be read, or holds more than ids.",
        "Delete the row: whoever repeats the call does it anew.",
        broken=_answer_names_others,
    ),
    Rule(
        "request-form",
        """
        SELECT formation_id, created_at FROM muxi_requests
         WHERE length(key) <> 32 OR length(fingerprint) <> 32 OR claimed_until < created_at
            OR length(answer) < 28""",
        "A request that may be sent again is not kept as hashes and an encrypted answer.",
        "Delete the row. Whoever sends the request again may have it done twice.",
    ),
    Rule(
        "server-key-form",
        "SELECT formation_id, role FROM muxi_api_keys WHERE role NOT IN ('admin', 'client') OR length(digest) <> 32",
        "A server's own key is not kept as a hash, or is of no role that there is.",
        "Run `muxi keys forget` and start the server anew: it makes others.",
    ),
    Rule(
        "import-progress",
        """
        SELECT formation_id, import_id FROM muxi_imports
         WHERE done < 0 OR pending_done < 0 OR length(fingerprint) <> 32""",
        "How far an import has come cannot be: begun again, it would leave rows out.",
        "Delete its row and its notes, and import the file anew: what is there already is not linked twice.",
    ),
    Rule(
        "import-notes",
        "SELECT formation_id, import_id FROM muxi_import_notes WHERE kind NOT IN ('refused', 'skipped') OR line < 0",
        "A note of an import is of no kind that there is, or on no line.",
        "Delete the note.",
    ),
    Rule(
        "link-attempts",
        "SELECT formation_id, identifier_pk FROM muxi_link_attempts WHERE failures < 1 OR identifier_pk < 0",
        "Wrong link codes are counted below one.",
        "Delete the row: they are counted anew.",
    ),
)
