"""Requests that may be sent again: done once, answered as often as they are asked, by any worker.

A request with an idempotency key is claimed in the database before it is done, and its answer is stored after. Sent
again meanwhile, it waits; sent again later, it is answered from what is stored. Where a worker died in between, nobody
knows what it did: a request that does no harm twice is done again, any other is refused with what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import ColumnElement

from muxi_identity.arguments import is_storable
from muxi_identity.errors import InvalidRequestError, MuxiError, OutcomeUnknownError, RequestInProgressError
from muxi_identity.formation import Formation
from muxi_identity.storage.database import Database
from muxi_identity.storage.tables import requests
from muxi_identity.storage.tidying import delete_old

logger = logging.getLogger("muxi_identity.server")

KEEP_SECONDS = 24 * 3600
LEASE_SECONDS = 10
"""How long a claim stands without its worker, which renews it three times as often."""
WAIT_SECONDS = 10.0
"""How long a duplicate waits: no less than a lease, so that one that comes after a death is settled by itself."""
MAX_KEY = 255
_POLL_SECONDS = (0.05, 0.5)
_PURPOSE = "idempotency"
_NONCE = 12


class Stored(NamedTuple):
    """What a request was answered with."""

    status: int
    data: Any


class _Row(NamedTuple):
    fingerprint: bytes
    claim: str
    claimed_until: int
    answer: bytes | None


class Once:
    """Keeps the requests of one formation from being done twice."""

    def __init__(self, formation: Formation, wait_seconds: float = WAIT_SECONDS) -> None:
        self._database = formation.database
        self._formation_id = formation.config.id
        self._secret = formation.derive_key(_PURPOSE)
        self._now: Callable[[], int] = lambda: formation.now
        self._wait_seconds = wait_seconds

    async def begin(self, key: str, caller: bytes, request: bytes, *, repeatable: bool) -> Stored | Claim:
        """Claim a request, or return what it was answered with.

        ``caller`` keeps apart what different callers send under the same key, ``request`` is all that makes it this
        request and no other. ``repeatable``: doing it twice is the same as doing it once.

        Raises:
            InvalidRequestError: The key cannot be one, or was used for another request.
            RequestInProgressError: It is still being done, after a while of waiting.
            OutcomeUnknownError: Whoever did it died, and doing it again might do it twice.
        """
        if not 0 < len(key) <= MAX_KEY or not is_storable(key):
            raise InvalidRequestError(f"An idempotency key has 1 to {MAX_KEY} characters, without NUL.")
        named = hmac.digest(self._secret, b"key\0" + caller + b"\0" + key.encode(), "sha256")
        cipher = AESGCM(hmac.digest(self._secret, b"answer\0" + caller + b"\0" + key.encode(), "sha256"))
        fingerprint = hmac.digest(self._secret, b"request\0" + request, "sha256")
        claim = Claim(self._database, self._formation_id, named, cipher, self._now)
        waited, pause = 0.0, _POLL_SECONDS[0]
        while True:
            row = await self._database.transact(
                lambda connection: self._claim(connection, named, fingerprint, claim.token, repeatable)
            )
            if row is None:
                claim.hold()
                return claim
            if not hmac.compare_digest(row.fingerprint, fingerprint):
                raise InvalidRequestError("That idempotency key was used for another request; use a new one for each.")
            if row.answer is not None:
                return _open(cipher, named, row.answer)
            if row.claimed_until <= self._now():
                raise OutcomeUnknownError(
                    "The server went down while it did this, and doing it again might do it twice. Look whether it was "
                    "done; if it was not, send it with a new idempotency key."
                )
            if waited >= self._wait_seconds:
                raise RequestInProgressError("A request with this idempotency key is being done; ask again later.")
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(pause * 2, _POLL_SECONDS[1])

    def _claim(
        self, connection: Connection, key: bytes, fingerprint: bytes, token: str, repeatable: bool
    ) -> _Row | None:
        """Return None where the request is ours to do, else the row of whoever does it or did."""
        now = self._now()
        before = now - KEEP_SECONDS * 1_000_000
        connection.execute(delete_old(requests.c.key, requests.c.created_at, self._formation_id, before))
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        row = {
            "formation_id": self._formation_id,
            "key": key,
            "fingerprint": fingerprint,
            "claim": token,
            "claimed_until": now + LEASE_SECONDS * 1_000_000,
            "created_at": now,
        }
        inserted = connection.execute(dialect.insert(requests).values(row).on_conflict_do_nothing())
        if inserted.rowcount == 1:
            return None
        mine = _is(self._formation_id, key)
        columns = (requests.c[name] for name in _Row._fields)
        found = _Row._make(connection.execute(select(*columns).where(mine).with_for_update()).one())
        if found.answer is None and found.claimed_until <= now and repeatable and found.fingerprint == fingerprint:
            connection.execute(
                update(requests).where(mine).values(claim=token, claimed_until=now + LEASE_SECONDS * 1_000_000)
            )
            return None
        return found


class Claim:
    """A request that is ours to do. It is held until it is finished or given up."""

    def __init__(
        self, database: Database, formation_id: str, key: bytes, cipher: AESGCM, now: Callable[[], int]
    ) -> None:
        self.token = secrets.token_hex(8)
        self._database = database
        self._formation_id = formation_id
        self._key = key
        self._cipher = cipher
        self._now = now
        self._holding: asyncio.Task[None] | None = None

    def hold(self) -> None:
        """Keep others from believing that this worker died, from now on."""
        self._holding = asyncio.get_running_loop().create_task(self._hold())

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            with contextlib.suppress(MuxiError):  # the next one may come through
                await self._update(claimed_until=self._now() + LEASE_SECONDS * 1_000_000)

    async def finish(self, status: int, data: Any) -> None:
        """Store what the request is answered with. It was done: that this fails is no reason to say it was not."""
        self.let_go()
        nonce = os.urandom(_NONCE)
        answer = nonce + self._cipher.encrypt(nonce, msgspec.json.encode([status, data]), self._key)
        try:
            await self._update(answer=answer)
        except MuxiError as error:
            logger.warning("an answer could not be stored for repetitions of its request: %s", error.code)

    async def give_up(self) -> None:
        """Let the request be done anew: nothing came of it this time."""
        self.let_go()
        mine = _is(self._formation_id, self._key) & (requests.c.claim == self.token)
        try:
            await self._database.transact(lambda connection: connection.execute(delete(requests).where(mine)))
        except MuxiError as error:
            logger.warning("a claim could not be given up, and ends by itself: %s", error.code)

    @property
    def held(self) -> bool:
        """Whether it is still to be finished or given up."""
        return self._holding is not None

    def let_go(self) -> None:
        """Hold it no longer: whether the request was done is for whoever sends it again to find out."""
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None

    async def _update(self, **values: Any) -> None:
        mine = _is(self._formation_id, self._key) & (requests.c.claim == self.token)
        await self._database.transact(
            lambda connection: connection.execute(update(requests).where(mine).values(**values))
        )


def _is(formation_id: str, key: bytes) -> ColumnElement[bool]:
    return (requests.c.formation_id == formation_id) & (requests.c.key == key)


def _open(cipher: AESGCM, key: bytes, answer: bytes) -> Stored:
    try:
        status, data = msgspec.json.decode(cipher.decrypt(answer[:_NONCE], answer[_NONCE:], key))
    except (InvalidTag, msgspec.DecodeError):
        raise OutcomeUnknownError(
            "This was done before, and what it was answered with cannot be read any more."
        ) from None
    return Stored(status, data)
