"""Who wants to be told of what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Subscription:
    """One webhook: the digest that stands for its address, and the types of event that it wants."""

    endpoint: str
    types: frozenset[str]


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """All of a formation's, as this process knows them. ``heard``: a callback in this process hears everything."""

    webhooks: Sequence[Subscription] = ()
    heard: bool = False
    silent: frozenset[str] = frozenset()
    """Types that nobody is told of."""

    def want(self, *types: str) -> bool:
        """Tell whether anybody wants one of these types."""
        told = set(types) - self.silent
        return bool(told) and (self.heard or any(not each.types.isdisjoint(told) for each in self.webhooks))

    def without(self, *types: str) -> Subscriptions:
        """Return the same, told nothing of these types."""
        return replace(self, silent=self.silent.union(types))

    def endpoints(self, type: str) -> list[str]:
        """Return the webhooks that want this type."""
        return [each.endpoint for each in self.webhooks if type in each.types and type not in self.silent]


NOBODY = Subscriptions()
