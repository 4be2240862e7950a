"""The engine of one formation: puts the parts together, begins and commits transactions, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, insert, select

from muxi_identity.config import FormationConfig
from muxi_identity.conversation.offline import OfflineResponder
from muxi_identity.conversation.responder import Responder
from muxi_identity.conversation.turn import Opening, close_turn, open_turn, read_session
from muxi_identity.errors import (
    ConfigurationError,
    IdentityChangedError,
    InvalidRequestError,
    StorageUnavailableError,
    UserNotFoundError,
)
from muxi_identity.identifiers import Identifier, PublicId, hint, parse_identifier, parse_reference
from muxi_identity.identity import people
from muxi_identity.identity.cache import Fence, Hit, IdentityCache, shared_cache
from muxi_identity.identity.coherence import Coherence, OneProcess, SqlitePoll
from muxi_identity.identity.first_contact import first_contact
from muxi_identity.identity.history import write_events
from muxi_identity.identity.idempotency import MAX_KEY, earlier_answer, fingerprint, keep_answer
from muxi_identity.identity.keys import BucketKey, key_beside
from muxi_identity.identity.linking import Item, Linked, OnConflict, distinct_items, link
from muxi_identity.identity.lookup import Answer, Lookup, Reference, plain_key
from muxi_identity.identity.people import new_public_id
from muxi_identity.identity.slots import new_identifier
from muxi_identity.identity.transaction import Transaction
from muxi_identity.identity.unlinking import unlink
from muxi_identity.models import (
    ChatReply,
    DeleteResult,
    IdentifierRecord,
    LinkResult,
    ResolvedUser,
    SessionMessages,
    UnlinkResult,
    UserPage,
    UserRecord,
)
from muxi_identity.storage.database import Database
from muxi_identity.storage.errors import ConstraintViolated, GuardRefused, RaceLost
from muxi_identity.storage.rows import BucketRow, Change, NewIdentifier, NewPerson
from muxi_identity.storage.sqlite import SqliteDatabase
from muxi_identity.storage.tables import formations

T = TypeVar("T")
logger = logging.getLogger("muxi_identity")

MAX_MESSAGE = 100_000  # characters
MAX_IDENTIFIERS = 1_000  # in one call
MAX_TEXT = 1_000  # characters of a reason or a source
_ATTEMPTS = 30
# How long the outcome of a commit whose connection was lost may still change: no back end commits later than this.
_DOUBT_SECONDS = 60.0


class Clock(NamedTuple):
    """Where an engine takes the time from: ``now`` in microseconds since 1970."""

    now: Callable[[], int]


SYSTEM_CLOCK = Clock(lambda: time.time_ns() // 1000)


class Caller(NamedTuple):
    """Who acts, as the history will name them."""

    actor: str
    source: str | None = None
    reason: str | None = None


class Formation:
    """One open formation on one event loop. Every identifier argument takes any of the three forms.

    All operations raise StorageUnavailableError where the database does not answer.
    """

    def __init__(
        self,
        config: FormationConfig,
        *,
        database: Database,
        responder: Responder | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.config = config
        self.database = database
        self._rules = config.identity.rules
        self._clock = clock
        self._responder: Responder = responder or OfflineResponder()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.cache: IdentityCache
        self._bucket: BucketKey
        self._lookup: Lookup
        self._coherence: Coherence

    # Opening and closing

    async def open(self) -> None:
        """Connect, bring the schema up to date, and check the key.

        Raises:
            ConfigurationError: The key is missing or is not the one that the formation was made with.
        """
        await self.database.open()
        try:
            self._bucket = BucketKey(self._secret(), self.config.id)
            try:
                born = await self.database.transact(self._register)
            except RaceLost:  # another process registered it: now it must be there
                born = await self.database.transact(self._register)
        except BaseException:
            await self.database.close()
            raise
        cache = self.config.identity.cache
        # A file that was deleted leaves its inode to the next one, and a formation's name may be given again: the time
        # of its making tells this formation from the one whose cache somebody may still hold.
        database = f"{self.database.identity}:{born}"
        self.cache = shared_cache(database, self.config.id, cache.ttl, cache.max_entries)
        self._lookup = Lookup(self.database, self.config.id, self.cache, self._bucket, self._clock.now)
        self._coherence = (
            SqlitePoll(self.database, self.config.id, self.cache)
            if isinstance(self.database, SqliteDatabase)
            else OneProcess()
        )
        await self._coherence.start()
        if isinstance(self.database, SqliteDatabase):  # an address would carry a password; a file is looked for
            logger.info("formation %s is open in %s", self.config.id, self.database.path)

    def _secret(self) -> str:
        if self.config.secret_key is not None:
            return self.config.secret_key.reveal()
        if isinstance(self.database, SqliteDatabase):
            return key_beside(self.database.path)
        raise ConfigurationError(
            "MUXI_SECRET_KEY is not set: on PostgreSQL every process needs the same one. Make it once, for example "
            "with python3 -c 'import secrets; print(secrets.token_urlsafe(48))', and keep it with the other secrets."
        )

    def _register(self, connection: Connection) -> int:
        """Make the formation where there is none, and return when it was made."""
        known = connection.execute(
            select(formations.c.key_check, formations.c.created_at).where(formations.c.formation_id == self.config.id)
        ).one_or_none()
        if known is None:
            now = self._clock.now()
            connection.execute(
                insert(formations).values(formation_id=self.config.id, created_at=now, key_check=self._bucket.check)
            )
            return now
        if known.key_check != self._bucket.check:
            raise ConfigurationError(
                f"MUXI_SECRET_KEY is not the key that formation {self.config.id!r} was made with: with another one "
                "everybody would be a stranger. Give the first one back."
            )
        return int(known.created_at)

    async def close(self) -> None:
        """Let what was begun end, and close the connections."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._coherence.stop()
        await self._lookup.close()
        await self.database.close()

    # Resolving

    def parse(self, given: object, type: str | None = None, scope: str | None = None) -> Reference:
        """Parse what names a user; ``type`` and ``scope`` are those of the channel.

        Raises:
            InvalidIdentifierError: It can be nobody's.
        """
        return parse_reference(given, self._rules, type=type, scope=scope)

    async def resolve(self, reference: Reference, *, create: bool, caller: Caller) -> ResolvedUser:
        """Return who ``reference`` means; ``create`` makes a user at first contact.

        Raises:
            UserNotFoundError: Unknown, and not to be created; or a secret, which never makes first contact.
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        answer, created = await self._resolve(reference, create=create, caller=caller)
        assert answer.hit is not None
        return {"identifier": answer.shown, "muxi_user_id": answer.hit.public_id, "created": created}

    async def find(self, reference: Reference) -> ResolvedUser | None:
        """Return who ``reference`` means, None where nobody does.

        Raises:
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        try:
            answer = await self._lookup.find(reference)
        except UserNotFoundError:
            return None
        if answer.hit is None:
            return None
        return {"identifier": answer.shown, "muxi_user_id": answer.hit.public_id, "created": False}

    async def _resolve(
        self, reference: Reference, *, create: bool, caller: Caller, fresh: bool = False
    ) -> tuple[Answer, bool]:
        if isinstance(reference, PublicId) or not create or reference.secret:
            answer = await self._lookup.find(reference, fresh=fresh)
            if answer.hit is None:
                raise _unknown(reference)
            return answer, False
        made: str | None = None

        async def meet(bucket: bytes) -> list[BucketRow] | None:
            nonlocal made
            person, change = self._newcomer(reference, bucket, caller)
            made = person.public_id
            try:
                return await self.database.find_or_create(self.config.id, person, change)
            except RaceLost:
                return None

        answer = await self._lookup.find(reference, fresh=fresh, meet=None if fresh or reference.expires_at else meet)
        if answer.hit is not None:
            return answer, answer.hit.public_id == made
        if answer.revoked:
            raise _unknown(reference)
        return await self._first_contact(reference, caller)

    def _newcomer(self, identifier: Identifier, bucket: bytes, caller: Caller) -> tuple[NewPerson, Change]:
        change = self._change_by(caller)
        new = new_identifier(identifier, bucket, change.at, False)
        return NewPerson(new_public_id(), established=False, identifiers=[new]), change

    async def _first_contact(self, identifier: Identifier, caller: Caller) -> tuple[Answer, bool]:
        bucket = self._bucket(identifier.fold)
        person, change = self._newcomer(identifier, bucket, caller)
        token = self.cache.bucket_tokens.take(bucket)
        generation = self.cache.member_tokens.generation
        try:
            made = await self.database.create_person(self.config.id, person, change)
        except RaceLost:
            made = None
        if made is not None:
            hit = Hit(made.identifier_pks[0], made.user_pk, made.user_pk, person.public_id)
            expires_at = person.identifiers[0].expires_at
            seconds = None if expires_at is None else (expires_at - change.at) / 1e6
            self.cache.put(plain_key(identifier), hit, token, generation, seconds=seconds)
            return Answer(hit, identifier.shown), True
        # The bucket is in use, or was until a moment ago: the ordinary transaction decides.
        found = await self._change(lambda tx: first_contact(tx, identifier), caller)
        if found is None:
            raise _unknown(identifier)
        return Answer(found[0], identifier.shown), found[1]

    # Users

    async def create_user(self, user_id: str | None, caller: Caller) -> UserRecord:
        """Make a user, established and without identifiers.

        Raises:
            UserExistsError: ``user_id`` is taken.
            InvalidIdentifierError: ``user_id`` is no public id.
        """
        chosen = None if user_id is None else self.parse(user_id)
        if isinstance(chosen, Identifier):
            raise InvalidRequestError("user_id must look like usr_alice: usr_ and up to 64 letters, digits, _ or -.")
        public_id = None if chosen is None else chosen.user_id

        def work(tx: Transaction) -> UserRecord:
            person = people.new_user(tx, established=True, user_id=public_id)
            return people.get_user(tx, person.root_pk)

        try:
            return await self._change(work, caller)
        except ConstraintViolated as error:
            if public_id is None or not people.is_taken_id(error):
                raise
            raise people.user_exists(public_id) from None

    async def get_user(self, reference: Reference) -> UserRecord:
        """Return the record of the person that ``reference`` means.

        Raises:
            UserNotFoundError: Nobody.
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        hit = await self._existing(reference)
        merged = isinstance(reference, PublicId) and hit.member_pk != hit.root_pk
        return await self._read(lambda tx: people.get_user(tx, _root_now(tx, hit), asked_by_merged_id=merged))

    async def list_users(self, limit: int, cursor: str | None) -> UserPage:
        """Return a page of people, oldest first.

        Raises:
            InvalidRequestError: The limit is out of range or the cursor is none of ours.
        """
        return await self._read(lambda tx: people.list_users(tx, limit, cursor))

    async def delete_user(self, reference: Reference, *, include_merged: bool, caller: Caller) -> DeleteResult:
        """Delete a person with everything that is theirs.

        Raises:
            UserNotFoundError: Nobody.
            MergeConflictError: Others are merged into it and ``include_merged`` is false.
        """
        hit = await self._existing(reference)
        return await self._change(
            lambda tx: people.delete_user(tx, _root_now(tx, hit), include_merged=include_merged), caller
        )

    async def identifiers_of(self, reference: Reference) -> list[IdentifierRecord]:
        """Return a person's identifiers in linking order.

        Raises:
            UserNotFoundError: Nobody.
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        hit = await self._existing(reference)
        return await self._read(lambda tx: people.identifiers_of(tx, _root_now(tx, hit)))

    async def _existing(self, reference: Reference) -> Hit:
        answer = await self._lookup.find(reference, fresh=True)
        if answer.hit is None:
            raise _unknown(reference)
        return answer.hit

    # Linking

    async def associate(
        self,
        given: Sequence[object],
        user_id: object,
        *,
        on_conflict: OnConflict,
        verified: bool,
        idempotency_key: str | None,
        caller: Caller,
    ) -> LinkResult:
        """Link identifiers to one person; see :func:`muxi_identity.identity.linking.link`.

        Raises:
            IdentifierConflictError: Some belong to other users, and ``on_conflict`` does not settle it.
            IdentifierLimitError: The person would have too many.
            UserNotFoundError: ``user_id`` names nobody.
            AmbiguousIdentifierError: One is untyped, and several people have it.
            InvalidRequestError: An argument has the wrong shape.
        """
        identifiers = self._parse_all(given)
        user = None if user_id is None else self.parse(user_id)
        if idempotency_key is None:
            target = await self._target(user)
            linked = await self._link_unknown(identifiers, target, verified, caller)
            if linked is None:
                linked = await self._change(lambda tx: link(tx, identifiers, target, on_conflict, verified), caller)
        else:
            linked = await self._link_once(
                identifiers, user, on_conflict, verified, _checked_key(idempotency_key), caller
            )
        for each in identifiers:
            if each.secret:
                self.cache.forget(each.fold)  # it may have written in bare, when nobody knew it for a secret
        return _link_result(identifiers, linked)

    def _parse_all(self, given: Sequence[object]) -> list[Identifier]:
        if isinstance(given, str | bytes | bytearray | memoryview) or not isinstance(given, Sequence) or not given:
            raise InvalidRequestError(
                "identifiers must be a list with at least one identifier; each is 'value', ('value', 'type') or "
                "{'identifier': 'value', 'type': 'type'}."
            )
        if len(given) > MAX_IDENTIFIERS:
            raise InvalidRequestError(f"One call links at most {MAX_IDENTIFIERS} identifiers, not {len(given)}.")
        return [parse_identifier(each, self._rules) for each in given]

    async def _target(self, user: Reference | None) -> str | None:
        if isinstance(user, Identifier):
            return (await self._existing(user)).public_id
        return None if user is None else user.user_id

    async def _link_unknown(
        self, identifiers: Sequence[Identifier], target: str | None, verified: bool, caller: Caller
    ) -> Linked | None:
        """Link in one statement where nobody has any of the identifiers; None where that is not so."""
        change = self._change_by(caller)
        items = distinct_items(identifiers, [self._bucket(identifier.fold) for identifier in identifiers])
        if len({item.bucket for item in items}) != len(items) or any(_is_anonymous(item) for item in items):
            return None
        new = [new_identifier(item.identifier, item.bucket, change.at, verified) for item in items]
        linked = Linked(target or new_public_id(), new=[item.position for item in items])
        person = NewPerson(linked.user_id, established=True, identifiers=new)
        limit, held = self._rules.max_per_user, _count_types(new)
        caps = {kind: self._rules.rule(kind).max_per_user for kind in held}
        if sum(held.values()) > limit or any(cap is not None and held[kind] > cap for kind, cap in caps.items()):
            return None  # too many, unless the person has them already
        try:
            if target is None:
                created = await self.database.create_person(self.config.id, person, change)
                linked.created = True
                return None if created is None else linked
            room = [(kind, cap - held[kind]) for kind, cap in caps.items() if kind is not None and cap is not None]
            extended = await self.database.extend_person(self.config.id, person, change, limit=limit, caps=room)
        except RaceLost:
            return None
        if extended is None:
            return None
        linked.user_id = extended[1]
        return linked

    async def _link_once(
        self,
        identifiers: list[Identifier],
        user: Reference | None,
        on_conflict: OnConflict,
        verified: bool,
        key: str,
        caller: Caller,
    ) -> Linked:
        request = fingerprint(self._bucket, identifiers, user, on_conflict, verified)
        if isinstance(user, Identifier):
            # Before it is looked up: after what the first call did, it may mean somebody else, or nobody.
            done = await self._read(lambda tx: earlier_answer(tx, key, request))
            if done is not None:
                return done
        target = await self._target(user)

        def work(tx: Transaction) -> Linked:
            linked = earlier_answer(tx, key, request)
            if linked is None:
                linked = link(tx, identifiers, target, on_conflict, verified)
                keep_answer(tx, key, request, linked)
            return linked

        return await self._change(work, caller)

    async def unlink(self, identifier: object, *, force: bool, caller: Caller) -> UnlinkResult:
        """Unlink an identifier from whoever has it.

        Raises:
            IdentifierNotFoundError: Nobody has it.
            AmbiguousIdentifierError: Untyped, and several people have it.
            LastIdentifierError: It is the person's last one and ``force`` is false.
        """
        parsed = parse_identifier(identifier, self._rules)
        return await self._change(lambda tx: unlink(tx, parsed, force=force), caller)

    # Conversation

    async def chat(self, message: str, reference: Reference, session_id: str | None, caller: Caller) -> ChatReply:
        """Answer one message of whoever ``reference`` means, and remember the turn, whole or not at all.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: Untyped, and several people have it.
            InvalidRequestError: The message or the session id has the wrong shape or size.
            IdentityChangedError: The identifier went to somebody else while the reply was computed, and the
                responder cannot simply be asked again. Nothing was recorded.
        """
        _check_message(message)
        _check_session_id(session_id)
        fresh = False
        for _ in range(_ATTEMPTS):
            answer, _created = await self._resolve(reference, create=True, caller=caller, fresh=fresh)
            hit = answer.hit
            assert hit is not None
            try:
                opening = await self._open_turn(hit, message, session_id)
            except GuardRefused:
                fresh = True  # nothing was computed yet: start again, around the cache
                continue
            response = await self._responder.respond(opening.turn)
            try:
                await self._guarded_change(
                    lambda tx, hit=hit, opening=opening, response=response: close_turn(  # type: ignore[misc]
                        tx, hit, opening, response, self.config.session.max_messages
                    ),
                    caller,
                )
            except GuardRefused:
                if not self._responder.restartable:
                    break
                fresh = True
                continue
            return ChatReply(
                message={"role": "assistant", "content": response.text},
                user_id=opening.user_id,
                session_id=opening.session_id,
                request_id=f"req_{secrets.token_hex(10)}",
            )
        raise _identity_changed()

    async def session_messages(self, reference: Reference, session_id: str) -> SessionMessages:
        """Return what a session of the identifier ``reference`` holds.

        Raises:
            UserNotFoundError: Nobody has it.
            SessionNotFoundError: It has no such session.
        """
        _check_session_id(session_id)
        hit = await self._existing(reference)
        try:
            return await self._read(lambda tx: read_session(tx, hit, session_id))
        except GuardRefused:
            raise _identity_changed() from None

    async def _open_turn(self, hit: Hit, message: str, session_id: str | None) -> Opening:
        idle = self.config.session.idle_timeout
        return await self._read(lambda tx: open_turn(tx, hit, message, session_id, idle))

    # Transactions

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        change = Change("", None, None, self._clock.now())
        return await self.database.read(lambda connection: work(self._transaction(connection, change)))

    async def _change(self, work: Callable[[Transaction], T], caller: Caller) -> T:
        """Run ``work`` in a writing transaction, again where it met another one.

        It runs to its end even if the caller is cancelled: a commit that nobody waits for must still be followed by
        the lowering of its fence.
        """
        try:
            return await self._guarded_change(work, caller)
        except GuardRefused:
            raise _identity_changed() from None

    async def _guarded_change(self, work: Callable[[Transaction], T], caller: Caller) -> T:
        """Do as :meth:`_change`, letting GuardRefused through to whoever can start again."""
        return await self._to_the_end(self._attempts(work, self._change_by(caller)))

    async def _attempts(self, work: Callable[[Transaction], T], change: Change) -> T:
        for attempt in range(_ATTEMPTS):
            try:
                return await self._attempt(work, change)
            except RaceLost:
                # The more often it happens, the longer the pause: enough for the others to get through.
                await asyncio.sleep(random.uniform(0, 0.002 * 2 ** min(attempt, 6)))  # noqa: S311 (no secret)
        raise _identity_changed()

    async def _attempt(self, work: Callable[[Transaction], T], change: Change) -> T:
        fence = Fence(self.cache)
        epoch: list[int] = []
        erased: list[bool] = []

        def whole(connection: Connection) -> T:
            tx = self._transaction(connection, change, fence)
            result = work(tx)
            write_events(tx)
            erased.append(tx.erased)
            if fence and self.database.dialect == "sqlite":
                epoch.append(tx.raise_epoch())
            return result

        in_doubt = False
        try:
            result = await self.database.transact(whole)
        except (StorageUnavailableError, asyncio.CancelledError):  # the latter when the loop ends: a thread goes on
            in_doubt = True
            raise
        else:
            if epoch and self.cache.epoch == epoch[0] - 1:
                self.cache.epoch = epoch[0]  # this process did it and has fenced it: nothing else to forget
            if any(erased):
                await self.database.scrub()
            return result
        finally:
            if in_doubt and fence:
                asyncio.get_running_loop().call_later(_DOUBT_SECONDS, fence.lower)
            else:
                fence.lower()

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller has it, unless it was cancelled and nobody wants it

    def _transaction(self, connection: Connection, change: Change, fence: Fence | None = None) -> Transaction:
        return Transaction(
            database=self.database,
            connection=connection,
            formation_id=self.config.id,
            change=change,
            fence=Fence(self.cache) if fence is None else fence,
            bucket=self._bucket,
            rules=self._rules,
            match=self.config.identity.match,
        )

    def _change_by(self, caller: Caller) -> Change:
        for name, text in (("actor", caller.actor), ("source", caller.source), ("reason", caller.reason)):
            if text is not None and not (isinstance(text, str) and len(text) <= MAX_TEXT and _is_storable(text)):
                raise InvalidRequestError(
                    f"{name} must be a text of at most {MAX_TEXT} characters, without NUL or lone surrogates."
                )
        return Change(caller.actor, caller.source, caller.reason, self._clock.now())


