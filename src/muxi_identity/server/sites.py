"""The formations of one server, and which of them an address means."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from muxi_identity.client.asynchronous import AsyncFormationClient
from muxi_identity.client.operations import Given
from muxi_identity.client.served import ServedFormation
from muxi_identity.config import FormationConfig
from muxi_identity.conversation.responder import Responder
from muxi_identity.errors import ConfigurationError, MuxiError
from muxi_identity.formation import Formation
from muxi_identity.identity.running import SYSTEM_CLOCK, Clock
from muxi_identity.models import ResolvedUser, TaskRun
from muxi_identity.server.idempotency import Once
from muxi_identity.server.keys import KeyRing, Role, ring_of
from muxi_identity.server.limits import RateLimiter
from muxi_identity.server.metrics import Metrics
from muxi_identity.server.tokens import Tokens
from muxi_identity.storage.sharing import SharedDatabases

MadeKeys = Mapping[str, Mapping[Role, str]]
"""Keys in clear, by formation."""
PREFIX = "/v1"
_NAMED = re.compile(r"/(?:api|draft)/([^/]+)(/v1(?:/.*)?)")
OF_THE_SERVER = frozenset({"/health", "/ready", "/metrics"})
"""What there is outside of every formation too."""


class Site:
    """One formation with all that a server keeps beside it: keys, limits, counters."""

    formation: Formation
    keys: KeyRing
    tokens: Tokens
    once: Once
    metrics: Metrics

    def __init__(
        self,
        config: FormationConfig,
        databases: SharedDatabases,
        *,
        responder: Responder | None = None,
        clock: Clock = SYSTEM_CLOCK,
        numbers: Path | None = None,
    ) -> None:
        self.config = config
        self._numbers = numbers
        self._served = ServedFormation(config, databases, responder=responder, clock=clock)
        self.cached: Callable[[Given], ResolvedUser | None] = self._served.cached
        self.limiter = RateLimiter(config.server.rate_limits)
        self._clients = {role.value: self._served.acting_as(role.value) for role in Role}
        self._workers: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Open the formation, but for its keys.

        Raises:
            ConfigurationError: It cannot be opened as configured.
            StorageUnavailableError: The database cannot be reached.
        """
        self.formation = await self._served.open()
        self.tokens = Tokens(self.formation)
        self.once = Once(self.formation)
        self.metrics = Metrics(self.formation, self._numbers)
        self._workers.append(asyncio.create_task(self.metrics.write()))

    async def take_keys(self, *, make: bool) -> dict[Role, str]:
        """Learn its keys. Return in clear those that were made for it now: nobody can show them again.

        Raises:
            ConfigurationError: It has none, and may ``make`` none.
            StorageUnavailableError: The database cannot be reached.
        """
        self.keys, made = await ring_of(self.formation, self.config.server, make=make)
        return made

    def start_workers(self) -> None:
        """Run scheduled tasks as they come due and deliver events as they come, until the formation is closed."""
        self._workers.append(asyncio.create_task(self.client("task").run_tasks(on_run=self._tell)))
        if self.config.webhooks:
            self._workers.append(asyncio.create_task(self.client("server").run_events()))

    async def _tell(self, _run: TaskRun) -> None:
        self.formation.feed.wake()

    async def close(self) -> None:
        """Let what was begun end, and close the formation."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._workers:
            self.metrics.close()
        await self._served.close()

    def client(self, actor: str) -> AsyncFormationClient:
        """Return a client whose changes the history puts down to ``actor``."""
        client = self._clients.get(actor)
        return self._served.acting_as(actor) if client is None else client

    def pseudonym(self, name: str) -> str:
        """Return what stands for somebody's identifier in a log: the same for the same, and no way back."""
        return self.formation.derive_key(f"pseudonym {name}")[:6].hex()


class Sites:
    """The formations of one server, over one open database for all that share it."""

    def __init__(
        self,
        configs: Sequence[FormationConfig],
        *,
        responder: Responder | None = None,
        clock: Clock = SYSTEM_CLOCK,
        numbers: Path | None = None,
    ) -> None:
        if not configs:
            raise ConfigurationError("A server needs a formation to serve.")
        self._databases = SharedDatabases()
        self._by_id: dict[str, Site] = {}
        for config in configs:
            if config.id in self._by_id:
                raise ConfigurationError(
                    f"Two formations of this server have the id {config.id!r}; give one of them another id."
                )
            self._by_id[config.id] = Site(config, self._databases, responder=responder, clock=clock, numbers=numbers)
        self.first = next(iter(self._by_id.values()))

    def __iter__(self) -> Iterator[Site]:
        return iter(self._by_id.values())

    async def open(self, on_keys: Callable[[MadeKeys], None] | None) -> None:
        """Open all of them, or none. ``on_keys`` is told which keys were made; where nobody is told, none are.

        Raises:
            ConfigurationError: One cannot be opened as configured, or has no key; its id stands before the message.
            StorageUnavailableError: A database cannot be reached; as above.
        """
        made = {}
        try:
            for site in self:
                with _named(site):
                    await site.open()
            for site in self:  # when nothing else can fail: what is made is kept, and can be shown this once
                with _named(site):
                    if keys := await site.take_keys(make=on_keys is not None):
                        made[site.config.id] = keys
        except BaseException:
            await self.close()
            raise
        finally:
            if made and on_keys is not None:
                on_keys(made)

    async def close(self) -> None:
        """Close the formations and then their databases."""
        for site in self._by_id.values():
            await site.close()
        await self._databases.close()

    def locate(self, path: str) -> tuple[Site | None, str]:
        """Return the formation that ``path`` means and the path within it, from ``/v1`` on.

        ``/v1/...`` means the first formation, ``/api/{formation_id}/v1/...`` and ``/draft/...`` the one they name;
        None where there is none of that name. What lies outside of every formation is left to the first one's.
        """
        if path.startswith("/v1/"):
            return self.first, path
        named = _NAMED.fullmatch(path)
        if named is not None:
            return self._by_id.get(named[1]), named[2]
        if path in OF_THE_SERVER:
            return self.first, PREFIX + path
        return self.first, path


@contextlib.contextmanager
def _named(site: Site) -> Iterator[None]:
    """Say of an error which formation it is about: the others may be well."""
    try:
        yield
    except MuxiError as error:
        raise type(error)(f"{site.config.id}: {error.message}", **error.details) from error
