"""What the generated synchronous calls stand on: one asynchronous client and the portal that drives it."""

from __future__ import annotations

import abc
import atexit
import os
import threading
import weakref
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from muxi_identity.client.asynchronous import AsyncChannel, AsyncFormationClient
from muxi_identity.client.lifecycle import EMBEDDED, ConfigSource
from muxi_identity.client.portal import Portal
from muxi_identity.client.remote import DEFAULT_RETRIES, DEFAULT_TIMEOUT
from muxi_identity.config import FormationConfig
from muxi_identity.context.memories.ranker import MemoryRanker
from muxi_identity.conversation.responder import Responder
from muxi_identity.events.callbacks import OnEvent
from muxi_identity.secret import Secret

T = TypeVar("T")


class BlockingCalls(abc.ABC):
    """What a generated call needs: whose call to make, and where to run it."""

    _async: Any

    @abc.abstractmethod
    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the client's event loop and return its result."""


class BlockingChannel(BlockingCalls):
    """Construction of a channel; the calls themselves are generated."""

    def __init__(self, client: BlockingClient, type: str, scope: str | None = None) -> None:
        self._client = client
        self._async = AsyncChannel(client._async, type, scope)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._client._run(work)


class BlockingClient(BlockingCalls):
    """Construction, closing and the way to the event loop; the calls themselves are generated."""

    _async: AsyncFormationClient

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
        self._start(
            AsyncFormationClient(
                config,
                actor=actor,
                responder=responder,
                memory_ranker=memory_ranker,
                on_event=on_event,
                url=url,
                server_url=server_url,
                formation_id=formation_id,
                client_key=client_key,
                admin_key=admin_key,
                user_token=user_token,
                timeout=timeout,
                retries=retries,
            )
        )

    def _start(self, client: AsyncFormationClient) -> None:
        self._async = client
        self._portal: Portal | None = None
        self._starting = threading.Lock()
        _alive.add(self)

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

        >>> with FormationClient.ephemeral() as throw_away:
        ...     throw_away.list_users()["count"]
        0
        """
        client = cls.__new__(cls)
        client._start(
            AsyncFormationClient.ephemeral(
                config, actor=actor, responder=responder, memory_ranker=memory_ranker, on_event=on_event
            )
        )
        return client

    def __enter__(self) -> Self:
        self._run(self._async._lifecycle.formation())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the formation's connections; closing twice is harmless.

        >>> formation.close()
        """
        self._run(self._async.close())
        with self._starting:
            portal, self._portal = self._portal, None
        if portal is not None:
            portal.stop()

    @property
    def formation_id(self) -> str:
        """The formation's id; of a remote one, the ``formation_id`` that the client was given.

        Raises:
            EmbeddedOnlyError: The client was given an address alone.

        >>> formation.formation_id
        'default'
        """
        return self._async.formation_id

    @property
    def cache_info(self) -> Mapping[str, int]:
        """Counters of the resolution cache: ``hits``, ``misses``, and ``identifiers`` and ``members`` held.

        Raises:
            EmbeddedOnlyError: The formation is behind a server, and the cache with it.

        >>> made = formation.resolve_user("alice@email.com", create_user=True)
        >>> formation.cache_info["identifiers"]
        1
        """
        return self._async.cache_info

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        portal = self._portal
        if portal is None:
            with self._starting:
                portal = self._portal = self._portal or Portal()
        return portal.run(work)

    def _forked(self) -> None:
        # The parent's thread and locks are not the child's: begin anew with the next call.
        self._portal = None
        self._starting = threading.Lock()


_alive: weakref.WeakSet[BlockingClient] = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_alive):
        client._forked()


def _at_exit() -> None:
    for client in list(_alive):
        if client._portal is not None:
            client.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
