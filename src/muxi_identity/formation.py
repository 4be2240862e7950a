"""The engine of one formation: puts the parts together, begins and commits transactions, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection, insert, select

from muxi_identity.config import FormationConfig
from muxi_identity.context.access import Access
from muxi_identity.context.credentials.service import Credentials
from muxi_identity.context.export.service import Exports
from muxi_identity.context.feed.service import Feed
from muxi_identity.context.load import ContextLoader
from muxi_identity.context.memories.ranker import MemoryRanker
from muxi_identity.context.memories.service import Memories
from muxi_identity.context.preferences.service import Preferences
from muxi_identity.context.sessions.buffers import Buffers
from muxi_identity.context.sessions.service import Sessions
from muxi_identity.context.synopsis.service import Synopses
from muxi_identity.context.tasks.service import Tasks
from muxi_identity.context.working.service import WorkingMemory
from muxi_identity.conversation.chat import Conversation
from muxi_identity.conversation.choosing import configured_responder
from muxi_identity.conversation.commands import Commands
from muxi_identity.conversation.model import ModelResponder
from muxi_identity.conversation.recording import Recorder
from muxi_identity.conversation.responder import Responder
from muxi_identity.conversation.worker import TaskWorker
from muxi_identity.errors import ConfigurationError, InvalidRequestError, UserNotFoundError
from muxi_identity.events.callbacks import Callbacks, OnEvent
from muxi_identity.events.delivery import Deliveries, subscription_of
from muxi_identity.identifiers import Identifier, PublicId, parse_identifier, parse_reference
from muxi_identity.identity import audit, listing, people
from muxi_identity.identity.associating import Associator
from muxi_identity.identity.cache import IdentityCache, shared_cache
from muxi_identity.identity.coherence import Coherence, coherence_of
from muxi_identity.identity.curating import Curator
from muxi_identity.identity.deciding import OnConflict
from muxi_identity.identity.erasing import count_what_goes, delete_user
from muxi_identity.identity.keys import BucketKey, key_beside, key_file
from muxi_identity.identity.link_codes import LinkCodes
from muxi_identity.identity.listing import UserSearch
from muxi_identity.identity.lookup import Lookup, Reference
from muxi_identity.identity.naming import member_now
from muxi_identity.identity.resolving import Resolver
from muxi_identity.identity.running import SYSTEM_CLOCK, Caller, Clock, Runner
from muxi_identity.identity.subscriptions import Subscriptions
from muxi_identity.identity.transaction import Transaction
from muxi_identity.identity.unlinking import unlink
from muxi_identity.importing.service import Imports
from muxi_identity.models import (
    DeleteResult,
    EventPayload,
    IdentifierRecord,
    LinkResult,
    ResolvedUser,
    UnlinkResult,
    UserPage,
    UserRecord,
)
from muxi_identity.models.buffers import AuditPage
from muxi_identity.storage.database import Database
from muxi_identity.storage.errors import ConstraintViolated, RaceLost
from muxi_identity.storage.sqlite import SqliteDatabase
from muxi_identity.storage.tables import formations

logger = logging.getLogger("muxi_identity")


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
        memory_ranker: MemoryRanker | None = None,
        clock: Clock = SYSTEM_CLOCK,
        owns_database: bool = True,
        on_event: OnEvent | None = None,
    ) -> None:
        self.config = config
        self.database = database
        self._owns_database = owns_database  # a shared one is open already, and others go on with it
        self._rules = config.identity.rules
        self._clock = clock
        self._callbacks = None if on_event is None else Callbacks(on_event)
        self._memory_ranker = memory_ranker
        self._given_responder = responder
        self._own_responder: Responder | None = None
        # Made when it is opened: one service for each kind of thing that belongs to a person.
        self.sessions: Sessions
        self.buffers: Buffers
        self.memories: Memories
        self.working: WorkingMemory
        self.preferences: Preferences
        self.credentials: Credentials
        self.tasks: Tasks
        self.synopses: Synopses
        self.exports: Exports
        self.imports: Imports
        self.link_codes: LinkCodes
        self.events: Deliveries
        self.feed: Feed
        self.loader: ContextLoader
        self.recorder: Recorder
        self.conversation: Conversation
        self.worker: TaskWorker
        self.cache: IdentityCache
        self._bucket: BucketKey
        self._lookup: Lookup
        self._coherence: Coherence
        self._runner: Runner
        self._resolver: Resolver
        self._associator: Associator
        self.curator: Curator

    # Opening and closing

    async def open(self) -> None:
        """Connect, bring the schema up to date, and check the key.

        Raises:
            ConfigurationError: The key is missing or is not the one that the formation was made with; or the schema is
                of a later line than this code.
        """
        if self._owns_database:
            await self.database.open()
        try:
            await self._check_key_is_there()
            self._bucket = BucketKey(self._secret(), self.config.id)
            try:
                born = await self.database.transact(self._register)
            except RaceLost:  # another process registered it: now it must be there
                born = await self.database.transact(self._register)
            self._assemble(born)
            await self._coherence.start()
        except BaseException:
            await self._close_database()
            raise
        # An address would carry a password, and nobody looks for a file that is thrown away.
        if isinstance(self.database, SqliteDatabase) and self.database.durable:
            logger.info("formation %s is open in %s", self.config.id, self.database.path)

    def _assemble(self, born: int) -> None:
        config, database = self.config, self.database
        # A file that was deleted leaves its inode to the next one, and a formation's name may be given again: the time
        # of its making tells this formation from the one whose cache somebody may still hold.
        name, limits = f"{database.identity}:{born}", config.identity.cache
        self.cache = shared_cache(name, config.id, limits.ttl, limits.max_entries)
        self._lookup = Lookup(database, config.id, self.cache, self._bucket, self._clock.now)
        self._coherence = coherence_of(database, config, self.cache)
        self._runner = Runner(
            database,
            config.id,
            self.cache,
            self._bucket,
            self._rules,
            config.identity.match,
            self._clock,
            subscriptions=Subscriptions(
                [subscription_of(each) for each in config.webhooks], heard=self._callbacks is not None
            ),
            committed=self._tell,
        )
        self._resolver = Resolver(self._runner, self._lookup)
        self._associator = Associator(self._runner, self._resolver)
        self.curator = Curator(self._runner, self._resolver)
        access = Access(self._runner, self._resolver)
        self.sessions = Sessions(access, config)
        self.buffers = Buffers(access)
        self.memories = Memories(access, self._memory_ranker)
        self.working = WorkingMemory(access, config)
        self.preferences = Preferences(access)
        self.credentials = Credentials(access, config, self._secret())
        self.tasks = Tasks(access)
        responder = self._given_responder
        if responder is None:
            responder = self._own_responder = configured_responder(config.model)
        self.synopses = Synopses(access, responder.synopsis_writer if isinstance(responder, ModelResponder) else None)
        self.feed = Feed(access)
        self.loader = ContextLoader(access, self._lookup, config)
        self.recorder = Recorder(access, config)
        self.exports = Exports(access)
        self.imports = Imports(self._runner, self._associator)
        self.link_codes = LinkCodes(self._runner, self._resolver)
        self.events = Deliveries(self._runner, config.webhooks)
        self.conversation = Conversation(
            access, config, responder, self.loader, self.credentials, Commands(self.link_codes, config)
        )
        self.worker = TaskWorker(self._runner, partial(self.conversation.chat, continued=False))

    def _tell(self, events: Sequence[EventPayload]) -> None:
        self.events.wake()
        if self._callbacks is not None:
            self._callbacks.tell(events)

    async def _check_key_is_there(self) -> None:
        """Refuse to make a new key for a formation that has one: it was left behind when the file was restored.

        Raises:
            ConfigurationError: The file beside the database is not there.
        """
        if self.config.secret_key is not None or not isinstance(self.database, SqliteDatabase):
            return
        path = key_file(self.database.path)
        if path.exists():
            return
        known = select(formations.c.formation_id).where(formations.c.formation_id == self.config.id)
        if await self.database.read(lambda connection: connection.execute(known).scalar()) is not None:
            raise ConfigurationError(
                f"{path} is missing, with which formation {self.config.id!r} finds its people: put it back from the "
                "back-up that the database file came from, or set MUXI_SECRET_KEY to what the formation was made with."
            )

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
        """Stop running tasks, let what else was begun end, and close the connections."""
        await self.worker.stop()
        await self.conversation.close()
        await self.events.stop()
        await self.feed.stop()
        await self._runner.finish()
        if self._callbacks is not None:
            await self._callbacks.stop()
        if isinstance(self._own_responder, ModelResponder):
            await self._own_responder.aclose()
        await self._coherence.stop()
        await self._lookup.close()
        await self._close_database()

    def abandon(self, *, forked: bool) -> None:
        """Let go of everything without the event loop: it has ended, or is the parent's (``forked``)."""
        self._coherence.abandon()
        self.database.abandon(forked=forked)

    async def _close_database(self) -> None:
        if self._owns_database:
            await self.database.close()

    @property
    def now(self) -> int:
        """The time that the formation goes by, in microseconds since 1970."""
        return self._clock.now()

    def derive_key(self, purpose: str) -> bytes:
        """Return a key that is this formation's own, for one purpose (32 bytes)."""
        return self._bucket.fingerprint(f"derived key {purpose}")

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
        answer, created = await self._resolver.resolve(reference, create=create, caller=caller)
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

    async def pin(self, reference: Reference) -> Reference:
        """Return ``reference`` as what it means now, and nothing else later; see :meth:`Resolver.pin`.

        Raises:
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        return await self._resolver.pin(reference) if isinstance(reference, Identifier) else reference

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
            return await self._runner.change(work, caller)
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
        hit = await self._resolver.existing(reference)

        def work(tx: Transaction) -> UserRecord:
            member = member_now(tx, hit)
            merged = isinstance(reference, PublicId) and member.pk != member.root_pk
            return people.get_user(tx, member.root_pk, asked_by_merged_id=merged)

        return await self._runner.read(work)

    async def list_users(self, search: UserSearch, limit: int, cursor: str | None) -> UserPage:
        """Return a page of the people who ``search`` finds, oldest first.

        Raises:
            InvalidRequestError: The limit is out of range or the cursor is none of ours.
        """
        return await self._runner.read(lambda tx: listing.list_users(tx, search, limit, cursor))

    async def audit(self, limit: int, cursor: str | None) -> AuditPage:
        """Return a page of what was done to identities, the last first.

        Raises:
            InvalidRequestError: The limit is out of range or the cursor is none of ours.
        """
        return await self._runner.read(lambda tx: audit.list_events(tx, limit, cursor))

    async def delete_user(
        self, reference: Reference, *, include_merged: bool, caller: Caller, dry_run: bool = False
    ) -> DeleteResult:
        """Delete a person with everything that is theirs; in a dry run, only say what would go.

        Raises:
            UserNotFoundError: Nobody.
            MergeConflictError: Others are merged into it and ``include_merged`` is false (not in a dry run).
        """
        hit = await self._resolver.existing(reference)
        if dry_run:
            return await self._runner.read(lambda tx: count_what_goes(tx, hit))
        return await self._runner.change(lambda tx: delete_user(tx, hit, include_merged=include_merged), caller)

    async def identifiers_of(self, reference: Reference) -> list[IdentifierRecord]:
        """Return a person's identifiers in linking order.

        Raises:
            UserNotFoundError: Nobody.
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        hit = await self._resolver.existing(reference)
        return await self._runner.read(lambda tx: people.identifiers_of(tx, member_now(tx, hit).root_pk))

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
        return await self._associator.associate(
            given,
            user_id,
            on_conflict=on_conflict,
            verified=verified,
            idempotency_key=idempotency_key,
            caller=caller,
        )

    async def unlink(self, identifier: object, *, force: bool, caller: Caller) -> UnlinkResult:
        """Unlink an identifier from whoever has it.

        Raises:
            IdentifierNotFoundError: Nobody has it.
            AmbiguousIdentifierError: Untyped, and several people have it.
            LastIdentifierError: It is the person's last one and ``force`` is false.
        """
        parsed = parse_identifier(identifier, self._rules)
        return await self._runner.change(lambda tx: unlink(tx, parsed, force=force), caller)
