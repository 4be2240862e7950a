"""Opening and closing what is behind a client: lazily, once, on one event loop, and anew after a fork."""

from __future__ import annotations

import abc
import asyncio
import os
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import Any, Generic, TypeVar

from muxi_identity.client.operations import Given, given_by_channel
from muxi_identity.client.remote import Place, RemoteFormation
from muxi_identity.client.remote.naming import InChannel
from muxi_identity.config import DatabaseConfig, FormationConfig, Secret
from muxi_identity.context.memories.ranker import MemoryRanker
from muxi_identity.conversation.responder import Responder
from muxi_identity.errors import ClientClosedError, ConfigurationError, EmbeddedOnlyError, InvalidRequestError
from muxi_identity.events.callbacks import OnEvent
from muxi_identity.formation import Formation
from muxi_identity.identity.cache import forget_shared_caches
from muxi_identity.identity.people import new_public_id
from muxi_identity.identity.running import SYSTEM_CLOCK, Clock
from muxi_identity.storage.opening import has_formation, make_database
from muxi_identity.storage.sharing import SharedDatabases

ConfigSource = FormationConfig | Mapping[str, Any] | str | os.PathLike[str] | EllipsisType | None

EMBEDDED = "embedded"
"""Whom the history names where nobody else is said to act."""

# What the parent of a fork opened. The child neither uses nor closes it; kept so that nothing is collected there.
_abandoned: list[object] = []
_alive: weakref.WeakSet[OnOneLoop[Any]] = weakref.WeakSet()
F = TypeVar("F")


def read_config(source: ConfigSource) -> FormationConfig:
    """Return the configuration that a client was given; None (or ``...``) is the default formation.

    Raises:
        ConfigurationError: Naming the file, the key and the mend.
    """
    if source is None or source is ...:
        return FormationConfig.default()
    if isinstance(source, FormationConfig):
        return source
    if isinstance(source, str | os.PathLike):
        return FormationConfig.load(source)
    if isinstance(source, Mapping):
        return FormationConfig.from_mapping(source)
    raise ConfigurationError(
        f"FormationClient takes a YAML file's path, a mapping or a FormationConfig, not {type(source).__name__}."
    )


def check_embedded(formation_id: object, *keys: object) -> None:
    """Check that a client without an address was not meant to have one.

    Raises:
        ConfigurationError: It was given what only a served formation has.
    """
    if formation_id is not None or any(key is not None for key in keys):
        raise ConfigurationError(
            "formation_id, client_key, admin_key and user_token are for a served formation: pass url or server_url as "
            "well. An embedded formation's id stands in its configuration."
        )


def check_remote(config: ConfigSource, responder: object, memory_ranker: object, on_event: object) -> None:
    """Check that a client with an address was given nothing that is for an embedded formation.

    Raises:
        ConfigurationError: It was.
    """
    given = {"config": config, "responder": responder, "memory_ranker": memory_ranker, "on_event": on_event}
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise ConfigurationError(
            f"{' and '.join(named)} cannot be passed with url or server_url: a served formation is configured where it "
            "is served."
        )


class ThrowAwayFolder:
    """A folder that goes when it is told to, when nobody holds it any more, or at exit; without a word."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="muxi-"))
        self._removal = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def remove(self) -> None:
        """Remove it now. Doing it twice is harmless."""
        self._removal()

    def leave(self) -> None:
        """Leave it to the process that made it."""
        self._removal.detach()


def ephemeral_config(config: FormationConfig | None = None) -> tuple[FormationConfig, ThrowAwayFolder]:
    """Return a configuration whose data lives in a folder that goes with the client."""
    folder = ThrowAwayFolder()
    database = DatabaseConfig(provider="sqlite", path=folder.path / "muxi.db")
    if config is None:
        config = FormationConfig(database=database)
    key = config.secret_key or Secret(new_public_id() + new_public_id())
    return replace(config, database=database, secret_key=key), folder


class OnOneLoop(abc.ABC, Generic[F]):
    """Something that is opened by its first use, on the event loop of that use, and anew after a fork."""

    def __init__(self) -> None:
        self.open_formation: F | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        _alive.add(self)

    @abc.abstractmethod
    async def _make(self) -> F:
        """Return it, open."""

    @abc.abstractmethod
    async def _close(self, formation: F) -> None:
        """Close it."""

    def _forget(self, formation: F, *, forked: bool) -> None:
        """Let go of what belongs to another process (``forked``), or to an event loop that has ended."""
        if forked:
            _abandoned.append(formation)

    def _closed_for_good(self) -> None:
        """Do what is to be done when nothing will be opened any more."""

    def _left_by_fork(self) -> None:
        """Leave to the parent what is the parent's."""

    async def formation(self) -> F:
        """Return the open formation.

        Raises:
            ClientClosedError: The client was closed.
            InvalidRequestError: It is in use on another event loop.
            ConfigurationError: The formation cannot be opened as configured.
            StorageUnavailableError: The database cannot be reached.
        """
        formation = self.open_formation
        if formation is not None and self._loop is asyncio.get_running_loop():
            return formation
        return await self._open()

    async def _open(self) -> F:
        self._refuse_closed()
        self._come_to_this_loop()
        async with self._opening:
            self._refuse_closed()
            if self.open_formation is None:
                self.open_formation = await self._make()
            formation = self.open_formation
        self._refuse_closed()
        return formation

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClientClosedError("This client was closed; make another one.")

    def _come_to_this_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                raise InvalidRequestError(
                    "This client is in use on another event loop; make one client for each loop, or use the "
                    "synchronous FormationClient."
                )
            self.abandon()  # asyncio.run() has ended, and nothing works on its connections any more: open anew
        self._loop = loop

    async def close(self) -> None:
        """Close the formation; closing twice is harmless.

        Raises:
            InvalidRequestError: It is in use on another event loop.
        """
        self._come_to_this_loop()
        self._closed = True
        async with self._opening:  # a call that is just opening it ends first
            formation, self.open_formation = self.open_formation, None
            if formation is not None:
                await self._close(formation)
        self._closed_for_good()

    def abandon(self, *, forked: bool = False) -> None:
        """Let go of the open formation without its event loop."""
        if self.open_formation is not None:
            self._forget(self.open_formation, forked=forked)
        self.open_formation = None
        self._loop = None
        self._opening = asyncio.Lock()


