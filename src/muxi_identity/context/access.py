"""How an operation finds its person: by the database itself, again where that changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from muxi_identity.context.guard import check_theirs, hold_theirs
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.resolving import Resolver
from muxi_identity.identity.running import ATTEMPTS, Caller, Runner, identity_changed
from muxi_identity.identity.transaction import Transaction
from muxi_identity.storage.errors import GuardRefused

T = TypeVar("T")


class Access:
    """Runs work on what belongs to one person of a formation.

    The work gets the transaction and the caller's :class:`Hit`: its member to write under and its identifier to
    record. What is read starts from that member, never from a root that a cache named.
    """

    def __init__(self, runner: Runner, resolver: Resolver) -> None:
        self.runner = runner
        self.resolver = resolver

    async def read(self, reference: Reference, work: Callable[[Transaction, Hit], T]) -> T:
        """Run ``work``, which only reads, in one snapshot in which ``reference`` means the person.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: Untyped, and several people have it.
            IdentityChangedError: It went from one to another again and again.
        """
        for _ in range(ATTEMPTS):
            hit = await self.resolver.existing(reference)
            try:
                return await self.runner.read(lambda tx, hit=hit: _checked(tx, hit, work))  # type: ignore[misc]
            except GuardRefused:
                continue
        raise identity_changed()

    async def write(
        self,
        reference: Reference,
        work: Callable[[Transaction, Hit], T],
        caller: Caller,
        *,
        create: bool = True,
        alone: bool = False,
    ) -> T:
        """Run ``work`` in one writing transaction under the guard. ``create`` makes first contact.

        ``alone``: see :func:`muxi_identity.context.guard.hold_theirs`.

        Nothing is computed before the transaction, so that one that the guard refuses begins again, with whoever the
        reference means by then.

        Raises:
            UserNotFoundError: Nobody has it, and it is a public id or a secret, or not to be created.
            AmbiguousIdentifierError: Untyped, and several people have it.
            IdentityChangedError: It went from one to another again and again.
        """
        fresh = False
        for _ in range(ATTEMPTS):
            answer, _created = await self.resolver.resolve(reference, create=create, caller=caller, fresh=fresh)
            hit = answer.hit
            assert hit is not None
            try:
                return await self.runner.guarded_change(
                    lambda tx, hit=hit: _held(tx, hit, work, alone),  # type: ignore[misc]
                    caller,
                )
            except GuardRefused:
                fresh = True
        raise identity_changed()


def _checked(tx: Transaction, hit: Hit, work: Callable[[Transaction, Hit], T]) -> T:
    check_theirs(tx, hit)
    return work(tx, hit)


def _held(tx: Transaction, hit: Hit, work: Callable[[Transaction, Hit], T], alone: bool) -> T:
    hold_theirs(tx, hit, alone=alone)
    return work(tx, hit)
