"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass

DATABASES = ("sqlite", "postgres")


@dataclass(frozen=True)
class Extent:
    """``blocks``: how many rounds; ``people``: how many are there first; ``entries``: of the cache."""

    people: int
    blocks: int
    entries: int
    databases: tuple[str, ...] = DATABASES
    sizes: tuple[int, ...] = ()
    """Numbers of identifiers that the growth is measured at."""

    @property
    def quick(self) -> bool:
        """Whether this only shows that it runs."""
        return self.blocks <= QUICK.blocks


FULL = Extent(people=10_000, blocks=60, entries=500_000)
QUICK = Extent(people=300, blocks=1, entries=5_000, sizes=(600,))
