"""Telling others: what happened is written to the outbox by the transaction in which it happened, or not at all.

Nothing is written where nobody wants it. Who is told, when and how often, is the matter of
:mod:`muxi_identity.events`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, insert, select

from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import IMPORT_FINISH, TASK_RUN_FINISH, EventPayload, iso
from muxi_identity.storage.tables import outbox, users


def announce(tx: Transaction, type: str, user_id: str, other_user_id: str | None = None, **data: Any) -> None:
    """Announce an event about ``user_id`` (a public id), to be told once the transaction is committed.

    ``data`` holds ids and words of ours, nothing that anybody wrote; what is None is left out.
    """
    if not tx.subscriptions.want(type):
        return
    told = {"formation_id": tx.formation_id, "muxi_user_id": user_id, "other_user_id": other_user_id, **data}
    payload: EventPayload = {
        "id": f"evt_{secrets.token_hex(10)}",
        "type": type,
        "timestamp": iso(tx.now),
        "data": {name: value for name, value in told.items() if value is not None},
    }
    tx.outgoing.append(payload)


def announce_task_run(tx: Transaction, member_pk: int, *, task_id: str, run_id: str, status: str) -> None:
    """Announce that a run of a task of this member has finished: call it in the transaction that records that."""
    if not tx.subscriptions.want(TASK_RUN_FINISH):
        return
    root = users.alias("root")
    user_id = tx.connection.execute(
        select(root.c.public_id)
        .join(users, (users.c.formation_id == root.c.formation_id) & (users.c.root_pk == root.c.pk))
        .where(tx.users_where(users.c.pk == member_pk))
    ).scalar()
    if user_id is not None:
        announce(tx, TASK_RUN_FINISH, user_id, task_id=task_id, run_id=run_id, status=status)


def announce_import(tx: Transaction, import_id: str, counts: Mapping[str, int]) -> None:
    """Announce that an import has finished. What it made and linked is not told one by one."""
    if not tx.subscriptions.want(IMPORT_FINISH):
        return
    tx.outgoing.append(
        {
            "id": f"evt_{secrets.token_hex(10)}",
            "type": IMPORT_FINISH,
            "timestamp": iso(tx.now),
            "data": {"formation_id": tx.formation_id, "import_id": import_id, **counts},
        }
    )


def write_outgoing(tx: Transaction) -> None:
    """Write what was announced, as the last thing that the transaction does.

    Events of one user get their places in the order in which they are committed: whoever writes some holds the user's
    turn until the end. Nothing else is waited for after that, so that nobody waits in a circle.
    """
    if not tx.outgoing:
        return
    if tx.database.lock_rows:
        people = {tx.formation_id + " " + user for each in tx.outgoing for user in _users(each) if user}
        for key in sorted(_lock_key(name) for name in people):
            tx.connection.execute(select(func.pg_advisory_xact_lock(key)))
    rows = [(each, endpoint) for each in tx.outgoing for endpoint in tx.subscriptions.endpoints(each["type"])]
    if not rows:
        return
    positions = tx.database.new_positions(tx.connection, tx.formation_id, len(rows))
    tx.connection.execute(
        insert(outbox),
        [
            {
                "formation_id": tx.formation_id,
                "position": position,
                "event_id": each["id"],
                "endpoint": endpoint,
                "type": each["type"],
                "user_id": _users(each)[0],
                "other_user_id": _users(each)[1],
                "body": json.dumps(each, separators=(",", ":")),
                "created_at": tx.now,
                "attempts": 0,
                "due_at": tx.now,
            }
            for position, (each, endpoint) in zip(sorted(positions), rows, strict=True)
        ],
    )


def _users(payload: EventPayload) -> tuple[Any, Any]:
    data = payload["data"]
    return data.get("muxi_user_id") or data["import_id"], data.get("other_user_id")


def _lock_key(name: str) -> int:
    digest = hashlib.sha256(b"muxi-identity outbox " + name.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
