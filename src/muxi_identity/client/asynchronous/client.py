"""The client: opening and closing, and the calls that name several people or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from muxi_identity.client.asynchronous.channel import AsyncChannel
from muxi_identity.client.asynchronous.events import AsyncEventCalls
from muxi_identity.client.asynchronous.export import AsyncExportCalls
from muxi_identity.client.asynchronous.importing import AsyncImportCalls
from muxi_identity.client.asynchronous.operators import AsyncOperatorCalls
from muxi_identity.client.asynchronous.person import AsyncPersonCalls
from muxi_identity.client.engine import Engine
from muxi_identity.client.lifecycle import (
    EMBEDDED,
    ConfigSource,
    Lifecycle,
    RemoteLifecycle,
    check_embedded,
    check_remote,
    ephemeral_config,
    read_config,
)
from muxi_identity.client.operations import Given, checked_flag, checked_mode
from muxi_identity.client.remote import DEFAULT_RETRIES, DEFAULT_TIMEOUT, read_place
from muxi_identity.config import FormationConfig
from muxi_identity.context.memories.ranker import MemoryRanker
from muxi_identity.conversation.responder import Responder
from muxi_identity.conversation.shift import OnRun
from muxi_identity.events.callbacks import OnEvent
from muxi_identity.identity.deciding import OnConflict
from muxi_identity.identity.listing import UserSearch
from muxi_identity.models import (
    CredentialRotation,
    CredentialService,
    DeleteResult,
    LinkResult,
    ResolvedUser,
    TaskRun,
    UserPage,
    UserRecord,
)
from muxi_identity.secret import Secret


class AsyncFormationClient(AsyncPersonCalls, AsyncOperatorCalls, AsyncExportCalls, AsyncImportCalls, AsyncEventCalls):
    """One formation, embedded in this process or behind a server.

    Embedded: ``config`` is the path of a ``formation.yaml``, a mapping of the same shape, a :class:`FormationConfig`,
    or nothing for the default formation on SQLite. ``responder`` answers chats; ``memory_ranker`` ranks what
    ``search_memories`` finds by meaning, with embeddings of your own. ``on_event`` is told of each identity event and
    each finished run of a task that this client commits, in their order for each user (a coroutine function is
    awaited, a plain one called in a thread; what it raises is logged). The formation is opened by the first call.

    Remote: ``url`` is the formation's own address (``https://muxi.example.com``), or ``server_url`` that of a server
    of several, where ``formation_id`` says which. ``client_key`` opens what belongs to the one user that a call
    names, ``admin_key`` everything; a ``user_token`` acts as one identifier. Each attempt at a call may take
    ``timeout`` seconds, and there are ``retries`` more where the server cannot be reached, is busy or breaks off: a
    call is done once however often it is sent. Results and errors are the same as embedded; besides, any call may
    raise ServerUnavailableError, UnauthorizedError, ForbiddenError and RateLimitedError.

    ``actor`` is who the history will name as having done what is done through this client: ``"embedded"``, or what
    the server knows the caller as, if it is None.

    Everywhere an identifier is taken it may be ``"value"``, ``("value", "type")`` or ``{"identifier": "value",
    "type": ..., "scope": ...}``; where a user is named, a public id ``"usr_..."`` as well.

    Any call raises ConfigurationError where the formation cannot be opened as configured, StorageUnavailableError
    (retryable) where the database does not answer, InvalidIdentifierError for a value that can be nobody's
    identifier, and ClientClosedError after :meth:`close`.
    """

    def __init__(
        self,
        config: ConfigSource = None,
        *,
        actor: str | None = None,
        responder: Responder | None = None,
        memory_ranker: MemoryRanker | None = None,
        on_event: OnEvent | None = None,
        url: str | None = None,
        server_url: str | None = None,
        formation_id: str | None = None,
        client_key: str | Secret | None = None,
        admin_key: str | Secret | None = None,
        user_token: str | Secret | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
    ) -> None:
        super().__init__(EMBEDDED if actor is None else actor)
        self._lifecycle: Lifecycle | RemoteLifecycle
        if url is None and server_url is None:
            check_embedded(formation_id, client_key, admin_key, user_token)
            self._lifecycle = Lifecycle(
                read_config(config), responder=responder, memory_ranker=memory_ranker, on_event=on_event
            )
            return
        check_remote(config, responder, memory_ranker, on_event)
        place = read_place(
            url=url,
            server_url=server_url,
            formation_id=formation_id,
            client_key=client_key,
            admin_key=admin_key,
            user_token=user_token,
            timeout=timeout,
            retries=retries,
            actor=actor,
        )
        self._lifecycle = RemoteLifecycle(place)

    @classmethod
    def ephemeral(
        cls,
        config: FormationConfig | None = None,
        *,
        actor: str = EMBEDDED,
        responder: Responder | None = None,
        memory_ranker: MemoryRanker | None = None,
        on_event: OnEvent | None = None,
    ) -> Self:
        """Return a client of a formation that is thrown away when the client is closed or collected.

        It is a real one, on SQLite in a temporary folder; ``config`` may set everything but the database.

        >>> async with AsyncFormationClient.ephemeral() as throw_away:
        ...     (await throw_away.list_users())["count"]
        0
        """
        client = cls.__new__(cls)
        client._actor = actor
        config, folder = ephemeral_config(config)
        client._lifecycle = Lifecycle(
            config, responder=responder, memory_ranker=memory_ranker, folder=folder, on_event=on_event
        )
        return client

    async def __aenter__(self) -> Self:
        await self._lifecycle.formation()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the formation's connections; closing twice is harmless.

        >>> await formation.close()
        """
        await self._lifecycle.close()

    @property
    def formation_id(self) -> str:
        """The formation's id; of a remote one, the ``formation_id`` that the client was given.

        Raises:
            EmbeddedOnlyError: The client was given an address alone.

        >>> formation.formation_id
        'default'
        """
        return self._lifecycle.formation_id

    @property
    def cache_info(self) -> Mapping[str, int]:
        """Counters of the resolution cache: ``hits``, ``misses``, and ``identifiers`` and ``members`` held.

        Raises:
            EmbeddedOnlyError: The formation is behind a server, and the cache with it.

        >>> made = await formation.resolve_user("alice@email.com", create_user=True)
        >>> formation.cache_info["identifiers"]
        1
        """
        return self._lifecycle.cache_info

    def channel(self, type: str, *, scope: str | None = None) -> AsyncChannel:
        """Return a view of the formation that types every bare ``user_id``.

        ``scope`` tells apart equal ids of several issuers: the Slack workspace, the OAuth issuer.

        >>> slack = formation.channel("slack", scope="T012AB3CD")
        >>> reply = await slack.chat("Hello!", user_id="U98765ABC")
        >>> known = await formation.get_user_identifiers(reply.user_id, detailed=True)
        >>> known[0]["type"], known[0]["scope"]
        ('slack', 'T012AB3CD')
        """
        return AsyncChannel(self, type, scope)

    def _given(self, value: Given) -> object:
        return value

    async def _formation(self) -> Engine[Any]:
        return await self._lifecycle.formation()

    def _looking(self) -> AbstractAsyncContextManager[Engine[Any]]:
        return self._lifecycle.looking()

    def _cached(self, identifier: object) -> ResolvedUser | None:
        """Answer from the cache alone, or None. Never blocks; any thread may call it."""
        if type(identifier) is str:
            shown = identifier
        elif (
            type(identifier) is tuple
            and len(identifier) == 2
            and type(identifier[0]) is str
            and type(identifier[1]) is str
        ):
            shown = identifier[0]
        else:
            return None  # 1 and True are one key to a cache, and a dict is none: these are parsed
        user_id = self._lifecycle.cached(identifier)
        if user_id is None:
            return None
        return {"identifier": shown, "muxi_user_id": user_id, "created": False}

    async def create_user(
        self, user_id: str | None = None, *, source: str | None = None, reason: str | None = None
    ) -> UserRecord:
        """Make a user without identifiers, whom no automatic rule will merge away.

        ``user_id`` chooses the public id (``usr_`` and up to 64 letters, digits, ``_`` or ``-``).

        Raises:
            UserExistsError: The id is taken.

        >>> (await formation.create_user("usr_alice"))["muxi_user_id"]
        'usr_alice'
        """
        formation = await self._formation()
        return await formation.create_user(user_id, self._caller(source, reason))

    async def list_users(
        self,
        *,
        identifier: str | None = None,
        type: str | None = None,
        created_from: datetime | str | None = None,
        created_before: datetime | str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> UserPage:
        """Return a page of people, oldest first, ``limit`` (1 to 500) at a time.

        ``identifier`` is how an identifier of theirs begins and ``type`` of which type it is; secrets are not searched.
        Times are datetimes or ISO 8601, UTC where they name no zone. Pass ``next_cursor`` of one page as ``cursor`` for
        the next: people who come meanwhile neither shift nor repeat it.

        Raises:
            InvalidRequestError: The limit is out of range, the cursor is none of ours, a time is none, or the
                beginning is blank.
            InvalidIdentifierError: The type cannot be one.
            TooLargeError: The beginning is longer than any identifier.

        >>> made = await formation.create_user("usr_alice")
        >>> [user["muxi_user_id"] for user in (await formation.list_users())["users"]]
        ['usr_alice']
        >>> (await formation.list_users(identifier="alice@", type="email"))["count"]
        0
        """
        formation = await self._formation()
        search = UserSearch.read(identifier, type, created_from, created_before)
        return await formation.list_users(search, limit, cursor)

    async def delete_user(
        self,
        user_id: Given,
        *,
        include_merged: bool = False,
        dry_run: bool = False,
        source: str | None = None,
        reason: str | None = None,
    ) -> DeleteResult:
        """Delete a person: the user, its identifiers and everything that was recorded for them.

        Where other users were merged into it, all of them go, and ``include_merged=True`` must say so. The keys
        (secret identifiers) of a deleted person stay revoked. In one transaction, however much there is; the history
        keeps a receipt of ids and counts. ``dry_run`` deletes nothing and counts what would go.

        Raises:
            UserNotFoundError: Nobody has it.
            MergeConflictError: Others were merged into it and ``include_merged`` is false (not in a dry run).

        >>> told = await formation.chat("My budget is $5,000", user_id="user_123")
        >>> (await formation.delete_user("user_123", dry_run=True))["counts"]["messages"]
        2
        >>> (await formation.delete_user("user_123"))["muxi_user_id"] == told.user_id
        True
        """
        formation = await self._formation()
        return await formation.delete_user(
            formation.parse(user_id),
            include_merged=checked_flag("include_merged", include_merged),
            dry_run=checked_flag("dry_run", dry_run),
            caller=self._caller(source, reason),
        )

    async def associate_user_identifiers(
        self,
        identifiers: Sequence[Given],
        user_id: Given | None = None,
        *,
        on_conflict: OnConflict = "raise",
        verified: bool = False,
        source: str | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> LinkResult:
        """Link identifiers to one person, all or none, in one transaction.

        With ``user_id``, to that user. Without, to whoever has one of them already, or else to a new user.
        Linking again changes nothing, except that it may add a type, proof or an expiry.

        ``on_conflict`` says what to do where identifiers belong to different users: ``"raise"``; ``"absorb"``
        merges users that only first contact has made (somebody wrote in before anybody linked them) and raises for
        others; ``"merge"`` merges any. ``verified`` says that the caller has proof that the identifiers are this
        person's; ``source`` and ``reason`` go to the history. A call repeated with its ``idempotency_key`` within a
        day is answered from what it did the first time.

        Raises:
            IdentifierConflictError: Some belong to other users and ``on_conflict`` does not settle it;
                ``error.conflicts`` names all of them with their owners.
            IdentifierLimitError: The person would have more than the formation allows.
            UserNotFoundError: ``user_id`` names nobody.
            AmbiguousIdentifierError: One has no type and several people are known by it.
            InvalidRequestError: An argument has the wrong shape, or the idempotency key was used for another call.
            IdentityChangedError: Others kept changing the same people; call again.

        >>> linked = await formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> linked["created"], linked["new_identifiers"]
        (True, ['alice@email.com', 'U98765ABC'])
        """
        formation = await self._formation()
        return await formation.associate(
            identifiers,
            user_id,
            on_conflict=checked_mode(on_conflict),
            verified=checked_flag("verified", verified),
            idempotency_key=idempotency_key,
            caller=self._caller(source, reason),
        )

    async def list_credential_services(self) -> list[CredentialService]:
        """Return the services that people of this formation have credentials for, those with the most first.

        At most 500. ``count`` is how many credentials there are, of all people together.

        >>> kept = await formation.set_credential("user_123", "notion", "secret-of-four-words")
        >>> await formation.list_credential_services()
        [{'service': 'notion', 'count': 1}]
        """
        formation = await self._formation()
        return await formation.credentials.services()

    async def rotate_credentials(self) -> CredentialRotation:
        """Encrypt everybody's credentials with the newest of the configured keys.

        Put the new key first in MUXI_CREDENTIAL_KEYS, before the old ones, in every process; call this; then take
        the old ones away. (With several processes give them the new key last first, so that each can read what
        another one has encrypted already.) It works in batches while others write; interrupted, it goes on where it
        is called again. What no key opens is left as it is and counted.

        >>> kept = await formation.set_credential("user_123", "notion", "secret-of-four-words")
        >>> done = await formation.rotate_credentials()
        >>> done["rotated"], done["kept"], done["unreadable"]
        (0, 1, 0)
        """
        formation = await self._formation()
        return await formation.credentials.rotate(self._caller("rotate_credentials"))

    async def run_due_tasks(self, *, limit: int = 100) -> list[TaskRun]:
        """Run the tasks that are due now, at most ``limit`` (1 to 10,000), and return the runs.

        For whoever has a cron of their own. Several processes may do it at once, beside :meth:`run_tasks` too: a task
        is run by whoever claims it first. Runs that failed for now are tried again by a later call.

        Raises:
            InvalidRequestError: The limit is out of range.

        >>> await formation.run_due_tasks()
        []
        """
        formation = await self._formation()
        return await formation.worker.run_due(limit, self._caller("task"))

    async def run_tasks(
        self,
        *,
        on_run: OnRun | None = None,
        concurrency: int = 4,
        poll_seconds: float = 1.0,
        lease_seconds: float = 60.0,
    ) -> None:
        """Run tasks as they come due, ``concurrency`` (1 to 100) at once, until this client is closed.

        Any number of processes may do it: each task is claimed by one of them, looked for every ``poll_seconds``. What
        a process that died had claimed is run again when its claim has ended, ``lease_seconds`` after the process last
        extended it. So every run happens at least once, and one may happen twice.

        Each run is a chat turn of the person, in a session of the task's own. When it is recorded, ``on_run`` is called
        with it, a coroutine function on the event loop, another one in a thread, one call at a time. What it raises is
        logged; SystemExit ends this call. A process that dies between the two never calls it: the history
        (:meth:`list_task_runs`) has every run.

        A database that does not answer is waited for. Being cancelled or interrupted ends it as well; what was under
        way is then due at once for others.

        Raises:
            InvalidRequestError: An argument is out of range.

        >>> from datetime import UTC, datetime, timedelta
        >>> soon = datetime.now(UTC) + timedelta(seconds=0.2)
        >>> task = await formation.schedule_task("user_123", "Hello!", at=soon)
        >>> def told(run):
        ...     print(run["status"], run["reply"])
        ...     return formation.close()
        >>> await formation.run_tasks(on_run=told, poll_seconds=0.1)
        succeeded Hello! How can I help?
        """
        formation = await self._formation()
        await formation.worker.run(on_run, concurrency, poll_seconds, lease_seconds, self._caller("task"))
