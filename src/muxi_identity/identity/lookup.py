"""Look-ups: from an identifier to a person, through the cache and around it.

Misses that arrive while a look-up is under way wait for the next one, which asks for all of them in one statement.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from muxi_identity.errors import MuxiError, StorageUnavailableError, UserNotFoundError
from muxi_identity.identifiers import Identifier, PublicId, hint
from muxi_identity.identity.cache import Hit, IdentityCache, Token
from muxi_identity.identity.keys import BucketKey
from muxi_identity.identity.matching import choose, hit_of, is_barred, would_shadow
from muxi_identity.storage.database import Database
from muxi_identity.storage.rows import BucketRow

BATCH = 512
Reference = Identifier | PublicId
Meet = Callable[[bytes], Awaitable[list[BucketRow] | None]]


@dataclass(frozen=True, slots=True)
class Through(PublicId):
    """A user named by its public id who acts through one of its identifiers, named by its key.

    For what the engine does by itself for somebody, as a scheduled task: of a secret it has no clear text. Whether the
    identifier is still the user's, the guard tells.
    """

    identifier_pk: int


class Answer(NamedTuple):
    """What a look-up brought. ``hit=None``: unknown; ``barred``: never to be anybody's."""

    hit: Hit | None
    shown: str
    barred: bool = False


@dataclass(slots=True)
class _Flight:
    """A look-up under way, and who waits for its answer too."""

    token: Token
    generation: int
    waiting: list[asyncio.Future[list[BucketRow]]] = field(default_factory=list)

    def is_as_fresh_as(self, token: Token, generation: int) -> bool:
        """Tell whether no identifier of the bucket, and no member's root, changed between the start of this look-up
        and the moment in which ``token`` and ``generation`` were read."""
        return self.token is token and token.alive and self.generation == generation


