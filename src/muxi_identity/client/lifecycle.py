"""Opening and closing the formation behind a client: lazily, once, on one event loop, and anew after a fork."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import Any

from muxi_identity.config import DatabaseConfig, FormationConfig, Secret
from muxi_identity.context.memories.ranker import MemoryRanker
from muxi_identity.conversation.responder import Responder
from muxi_identity.errors import ClientClosedError, ConfigurationError, InvalidRequestError
from muxi_identity.events.callbacks import OnEvent
from muxi_identity.formation import Formation
from muxi_identity.identity.cache import forget_shared_caches
from muxi_identity.identity.people import new_public_id
from muxi_identity.identity.running import SYSTEM_CLOCK, Clock
from muxi_identity.storage.opening import make_database
from muxi_identity.storage.sharing import SharedDatabases

ConfigSource = FormationConfig | Mapping[str, Any] | str | os.PathLike[str] | EllipsisType | None

# What the parent of a fork opened. The child neither uses nor closes it; kept so that nothing is collected there.
_abandoned: list[object] = []


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


class Lifecycle:
    """Holds a client's formation: opened by the first call, on that call's event loop."""

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
        self.config = config
        self._on_event = on_event
        self.open_formation: Formation | None = None
        self._responder = responder
        self._memory_ranker = memory_ranker
        self._clock = clock
        self._folder = folder
        self._databases = databases
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        _alive.add(self)

    async def formation(self) -> Formation:
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

    async def _open(self) -> Formation:
        self._refuse_closed()
        self._come_to_this_loop()
        async with self._opening:
            self._refuse_closed()
            if self.open_formation is None:
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
                self.open_formation = formation
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
            self.abandon()  # asyncio.run() ended and took the connections with it: open anew
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
                await formation.close()
        if self._folder is not None:
            self._folder.remove()

    def abandon(self) -> None:
        """Forget the open formation without touching its connections."""
        if self.open_formation is not None:
            _abandoned.append(self.open_formation)
            self.open_formation.database.abandon()
        self.open_formation = None
        self._loop = None
        self._opening = asyncio.Lock()


_alive: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


def _after_fork() -> None:
    forget_shared_caches()
    for lifecycle in list(_alive):
        if lifecycle._folder is not None:
            lifecycle._folder.leave()
        lifecycle.abandon()


os.register_at_fork(after_in_child=_after_fork)
