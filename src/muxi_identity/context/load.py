"""The one-trip load: who an identifier means and everything that a conversation needs of them, in one statement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from muxi_identity.arguments import MAX_QUERY, check_audience, check_count, check_session_id, check_text
from muxi_identity.config import FormationConfig
from muxi_identity.context.access import Access
from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.memories.records import facts_of, memory_record, ranked
from muxi_identity.context.parts import Shape, Start, gathering
from muxi_identity.context.sessions.message import Message
from muxi_identity.context.sessions.rows import check_same_audience, idle_since, read_context
from muxi_identity.context.synopsis.rows import basis_of
from muxi_identity.context.synopsis.rules import RECENT_FACTS, RECENT_MEMORIES, draft
from muxi_identity.context.tasks.schedules import next_shown
from muxi_identity.context.working.rows import item_of
from muxi_identity.identifiers import PublicId
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Lookup, Reference, Through
from muxi_identity.identity.running import ATTEMPTS, Caller, identity_changed
from muxi_identity.models import Audience, TaskRecord, UserContext, iso, iso_or_none
from muxi_identity.storage.gathering import Found, GatheredRow
from muxi_identity.storage.rows import BucketRow
from muxi_identity.storage.text_search import query_terms
from muxi_identity.words import query_words

MAX_MEMORIES = 500
WORKING_ITEMS = 50


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one load brought.

    ``facts`` are the person's memories that have a key and a value, newest first and one for each key.
    ``session_is_new``: no session of that id is there yet, or none to go on with; ``context["session_id"]`` is then
    what the caller named, or None.
    """

    hit: Hit
    context: UserContext
    facts: Sequence[Fact]
    messages: Sequence[Message]
    session_is_new: bool


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a load is asked for."""

    session_id: str | None
    words: Sequence[str]
    audience: Audience
    memories: int
    facts: int


class ContextLoader:
    """Loads what conversations with the people of one formation need."""

    def __init__(self, access: Access, lookup: Lookup, config: FormationConfig) -> None:
        self._runner = access.runner
        self._resolver = access.resolver
        self._lookup = lookup
        self._session = config.session
        self._items = min(WORKING_ITEMS, config.working.max_items)

    async def load(
        self,
        reference: Reference,
        *,
        session_id: str | None = None,
        query: str | None = None,
        audience: Audience = "private",
        memories: int = 20,
        facts: int = 0,
        caller: Caller,
        create: bool = True,
    ) -> Loaded:
        """Load the context of whoever ``reference`` means, in one snapshot: one round trip, on SQLite one thread hop.

        The statement itself derives who that is. One more trip is needed where the bucket of an identifier holds
        several rows and the likeliest was not the one that the rules choose, and where nobody has it: ``create`` then
        makes first contact.

        ``memories`` are the newest ones; with ``query``, those that match it best come first. ``facts`` says how many
        of the newest facts come along, besides those among the matches. For a shared audience only what is shareable
        is brought, and neither credentials nor tasks.

        Raises:
            UserNotFoundError: Nobody has it, and it is a public id or a secret, or not to be created.
            AmbiguousIdentifierError: Untyped, and several people have it.
            AudienceMismatchError: The session was begun for another audience.
            TooLargeError: The query is too long.
            InvalidRequestError: An argument has the wrong shape.
            IdentityChangedError: It went from one to another again and again.
        """
        check_session_id(session_id)
        check_audience(audience)
        if query is not None:
            check_text("query", query, MAX_QUERY, blank=True)
        wanted = _Wanted(
            session_id,
            query_words(query or ""),
            audience,
            check_count("memory_limit", memories, MAX_MEMORIES),
            check_count("facts", facts, MAX_MEMORIES),
        )
        for _ in range(ATTEMPTS):
            now = self._runner.clock.now()
            brought = await self._gather(reference, wanted, now)
            if brought is not None:
                return _loaded(*brought, wanted, now)
            await self._resolver.resolve(reference, create=create, caller=caller, fresh=True)
        raise identity_changed()

    async def _gather(self, reference: Reference, wanted: _Wanted, now: int) -> tuple[Hit, Found] | None:
        """Return who ``reference`` means and what there is of them, None where it means nobody."""
        if isinstance(reference, PublicId):
            through = reference.identifier_pk if isinstance(reference, Through) else None
            found = await self._fetch("public_id", wanted, now, public_id=reference.user_id, identifier_pk=through)
            return (_hit(found), found) if found["caller"] else None
        named = {
            "type": None if reference.guessed else reference.type,
            "scope": reference.scope,
            "value": reference.value,
        }
        chosen: int | None = None
        for _ in range(ATTEMPTS):
            brought: list[Found] = []

            async def read(
                bucket: bytes, chosen: int | None = chosen, brought: list[Found] = brought
            ) -> list[BucketRow]:
                start: Start = "bucket" if chosen is None else "row"
                brought.append(await self._fetch(start, wanted, now, bucket=bucket, identifier_pk=chosen, **named))
                return [_bucket_row(bucket, row) for row in brought[0]["bucket"]]

            answer = await self._lookup.find_by(reference, read)
            if answer.hit is None:
                return None
            if [row.identifier_pk for row in brought[0]["caller"]] == [answer.hit.identifier_pk]:
                return answer.hit, brought[0]
            chosen = answer.hit.identifier_pk
        raise identity_changed()

    async def _fetch(self, start: Start, wanted: _Wanted, now: int, **given: Any) -> Found:
        database = self._runner.database
        shape = Shape(
            dialect=database.dialect,
            start=start,
            session=wanted.session_id is not None,
            searching=bool(wanted.words),
            shared=wanted.audience == "shared",
        )
        parameters = {
            "formation_id": self._runner.formation_id,
            "now": now,
            "session_id": wanted.session_id,
            "audience": wanted.audience,
            "idle_since": idle_since(now, self._session.idle_timeout),
            "message_limit": self._session.max_messages,
            # As many at least as a synopsis is made of where the kept one does not stand.
            "memory_limit": max(wanted.memories, RECENT_MEMORIES),
            "fact_limit": max(wanted.facts, RECENT_FACTS),
            "item_limit": self._items,
            "terms": query_terms(database.dialect, wanted.words) if wanted.words else None,
            **given,
        }
        return await self._runner.again(lambda: database.gather(gathering(shape), parameters))


def _bucket_row(bucket: bytes, row: GatheredRow) -> BucketRow:
    return BucketRow(bucket, **{**vars(row), "secret": bool(row.secret)})


def _hit(found: Found) -> Hit:
    (caller,) = found["caller"]
    return Hit(caller.identifier_pk, caller.member_pk, caller.root_pk, caller.public_id)


def _loaded(hit: Hit, found: Found, wanted: _Wanted, now: int) -> Loaded:
    session = found["session"][0] if found["session"] else None
    if session is not None:
        check_same_audience(session.session_id, session.audience, wanted.audience)
    messages = [Message(row.role, row.content, row.created_at) for row in reversed(found["messages"])]
    preferences = {row.key: json.loads(row.value) for row in sorted(found["preferences"], key=_key)}
    # What matches the query comes first; where that is little, what was learned last fills the rest.
    hits = ranked(found["hits"], now) if wanted.words else []
    known = {memory["memory_id"] for memory in hits}
    others = [memory_record(row) for row in found["memories"] if row.memory_id not in known]
    context = UserContext(
        muxi_user_id=hit.public_id,
        session_id=wanted.session_id if session is None else session.session_id,
        audience=wanted.audience,
        synopsis=_synopsis(found, preferences),
        preferences=preferences,
        memories=[*hits, *others][: wanted.memories],
        working_memory=[item_of(row) for row in found["working"]],
        credentials=_names(found),
        tasks=[_task(row, hit.public_id, now) for row in found.get("tasks", [])],
        session_context={} if session is None else read_context(session.context),
        messages=[{"role": each.role, "content": each.content, "created_at": iso(each.at or 0)} for each in messages],
    )
    return Loaded(hit, context, _facts(found, wanted), messages, session_is_new=session is None)


def _key(row: GatheredRow) -> str:
    return str(row.key)


def _names(found: Found) -> list[dict[str, str]]:
    names = sorted((row.service, row.name) for row in found.get("credentials", []))
    return [{"service": service, "name": name} for service, name in names]


def _facts(found: Found, wanted: _Wanted) -> list[Fact]:
    """Return the newest facts, and those among what matches the query: newest first, one for each key."""
    hits = [row for row in found.get("hits", []) if row.value is not None]
    rows = [*found["facts"][: wanted.facts], *hits]
    return facts_of(sorted(rows, key=lambda row: (row.updated_at, row.pk), reverse=True))


def _synopsis(found: Found, preferences: dict[str, Any]) -> str:
    """Return the text that is kept if it stands, else one made of what was loaded."""
    kept = found.get("synopses", [])
    basis = basis_of((row.pk, row.revision) for row in kept)
    for row in kept:
        if row.basis is not None and row.basis == basis:
            return str(row.text)
    return draft(found["facts"], found["memories"], preferences)


def _task(row: GatheredRow, user_id: str, now: int) -> TaskRecord:
    next_run_at: int | None = row.next_run_at
    if row.claim is not None:  # the row holds the run that is under way: what comes after it is shown
        next_run_at = next_shown(row.kind, row.schedule, row.timezone, now)
    return {
        "task_id": row.task_id,
        "muxi_user_id": user_id,
        "kind": row.kind,
        "schedule": row.schedule,
        "timezone": row.timezone,
        "message": row.message,
        "status": row.status,
        "next_run_at": iso_or_none(next_run_at),
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
    }
