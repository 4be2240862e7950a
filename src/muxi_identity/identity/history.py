"""The history of identities: what was done to whom, by whom, from where and why. Append-only, in ids alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import insert

from muxi_identity.identity.outbox import announce
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import history


class Event(StrEnum):
    """What can happen to an identity. ``subject:verb``."""

    USER_CREATE = "user:create"
    USER_DELETE = "user:delete"
    USER_MERGE = "user:merge"
    USER_UNMERGE = "user:unmerge"
    USER_SPLIT = "user:split"
    IDENTIFIER_LINK = "identifier:link"
    IDENTIFIER_UPDATE = "identifier:update"
    IDENTIFIER_UNLINK = "identifier:unlink"
    IDENTIFIER_MOVE = "identifier:move"
    IDENTIFIER_REPLACE = "identifier:replace"


def record(
    tx: Transaction,
    event: Event,
    user_id: str,
    *,
    other_user_id: str | None = None,
    identifier_pk: int | None = None,
    other_identifier_pk: int | None = None,
    merge_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record an event about ``user_id`` (a public id), to be written when the transaction's work is done.

    ``other_user_id`` is whom it was merged with, unmerged from, or where the identifier came from;
    ``other_identifier_pk`` the identifier that ``identifier_pk`` took the place of.
    ``details`` holds ids and numbers alone: it outlives the person.
    """
    tx.events.append(
        {
            "event": event.value,
            "user_id": user_id,
            "other_user_id": other_user_id,
            "identifier_pk": identifier_pk,
            "other_identifier_pk": other_identifier_pk,
            "merge_id": merge_id,
            "details": None if details is None else json.dumps(details),
        }
    )
    announce(tx, told_as(event), user_id, other_user_id, merge_id=merge_id)


def told_as(event: Event) -> str:
    """Return the name under which webhooks and callbacks are told of an event."""
    return event.value.replace(":", ".")


def write_events(tx: Transaction) -> None:
    """Write what was recorded, in the order in which it happened."""
    if not tx.events:
        return
    change = tx.change
    common = {
        "formation_id": tx.formation_id,
        "at": change.at,
        "actor": change.actor,
        "source": change.source,
        "reason": change.reason,
    }
    keys = tx.new_keys(len(tx.events))
    tx.connection.execute(
        insert(history), [{"pk": pk, **common, **event} for pk, event in zip(keys, tx.events, strict=True)]
    )
    tx.events.clear()
