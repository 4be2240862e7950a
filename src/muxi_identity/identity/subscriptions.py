"""Who wants to be told of what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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

    def want(self, *types: str) -> bool:
        """Tell whether anybody wants one of these types."""
        return self.heard or any(not each.types.isdisjoint(types) for each in self.webhooks)

    def endpoints(self, type: str) -> list[str]:
        """Return the webhooks that want this type."""
        return [each.endpoint for each in self.webhooks if type in each.types]


NOBODY = Subscriptions()
