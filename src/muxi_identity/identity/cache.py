"""The cache in front of resolution: two levels, in the process.

First level: an identifier as it was spelt -> the identifier's row and the member that it belongs to.
Second level: a member -> the root that answers for it.

**Tokens.** An entry holds a token that was alive when its look-up *began*, and is answered only while that token is
alive. Whoever changes what a key means kills the key's token. So an entry filled late by a look-up that began before
the change carries a dead token and is never answered: there is no check that a fill could slip past. Which member a
look-up will bring is not known when it begins, so for the second level the tokens' generation is noted instead, and
nothing is filled where it rose meanwhile.

**Fences.** From before a change commits until its outcome is known, the tokens of its keys are dead from birth. A
look-up that begins meanwhile is answered from the database and caches nothing.
"""

from __future__ import annotations

import math
import secrets
import threading
import weakref
from collections.abc import Callable, Collection, Hashable, Iterable
from time import monotonic
from typing import NamedTuple

from cachebox import FIFOCache


class Token:
    """Alive until what it stands for changes."""

    __slots__ = ("__weakref__", "alive")

    def __init__(self, alive: bool = True) -> None:
        self.alive = alive


_DEAD = Token(alive=False)
_STRIPES = 8192


class Tokens:
    """The tokens of all keys, shared by keys that fall on the same stripe: a few needless misses, flat memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: list[Token | None] = [None] * _STRIPES
        self._fences = [0] * _STRIPES
        self.generation = 0
        """Rises with every kill and with every fence that is lowered. Unchanged between two readings: nothing changed
        meanwhile, and nothing was about to."""

    def take(self, key: Hashable) -> Token:
        """Return the token of ``key``, to be taken *before* the look-up whose answer will be cached under it."""
        stripe = hash(key) % _STRIPES
        token = self._tokens[stripe]
        if token is not None:
            return token  # there is none where a fence is up; one that is killed from now on is dead, as it must be
        with self._lock:
            if self._fences[stripe]:
                return _DEAD
            token = self._tokens[stripe]
            if token is None:
                token = self._tokens[stripe] = Token()
            return token

    def raise_fence(self, key: Hashable) -> int:
        """Kill the token of ``key`` and give out dead ones until :meth:`lower_fence`. Return the stripe."""
        stripe = hash(key) % _STRIPES
        with self._lock:
            self._fences[stripe] += 1
            self._kill(stripe)
        return stripe

    def lower_fence(self, stripe: int) -> None:
        """Undo one :meth:`raise_fence`."""
        with self._lock:
            self._fences[stripe] -= 1
            # A look-up that began behind the fence may have read what was true before the change.
            self.generation += 1

    def kill(self, key: Hashable) -> None:
        """Kill the token of ``key``: what it stands for was changed and committed, by another process."""
        with self._lock:
            self._kill(hash(key) % _STRIPES)

    def kill_all(self) -> None:
        """Kill every token."""
        with self._lock:
            for stripe in range(_STRIPES):
                self._kill(stripe)

    def _kill(self, stripe: int) -> None:
        self.generation += 1
        token = self._tokens[stripe]
        if token is not None:
            token.alive = False
            self._tokens[stripe] = None


class Hit(NamedTuple):
    """What the cache knows of an identifier. ``identifier_pk`` is None for a public id."""

    identifier_pk: int | None
    member_pk: int
    root_pk: int
    public_id: str


class Fence:
    """The keys that one change makes wrong. Collected while it runs, lowered when its outcome is known."""

    def __init__(self, cache: IdentityCache) -> None:
        self._cache = cache
        self._buckets: dict[Hashable, int] = {}
        self._members: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._buckets or self._members)

    @property
    def origin(self) -> str:
        """Names the cache, to tell its own changes from those of others."""
        return self._cache.origin

    @property
    def keys(self) -> Collection[Hashable]:
        """The buckets and public ids that are fenced."""
        return self._buckets.keys()

    @property
    def member_pks(self) -> Collection[int]:
        """The members that are fenced."""
        return self._members.keys()

    def buckets(self, keys: Iterable[Hashable]) -> None:
        """Fence what is cached for the spellings of these buckets (or for public ids)."""
        for key in keys:
            if key not in self._buckets:
                self._buckets[key] = self._cache.bucket_tokens.raise_fence(key)

    def members(self, keys: Iterable[int]) -> None:
        """Fence what is cached of the roots of these members."""
        for key in keys:
            if key not in self._members:
                self._members[key] = self._cache.member_tokens.raise_fence(key)

    def lower(self) -> None:
        """Let look-ups that begin from now on be cached again."""
        for stripe in self._buckets.values():
            self._cache.bucket_tokens.lower_fence(stripe)
        for stripe in self._members.values():
            self._cache.member_tokens.lower_fence(stripe)
        self._buckets.clear()
        self._members.clear()


class _Known:
    """An entry of the second level: what answers for a member."""

    __slots__ = ("deadline", "member_pk", "public_id", "root_pk", "token")

    def __init__(self, hit: Hit, token: Token, deadline: float) -> None:
        self.member_pk = hit.member_pk
        self.root_pk = hit.root_pk
        self.public_id = hit.public_id
        self.token = token
        self.deadline = deadline


class _Named:
    """An entry of the first level. It holds the member's entry itself, so that a hit looks nothing up twice."""

    __slots__ = ("deadline", "identifier_pk", "known", "token")

    def __init__(self, identifier_pk: int | None, known: _Known, token: Token, deadline: float) -> None:
        self.identifier_pk = identifier_pk
        self.known = known
        self.token = token
        self.deadline = deadline