def _root_now(tx: Transaction, hit: Hit) -> int:
    member = tx.find_member(hit.public_id)
    if member is None:
        raise UserNotFoundError("The user was deleted.")
    return member.root_pk


def _is_anonymous(item: Item) -> bool:
    return item.identifier.type == "anonymous"


def _count_types(new: Sequence[NewIdentifier]) -> dict[str | None, int]:
    held: dict[str | None, int] = {}
    for row in new:
        held[row.type] = held.get(row.type, 0) + 1
    return held


def _link_result(identifiers: Sequence[Identifier], linked: Linked) -> LinkResult:
    # A key that was passed bare is known for a secret by its row, or by standing there typed as well: it is shown by
    # its hint all the same.
    secret = {identifiers[position].fold for position in linked.secrets}
    secret.update(each.fold for each in identifiers if each.secret)
    shown = [hint(each.fold) if each.fold in secret else each.shown for each in identifiers]
    return {
        "muxi_user_id": linked.user_id,
        "created": linked.created,
        "identifiers": [{"identifier": name, "type": each.type} for name, each in zip(shown, identifiers, strict=True)],
        "new_identifiers": [shown[position] for position in linked.new],
        "existing_identifiers": [shown[position] for position in linked.existing],
        "skipped": [shown[position] for position in linked.skipped],
        "merge_ids": list(linked.merge_ids),
    }


