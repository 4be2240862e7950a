"""Rules about what is on its way: events to be delivered, answers that are kept for who asks again, keys of servers,
imports."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row

from muxi_identity.models import EVENT_TYPES, IMPORT_FINISH
from muxi_identity.storage.checks.rule import PLACE, Rule

_IDS = {"formation_id", "muxi_user_id", "other_user_id", "merge_id", "task_id", "run_id", "status"}
_COUNTS = {"created", "linked", "known", "merged", "skipped", "refused"}


def _body_differs(row: Row[Any]) -> bool:
    body = json.loads(row.body)
    data = body["data"]
    if (body["id"], body["type"], data["formation_id"]) != (row.event_id, row.type, row.formation_id):
        return True
    if row.type == IMPORT_FINISH:  # about nobody in particular: its own id stands for whom it is about
        return data["import_id"] != row.user_id or set(data) != {"formation_id", "import_id", *_COUNTS}
    return (data["muxi_user_id"], data.get("other_user_id")) != (row.user_id, row.other_user_id) or not set(
        data
    ) <= _IDS


def _answer_names_others(row: Row[Any]) -> bool:
    answer = json.loads(row.answer)
    return not (_is_link(answer) if "user_id" in answer else _is_turn(answer))


def _is_link(answer: Any) -> bool:
    positions = [*answer["new"], *answer["existing"], *answer["skipped"], *answer["secrets"]]
    return answer["user_id"].startswith("usr_") and all(isinstance(each, int) for each in positions)


def _is_turn(answer: Any) -> bool:
    """Whether it is what a recorded turn keeps: ids, and the session by its key, since callers choose its id."""
    ids, numbers = answer["memory_ids"], (answer["messages_recorded"], answer["session_pk"])
    named = answer["muxi_user_id"].startswith("usr_") and all(isinstance(each, str) for each in ids)
    return named and len(answer) == 4 and all(isinstance(each, int) for each in numbers)


def _progress_is_none(row: Row[Any]) -> bool:
    pending, counts = json.loads(row.pending), json.loads(row.counts)
    if any(type(each) is not int for each in pending) or sorted(set(pending)) != pending:
        return True
    if set(counts) != _COUNTS or any(type(each) is not int or each < 0 for each in counts.values()):
        return True
    if pending and not (pending[0] >= 0 and pending[-1] < row.done):
        return True
    settled = row.done - len(pending) + row.pending_done
    ended = row.finished_at is None or row.pending_done == len(pending)
    told = (counts["refused"], counts["skipped"]) == (row.refused, row.left_out)
    rows = counts["known"] + counts["refused"] + counts["skipped"] <= settled
    return not (0 <= row.pending_done <= len(pending) and ended and told and rows)


_FORGET_IMPORT = (
    "DELETE FROM muxi_import_notes WHERE (formation_id, import_id) IN"
    " (SELECT formation_id, import_id FROM muxi_imports WHERE {those})",
    "DELETE FROM muxi_imports WHERE {those}",
)
_IMPORT_ANEW = "Forget the import, and import the file anew: what is there already is not linked twice."

SERVING_RULES = (
    Rule(
        "outbox-form",
        f"""
        SELECT formation_id, position FROM muxi_outbox
         WHERE event_id NOT LIKE 'evt~_%' ESCAPE '~' OR endpoint = ''
            OR type NOT IN ({", ".join(f"'{each}'" for each in EVENT_TYPES)})""",
        "An event is of a type that there is not, without an id, or for no webhook: it is never delivered.",
        "Delete the event, and tell its receiver by other means what happened.",
        ("DELETE FROM muxi_outbox WHERE {those}",),
    ),
    Rule(
        "outbox-claim",
        """
        SELECT formation_id, position FROM muxi_outbox
         WHERE (claim IS NULL) <> (claimed_until IS NULL) OR (failed_at IS NOT NULL AND claim IS NOT NULL)""",
        "An event is claimed by halves, or claimed though it was given up: it is not delivered.",
        "Let it go: it is delivered by whoever comes next.",
        ("UPDATE muxi_outbox SET claim = NULL, claimed_until = NULL WHERE {those}",),
    ),
    Rule(
        "outbox-attempts",
        """
        SELECT formation_id, position FROM muxi_outbox
         WHERE attempts < 0 OR position < 1 OR (attempts > 0 AND error IS NULL)
            OR (failed_at IS NOT NULL AND attempts = 0)""",
        "An event was given up without an attempt, or failed without an error.",
        "Deliver it anew.",
        ("UPDATE muxi_outbox SET attempts = 0, failed_at = NULL WHERE {those}",),
    ),
    Rule(
        "outbox-body",
        "SELECT formation_id, position, event_id, type, user_id, other_user_id, body FROM muxi_outbox",
        "The body of an event is not what its row says, or tells more than ids.",
        "Delete the event, and tell its receiver by other means what happened.",
        ("DELETE FROM muxi_outbox WHERE {those}",),
        broken=_body_differs,
    ),
    Rule(
        "idempotency-answer",
        f"SELECT formation_id, created_at, {PLACE} AS place, answer FROM muxi_idempotency",
        "The answer kept for a repeated call cannot be read, or holds more than ids.",
        "Forget it: whoever repeats the call does it anew.",
        ("DELETE FROM muxi_idempotency WHERE {those}",),
        broken=_answer_names_others,
    ),
    Rule(
        "idempotency-form",
        "SELECT formation_id, created_at, key FROM muxi_idempotency WHERE length(fingerprint) <> 32 OR key = ''",
        "A repeated call is not known for the same: what it was is not kept as a hash.",
        "Forget it: whoever repeats the call does it anew.",
        ("DELETE FROM muxi_idempotency WHERE {those}",),
        own=("key",),
    ),
    Rule(
        "request-form",
        """
        SELECT formation_id, created_at, key FROM muxi_requests
         WHERE length(key) <> 32 OR length(fingerprint) <> 32 OR claimed_until < created_at
            OR length(answer) < 28 OR claim = ''""",
        "A request that may be sent again is not kept as hashes and an encrypted answer.",
        "Forget it. Whoever sends the request again may have it done twice.",
        ("DELETE FROM muxi_requests WHERE {those}",),
        own=("key",),
    ),
    Rule(
        "server-key-form",
        "SELECT formation_id, created_at, role FROM muxi_api_keys"
        " WHERE role NOT IN ('admin', 'client') OR length(digest) <> 32",
        "A server's own key is not kept as a hash, or is of no role that there is.",
        "Forget it (`muxi keys forget` forgets them all), and start the server anew: it makes others.",
        ("DELETE FROM muxi_api_keys WHERE {those}",),
        own=("role",),
    ),
    Rule(
        "import-form",
        """
        SELECT formation_id, started_at, import_id FROM muxi_imports
         WHERE done < 0 OR pending_done < 0 OR length(fingerprint) <> 32 OR claim = ''
            OR length(digest) <> CASE done WHEN 0 THEN 0 ELSE 32 END""",
        "How far an import has come cannot be: begun again, it would leave rows out.",
        _IMPORT_ANEW,
        _FORGET_IMPORT,
        own=("import_id",),
    ),
    Rule(
        "import-progress",
        f"""
        SELECT i.formation_id, i.started_at, i.{PLACE} AS place, i.done, i.pending, i.pending_done, i.counts,
               i.finished_at,
               (SELECT count(*) FROM muxi_import_notes n WHERE n.formation_id = i.formation_id
                   AND n.import_id = i.import_id AND n.kind = 'refused') AS refused,
               (SELECT count(*) FROM muxi_import_notes n WHERE n.formation_id = i.formation_id
                   AND n.import_id = i.import_id AND n.kind = 'skipped') AS left_out
          FROM muxi_imports i""",
        "What an import says that it has done cannot be read, or cannot be: begun again, it would leave rows out, or "
        "tell of others.",
        _IMPORT_ANEW,
        _FORGET_IMPORT,
        broken=_progress_is_none,
    ),
    Rule(
        "import-notes",
        "SELECT formation_id, line, import_id FROM muxi_import_notes"
        " WHERE kind NOT IN ('refused', 'skipped') OR line < 0 OR code = ''",
        "A note of an import is of no kind that there is, without a code, or on no line.",
        "Say that the row was refused, where nobody knows better. What the import has counted, another finding says.",
        (
            "UPDATE muxi_import_notes SET kind = CASE kind WHEN 'skipped' THEN kind ELSE 'refused' END,"
            " code = CASE code WHEN '' THEN 'INVALID_REQUEST' ELSE code END, line = abs(line) WHERE {those}",
        ),
        own=("import_id", "line"),
    ),
    Rule(
        "link-attempts",
        "SELECT formation_id, identifier_pk FROM muxi_link_attempts WHERE failures < 1 OR identifier_pk < 0",
        "Wrong link codes are counted below one.",
        "Forget them: they are counted anew.",
        ("DELETE FROM muxi_link_attempts WHERE {those}",),
    ),
)