class Lookup:
    """Answers look-ups of one formation on one event loop."""

    def __init__(
        self,
        database: Database,
        formation_id: str,
        cache: IdentityCache,
        bucket: BucketKey,
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._formation_id = formation_id
        self._cache = cache
        self._bucket = bucket
        self._clock = clock
        self._flights: dict[bytes, _Flight] = {}
        self._next: dict[bytes, _Flight] = {}
        self._busy = False
        self._waiting = 0
        self._draining: asyncio.Task[None] | None = None

    async def find(self, reference: Reference, *, fresh: bool = False, meet: Meet | None = None) -> Answer:
        """Look ``reference`` up. ``fresh`` goes around the cache, and neither joins another look-up nor is cached.

        ``meet`` looks a bucket up too, and makes first contact in the same statement where it can; where it returns
        None, or is not given, this only looks up.

        Raises:
            AmbiguousIdentifierError: It is untyped and several people have it.
            StorageUnavailableError: The database does not answer, or too many wait for it already.
        """
        if isinstance(reference, Through):
            hit, shown, _ = await self._find_user(reference.user_id, fresh=fresh)
            assert hit is not None
            return Answer(hit._replace(identifier_pk=reference.identifier_pk), shown)
        if isinstance(reference, PublicId):
            return await self._find_user(reference.user_id, fresh=fresh)
        bucket = self._bucket(reference.fold)
        if not fresh and (answer := self._cached(reference, bucket)) is not None:
            return answer
        self._cache.misses += 1
        # Both are read before the look-up begins: whatever changes after this makes its answer uncacheable.
        token = self._cache.bucket_tokens.take(bucket)
        generation = self._cache.member_tokens.generation
        if meet is not None and (met := await meet(bucket)) is not None:
            rows = met
        elif self._database.inline:
            rows = self._database.look_up_now(self._formation_id, bucket)
        elif fresh:
            rows = await self._database.look_up(self._formation_id, [bucket])
        elif self._busy:
            rows = await self._coalesced(bucket, token, generation)
        else:
            rows = await self._lead(bucket, token, generation)
        return self._choose(rows, reference, bucket, None if fresh else (token, generation))

    async def find_by(self, reference: Identifier, read: Callable[[bytes], Awaitable[list[BucketRow]]]) -> Answer:
        """Look ``reference`` up by ``read``, which brings the rows of its bucket with whatever else its caller wants.

        Goes around the cache; the answer is cached.

        Raises:
            AmbiguousIdentifierError: It is untyped and several people have it.
        """
        bucket = self._bucket(reference.fold)
        self._cache.misses += 1
        known_since = self._cache.bucket_tokens.take(bucket), self._cache.member_tokens.generation
        return self._choose(await read(bucket), reference, bucket, known_since)

    def _choose(
        self, rows: list[BucketRow], reference: Identifier, bucket: bytes, known_since: tuple[Token, int] | None
    ) -> Answer:
        """Answer by the rows of a bucket. ``known_since`` was read before the look-up began; None caches nothing."""
        now = self._clock()
        choice = choose(rows, reference, now)
        if choice is None:
            barred = is_barred(rows) or would_shadow(rows, reference, now)
            return Answer(None, reference.shown, barred=barred)
        row = choice.row
        hit = hit_of(row)
        if choice.certain and known_since is not None:
            token, generation = known_since
            seconds = None if row.expires_at is None else (row.expires_at - now) / 1e6
            # A secret passed bare is known for one only now. It is cached by its bucket: the clear text stays out.
            key = _secret_key(bucket, reference) if row.secret else plain_key(reference)
            self._cache.put(key, hit, token, generation, seconds=seconds)
        return Answer(hit, row.spelling if row.secret else reference.shown)

    def _cached(self, reference: Identifier, bucket: bytes) -> Answer | None:
        if not reference.secret and (hit := self._cache.get(plain_key(reference))) is not None:
            return Answer(hit, reference.shown)
        if (reference.secret or reference.guessed) and (hit := self._cache.get(_secret_key(bucket, reference))):
            return Answer(hit, hint(reference.fold))
        return None

    async def _find_user(self, user_id: str, *, fresh: bool) -> Answer:
        if not fresh and (hit := self._cache.get(user_id)) is not None:
            return Answer(hit, user_id)
        self._cache.misses += 1
        token = self._cache.bucket_tokens.take(user_id)
        generation = self._cache.member_tokens.generation
        found = await self._database.find_members(self._formation_id, [user_id])
        if not found:
            raise UserNotFoundError(
                f"There is no user {user_id} in this formation; create_user(user_id={user_id!r}) makes one.",
                user_id=user_id,
            )
        (row,) = found
        hit = Hit(None, row.pk, row.root_pk, row.root_public_id)
        if not fresh:
            self._cache.put(user_id, hit, token, generation)
        return Answer(hit, user_id)

    async def _coalesced(self, bucket: bytes, token: Token, generation: int) -> list[BucketRow]:
        joined = False
        while True:
            if self._waiting >= self._database.most_waiting:
                raise StorageUnavailableError(
                    f"The database is overloaded: {self._waiting} look-ups wait for it already; call again later.",
                    retry_after=1,
                )
            flight = self._flights.get(bucket)
            if not joined and flight is not None and flight.is_as_fresh_as(token, generation):
                # It began before this call, but nothing has changed since then. Only a plain link or first contact
                # could have, which kills no token: so "unknown" is not taken from it, but asked for again.
                shared = await self._wait(flight) or None
                joined = True
            elif self._busy:
                shared = await self._wait(self._next.setdefault(bucket, _Flight(token, generation)))
            else:
                return await self._lead(bucket, token, generation)
            if shared is not None:
                return shared

    async def _wait(self, flight: _Flight) -> list[BucketRow] | None:
        self._waiting += 1
        future: asyncio.Future[list[BucketRow]] = asyncio.get_running_loop().create_future()
        flight.waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled() and not _being_cancelled():
                return None  # whoever led the look-up was cancelled, not this caller: ask again
            raise
        finally:
            self._waiting -= 1

    async def _lead(self, bucket: bytes, token: Token, generation: int) -> list[BucketRow]:
        self._busy = True
        flight = self._flights[bucket] = _Flight(token, generation)
        try:
            rows = await self._database.look_up(self._formation_id, [bucket])
        except BaseException as error:
            self._fail([flight], error)
            raise
        else:
            _answer(flight, rows)
            return rows
        finally:
            self._flights.clear()
            self._busy = False
            if self._next:
                self._busy = True
                self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        """Look up what has gathered, a batch at a time, until nobody waits."""
        try:
            while self._next:
                batch = dict(list(self._next.items())[:BATCH])
                for bucket in batch:
                    del self._next[bucket]
                # A look-up that begins now is later than every token in it, so an answer is as fresh as each asked.
                self._flights = batch
                try:
                    rows = await self._database.look_up(self._formation_id, list(batch))
                except BaseException as error:
                    self._fail(batch.values(), error)
                    if isinstance(error, asyncio.CancelledError):
                        raise
                else:
                    by_bucket: dict[bytes, list[BucketRow]] = {bucket: [] for bucket in batch}
                    for row in rows:
                        by_bucket[row.bucket].append(row)
                    for bucket, flight in batch.items():
                        _answer(flight, by_bucket[bucket])
        finally:
            self._flights = {}
            self._busy = False

    def _fail(self, flights: Iterable[_Flight], error: BaseException) -> None:
        _fail(flights, error)
        if isinstance(error, StorageUnavailableError):
            # Those that have gathered meanwhile would find the same, one batch after the other.
            gathered, self._next = self._next, {}
            _fail(gathered.values(), error)

    async def close(self) -> None:
        """Let the look-ups under way end."""
        if self._draining is not None:
            await asyncio.wait([self._draining])


def plain_key(reference: Identifier) -> Hashable:
    """Return the key that an identifier which is no secret is cached under."""
    if reference.exact:
        return ("exactly", reference.spelling, reference.type, reference.scope)
    if reference.guessed:
        return reference.spelling
    if reference.scope is None:
        return (reference.spelling, reference.type)
    return (reference.spelling, reference.type, reference.scope)


def _secret_key(bucket: bytes, reference: Identifier) -> Hashable:
    return (bucket, reference.type, reference.scope)


def _answer(flight: _Flight, rows: list[BucketRow]) -> None:
    for future in flight.waiting:
        if not future.done():
            future.set_result(rows)


def _fail(flights: Iterable[_Flight], error: BaseException) -> None:
    for flight in flights:
        for future in flight.waiting:
            if future.done():
                continue
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(copy.copy(error) if isinstance(error, MuxiError) else error)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
