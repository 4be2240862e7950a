"""Idempotency keys: a call that is sent again with its key is answered from what it did the first time.

The answer is stored in the transaction that did it, as public ids and positions in the request: no identifier value
outlives the person it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, select

from muxi_identity.errors import InvalidRequestError
from muxi_identity.identifiers import Identifier, PublicId
from muxi_identity.identity.keys import BucketKey
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.tables import idempotency
from muxi_identity.storage.tidying import delete_old

KEEP_SECONDS = 24 * 3600


def fingerprint(
    key: BucketKey, identifiers: Sequence[Identifier], user: Identifier | PublicId | None, *rest: object
) -> bytes:
    """Return what tells one request from another, without keeping any of it in clear.

    ``user`` is whom the request named, not who that was: sent again, it may mean somebody else by now.
    """
    named = [user.fold, user.type, user.scope] if isinstance(user, Identifier) else user and user.user_id
    parts: list[Any] = [
        [each.fold, each.type, each.scope, each.verified, str(each.expires_at), each.metadata] for each in identifiers
    ]
    return key.fingerprint(json.dumps([parts, named, rest], sort_keys=True, default=str))


def earlier_answer(tx: Transaction, key: str, request: bytes) -> dict[str, Any] | None:
    """Return what the call with ``key`` did before, None where there was none within a day.

    Raises:
        InvalidRequestError: The key was used for another request.
    """
    row = tx.connection.execute(
        select(idempotency.c.fingerprint, idempotency.c.answer).where(
            idempotency.c.formation_id == tx.formation_id,
            idempotency.c.key == key,
            idempotency.c.created_at >= tx.now - KEEP_SECONDS * 1_000_000,
        )
    ).one_or_none()
    if row is None:
        return None
    if row.fingerprint != request:
        raise InvalidRequestError("That idempotency_key was used for another request; use a new one for each.")
    answer: dict[str, Any] = json.loads(row.answer)
    return answer


def keep_answer(tx: Transaction, key: str, request: bytes, answer: Mapping[str, Any]) -> None:
    """Store what a call did, which names no identifier, in place of what is older than a day.

    Raises:
        RaceLost: The same call was sent twice at once and the other one was quicker.
    """
    before = tx.now - KEEP_SECONDS * 1_000_000
    tx.connection.execute(delete_old(idempotency.c.key, idempotency.c.created_at, tx.formation_id, before))
    tx.connection.execute(
        insert(idempotency).values(
            formation_id=tx.formation_id,
            key=key,
            fingerprint=request,
            answer=json.dumps(answer),
            created_at=tx.now,
        )
    )