def _unknown(reference: Reference) -> UserNotFoundError:
    if isinstance(reference, PublicId):
        return UserNotFoundError(f"There is no user {reference.user_id} in this formation.", user_id=reference.user_id)
    # The value is not repeated: passed bare, it may be a key that nobody linked yet.
    kind = "That identifier" if reference.type is None else f"That {reference.type} identifier"
    mend = (
        "a secret must be linked before it is used, and one that was revoked or has expired stays so"
        if reference.secret
        else "link it first, or let first contact create a user (create_user=True, chat)"
    )
    return UserNotFoundError(f"{kind} is not linked to anybody in this formation; {mend}.")


def _identity_changed() -> IdentityChangedError:
    return IdentityChangedError(
        "Who this identifier belongs to changed while the call was under way; nothing was written. Call again."
    )


def _checked_key(key: object) -> str:
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY or not _is_storable(key):
        raise InvalidRequestError(
            f"idempotency_key must be a text of 1 to {MAX_KEY} characters, without NUL or lone surrogates."
        )
    return key


def _check_message(message: object) -> None:
    if not isinstance(message, str) or not message.strip():
        raise InvalidRequestError("message must be a text that is not blank.")
    if len(message) > MAX_MESSAGE:
        raise InvalidRequestError(f"message has {len(message)} characters; at most {MAX_MESSAGE} are taken.")
    if not _is_storable(message):
        raise InvalidRequestError("message must not contain NUL or lone surrogates.")


def _is_storable(text: str) -> bool:
    # PostgreSQL keeps no NUL, and no database a lone surrogate: there is no UTF-8 for it.
    if "\x00" in text:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _check_session_id(session_id: object) -> None:
    if session_id is None:
        return
    if not isinstance(session_id, str) or not 0 < len(session_id) <= 255 or not session_id.isprintable():
        raise InvalidRequestError("session_id must be a printable text of 1 to 255 characters.")