def _compact(key: Hashable) -> Hashable:
    """Return a spelling with its type as one value, which takes 64 bytes less than a pair.

    Bytes: no bare spelling equals them. One NUL is between the two, and what was parsed has none.
    """
    if type(key) is tuple and len(key) == 2:
        return "\0".join(key).encode("utf-8", "surrogatepass")
    return key


class IdentityCache:
    """Both levels of one formation in one database, shared by everything in the process that uses it.

    ``ttl`` in seconds; ``max_entries`` for each level. The oldest leave first: they are the next to expire, and
    to remember the order of use would take 32 bytes an entry. ``hits``
    counts what the cache answered, ``misses`` what the database was asked instead; under threads they may miss a
    few.
    """

    def __init__(self, ttl: float, max_entries: int) -> None:
        self.ttl = ttl
        self.hits = 0
        self.misses = 0
        self.lease_until = math.inf
        """Monotonic time until which hits may be served: whoever listens for other processes' changes extends it."""
        self.heard_until = -math.inf
        """Monotonic time by which all that other processes had committed was heard, by some listener (PostgreSQL)."""
        self.keepers: list[Callable[[], bool]] = []
        """Those who can extend the lease in place, and tell whether they did. They never wait long."""
        self.epoch = 0
        """The formation's identity epoch as this process knows it (SQLite)."""
        self.origin = ""
        """Marks what this process tells others of changes that were fenced here (PostgreSQL)."""
        self.renew_origin()
        self.bucket_tokens = Tokens()
        self.member_tokens = Tokens()
        self._first: FIFOCache[Hashable, _Named] = FIFOCache(max_entries)
        self._second: FIFOCache[int, _Known] = FIFOCache(max_entries)
        # One deadline object serves all fills of the same while: a float an entry would be a tenth of its memory.
        self._grain = ttl / 256
        self._deadline = 0.0

    def get(self, key: Hashable) -> Hit | None:
        """Answer from memory, or None. Never blocks; any thread may call it."""
        named = self._alive(key)
        if named is None:
            return None
        known = named.known
        return Hit(named.identifier_pk, known.member_pk, known.root_pk, known.public_id)

    def public_id(self, key: Hashable) -> str | None:
        """Answer as :meth:`get` does, with the root's public id alone."""
        named = self._alive(key)
        return None if named is None else named.known.public_id

    def _alive(self, key: Hashable) -> _Named | None:
        named = self._first.get(key if type(key) is str else _compact(key))
        if named is not None and named.token.alive:
            now = monotonic()
            if now >= self.lease_until and not self._kept(named):
                return None
            if now < named.deadline:
                known = named.known
                if not (known.token.alive and now < known.deadline):
                    newer = self._second.get(known.member_pk)
                    if newer is None or not (newer.token.alive and now < newer.deadline):
                        return None
                    named.known = newer
                self.hits += 1
                return named
        return None

    def _kept(self, named: _Named) -> bool:
        """Have the lease extended, and tell whether the entry is still right."""
        return any(keep() for keep in tuple(self.keepers)) and named.token.alive

    def put(self, key: Hashable, hit: Hit, token: Token, generation: int, *, seconds: float | None = None) -> None:
        """Remember an answer.

        ``token`` was taken of the bucket, and ``generation`` read of ``member_tokens``, before the look-up began;
        ``seconds`` is how long the identifier itself is still valid.
        """
        if not token.alive or self.ttl <= 0:
            return
        deadline = self._deadline_now()
        if seconds is not None:
            deadline = min(deadline, monotonic() + seconds)
        member_token = self.member_tokens.take(hit.member_pk)
        if self.member_tokens.generation != generation:
            return  # some member changed its root meanwhile, perhaps this one: the next look-up will tell
        known = self._second.get(hit.member_pk)
        if known is None or known.token is not member_token or known.deadline != self._deadline:
            known = _Known(hit, member_token, self._deadline)
            self._second.insert(known.member_pk, known)
        self._first.insert(_compact(key), _Named(hit.identifier_pk, known, token, deadline))

    def forget(self, key: Hashable) -> None:
        """Drop the entry of ``key``: its spelling turned out to be a secret, which must not lie in memory."""
        self._first.pop(_compact(key), None)

    def drop(self, keys: Iterable[Hashable], member_pks: Iterable[int]) -> None:
        """Answer nothing any more that was looked up so far for these buckets and public ids, or of these members.

        For a change that is committed: a look-up that begins from now on sees it.
        """
        for key in keys:
            self.bucket_tokens.kill(key)
        for pk in member_pks:
            self.member_tokens.kill(pk)

    def renew_origin(self) -> None:
        """Take what was told so far for somebody else's.

        Where nobody knows whether a change was committed, its fence will be lowered some day. Should it be committed
        after that, its own notice must not be passed over.
        """
        self.origin = secrets.token_hex(6)

    def _deadline_now(self) -> float:
        deadline = monotonic() + self.ttl
        if deadline - self._deadline > self._grain:
            self._deadline = deadline
        return self._deadline

    def clear(self) -> None:
        """Answer nothing any more that was looked up so far, nor what look-ups now under way will bring.

        The dead entries make room when they are looked up again, or as the oldest: to take out a million
        of them would hold the event loop for a quarter of a second.
        """
        self.bucket_tokens.kill_all()
        self.member_tokens.kill_all()

    def info(self) -> dict[str, int]:
        """Return the counters and the number of entries of both levels."""
        return {
            "hits": self.hits,
            "misses": self.misses,
            "identifiers": len(self._first),
            "members": len(self._second),
        }


_shared: weakref.WeakValueDictionary[tuple[str, str], IdentityCache] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_cache(database: str, formation_id: str, ttl: float, max_entries: int) -> IdentityCache:
    """Return the process's one cache of a formation. Whoever asks first decides its ``ttl`` and ``max_entries``."""
    with _shared_lock:
        cache = _shared.get((database, formation_id))
        if cache is None:
            cache = _shared[database, formation_id] = IdentityCache(ttl, max_entries)
            cache.lease_until = 0.0  # nothing is answered before somebody listens
        return cache


def forget_shared_caches() -> None:
    """Start anew after a fork: nobody tells the child of changes made before it listened."""
    global _shared, _shared_lock
    _shared = weakref.WeakValueDictionary()
    _shared_lock = threading.Lock()