class Lifecycle(OnOneLoop[Formation]):
    """Holds an embedded client's formation."""

    def __init__(
        self,
        config: FormationConfig,
        *,
        responder: Responder | None,
        memory_ranker: MemoryRanker | None = None,
        clock: Clock = SYSTEM_CLOCK,
        folder: ThrowAwayFolder | None = None,
        databases: SharedDatabases | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        if on_event is not None and not callable(on_event):
            raise InvalidRequestError("on_event must be a function that takes one event.")
        super().__init__()
        self.config = config
        self._on_event = on_event
        self._responder = responder
        self._memory_ranker = memory_ranker
        self._clock = clock
        self._folder = folder
        self._databases = databases

    @property
    def formation_id(self) -> str:
        """The formation's id."""
        return self.config.id

    @property
    def cache_info(self) -> Mapping[str, int]:
        """Counters of the resolution cache; none before the formation is open."""
        return {} if self.open_formation is None else self.open_formation.cache.info()

    def cached(self, identifier: object) -> str | None:
        """Return the public id that the cache has for an identifier. Never blocks; any thread may call it."""
        formation = self.open_formation
        return None if formation is None else formation.cache.public_id(identifier)

    def in_channel(self, value: Given, type: str, scope: str | None) -> object:
        """Return ``value`` as it is to be read in a channel."""
        return given_by_channel(value, type, scope, secret=self.config.identity.rules.rule(type).secret)

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[Formation]:
        """Give the formation to a call that must change nothing; one that was never made is not made for it.

        In its place stands an empty one of the same rules, which is thrown away.

        Raises:
            ConfigurationError: The schema is older than this code.
        """
        self._refuse_closed()
        if self.open_formation is not None or await has_formation(self.config.database, self.config.id):
            yield await self.formation()
            return
        config, folder = ephemeral_config(self.config)
        empty = Lifecycle(config, responder=self._responder, clock=self._clock, folder=folder)
        try:
            yield await empty.formation()
        finally:
            await empty.close()

    async def _make(self) -> Formation:
        durable, shared = self._folder is None, self._databases
        formation = Formation(
            self.config,
            database=await shared.borrow(self.config.database, durable=durable)
            if shared
            else make_database(self.config.database, durable=durable),
            responder=self._responder,
            memory_ranker=self._memory_ranker,
            clock=self._clock,
            owns_database=shared is None,
            on_event=self._on_event,
        )
        await formation.open()
        return formation

    async def _close(self, formation: Formation) -> None:
        await formation.close()

    def _forget(self, formation: Formation, *, forked: bool) -> None:
        super()._forget(formation, forked=forked)
        formation.abandon(forked=forked)

    def _closed_for_good(self) -> None:
        if self._folder is not None:
            self._folder.remove()

    def _left_by_fork(self) -> None:
        if self._folder is not None:
            self._folder.leave()


class RemoteLifecycle(OnOneLoop[RemoteFormation]):
    """Holds a remote client's connections."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place

    @property
    def formation_id(self) -> str:
        """The formation's id, as far as it is known here.

        Raises:
            EmbeddedOnlyError: The address alone was given.
        """
        if self.place.formation_id is None:
            raise EmbeddedOnlyError(
                "The formation's id is the server's to know; pass formation_id as well to have it here."
            )
        return self.place.formation_id

    @property
    def cache_info(self) -> Mapping[str, int]:
        """Nothing: the cache is the server's.

        Raises:
            EmbeddedOnlyError: Always.
        """
        raise EmbeddedOnlyError("The cache is the server's; its counters are in /v1/status and /v1/metrics.")

    def cached(self, identifier: object) -> str | None:
        """Return None: the cache is the server's, which knows when an entry is no longer right."""
        return None

    def in_channel(self, value: Given, type: str, scope: str | None) -> object:
        """Return ``value`` as it is to be read in a channel: which types are secret the server knows."""
        if isinstance(value, str | int) and not isinstance(value, bool):
            return InChannel(value, type, scope)
        return value

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[RemoteFormation]:
        """Give the formation, which the server has open."""
        yield await self.formation()

    async def _make(self) -> RemoteFormation:
        return RemoteFormation(self.place)

    async def _close(self, formation: RemoteFormation) -> None:
        await formation.close()

    def _forget(self, formation: RemoteFormation, *, forked: bool) -> None:
        super()._forget(formation, forked=forked)
        if not forked:
            formation.let_go()  # its sockets close when they are collected


def _after_fork() -> None:
    forget_shared_caches()
    for lifecycle in list(_alive):
        lifecycle._left_by_fork()
        lifecycle.abandon(forked=True)


os.register_at_fork(after_in_child=_after_fork)
