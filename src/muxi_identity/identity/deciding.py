"""What a link will do: whom its identifiers go to, who is merged, what conflicts. Pure: nothing of it is done here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from muxi_identity.errors import IdentifierConflictError, InvalidRequestError
from muxi_identity.identifiers import Identifier
from muxi_identity.identity.separations import Pair
from muxi_identity.identity.transaction import Member, Person
from muxi_identity.storage.rows import BucketRow

OnConflict = Literal["raise", "absorb", "merge"]
MODES: tuple[OnConflict, ...] = ("raise", "absorb", "merge")
ANONYMOUS = "anonymous"


@dataclass(slots=True, eq=False)
class Item:
    """One identifier of the request, with the live rows that a link takes for the same identifier."""

    position: int
    identifier: Identifier
    bucket: bytes
    rows: list[BucketRow] = field(default_factory=list)

    @property
    def owners(self) -> set[int]:
        """The roots that have it."""
        return {row.root_pk for row in self.rows if row.root_pk is not None}

    @property
    def shown(self) -> str:
        """What may be shown of it: a key that was passed bare is known for a secret by its row."""
        return next((row.spelling for row in self.rows if row.secret), self.identifier.shown)


@dataclass(slots=True)
class Decision:
    """What a link will do. ``survivor=None``: with a new user."""

    survivor: Person | None
    absorbed: list[Person] = field(default_factory=list)
    """Who is merged into the survivor, oldest first."""
    known: list[Item] = field(default_factory=list)
    """The survivor's already, or coming with a merge."""
    unknown: list[Item] = field(default_factory=list)
    """Nobody's: to be linked."""
    taken: list[Item] = field(default_factory=list)
    """Another's without proof, and proved now: to be linked, leaving everything else with the other."""
    promoted: list[Item] = field(default_factory=list)
    """Anonymous, their data joining the survivor: to be retired."""
    left: list[Item] = field(default_factory=list)
    """Anonymous, not to be touched."""

    def member_of(self, survivor: Person) -> Member:
        """Return the member that new identifiers go under: that of an identifier they are linked along with, so
        that an unmerge leaves them together."""
        for item in [*self.known, *self.promoted]:
            for row in item.rows:
                if row.user_pk is not None and row.root_pk == survivor.root_pk:
                    return Member(row.user_pk, survivor.root_pk)
        return Member(survivor.root_pk, survivor.root_pk)


def decide(
    items: Sequence[Item],
    people: dict[int, Person],
    given: Person | None,
    match: str,
    on_conflict: OnConflict,
    verified: bool,
    apart: frozenset[Pair],
) -> Decision:
    """Decide what linking ``items`` does. Pure.

    ``people`` are the owners by root, ``apart`` those of them that somebody took apart: whatever the mode, these are
    not merged. The survivor is ``given``, else the established one, else the oldest; without ``given``, an owner who
    must give its identifier up to proof is none.

    Raises:
        IdentifierConflictError: Naming every identifier in conflict with its owner.
    """

    def yields(item: Item, others: set[int]) -> bool:
        """Whether these owners lose the item to proof, and nothing else."""
        proved = verified or item.identifier.verified
        return proved and not any(_has_claim(people[root], item) for root in others)

    def counts(item: Item) -> bool:
        """Whether the formation lets this item decide by itself whom the others are linked to."""
        if given is not None or on_conflict == "merge" or match == "any":
            return True
        return match == "verified" and all(row.verified_at is not None for row in item.rows)

    left = [item for item in items if on_conflict == "absorb" and _must_be_left(item, people, given)]
    rest = [item for item in items if item not in left]
    if not rest and given is None:
        raise InvalidRequestError("Anonymous identifiers alone cannot be absorbed: pass who they turned out to be.")
    # With "raise" nobody asked for what was said before the proof: whoever wrote in first may not have been the person.
    lost = [
        item for item in rest if item.rows and on_conflict == "raise" and given is None and yields(item, item.owners)
    ]
    owners = {root for item in rest if counts(item) and item not in lost for root in item.owners}
    survivor = given or _choose_survivor([people[root] for root in owners])
    decision = Decision(survivor, left=left)
    conflicts: list[Item] = []
    absorbed: dict[int, Person] = {}
    for item in rest:
        others = item.owners - {survivor.root_pk} if survivor else item.owners
        if not item.rows:
            decision.unknown.append(item)
        elif item in lost:
            decision.taken.append(item)
        elif not others:
            decision.known.append(item)
        elif on_conflict == "merge" or (
            on_conflict == "absorb" and counts(item) and not any(people[root].established for root in others)
        ):
            absorbed.update({root: people[root] for root in others})
            decision.known.append(item)
        elif yields(item, others):
            decision.taken.append(item)
        else:
            conflicts.append(item)
    group = {*absorbed, *([survivor.root_pk] if survivor else [])}
    kept_apart = {root for pair in apart if pair <= group for root in pair}
    if kept_apart:
        conflicts += [item for item in decision.known if item.owners & absorbed.keys() & kept_apart]
    if conflicts:
        # Several known owners and nobody chosen by the caller: each of them is one side of the conflict.
        named = conflicts if given else [item for item in rest if item.rows]
        raise _conflict(named, given, people, on_conflict, apart=bool(apart))
    decision.absorbed = sorted(absorbed.values(), key=lambda person: (person.created_at, person.root_pk))
    signed_in = any(item.identifier.type != ANONYMOUS for item in rest)
    if on_conflict == "absorb":
        # What a visitor did before signing in joins the person; the next visitor of a shared device starts afresh.
        decision.promoted = [
            item
            for item in decision.known
            if item.identifier.type == ANONYMOUS
            and not any(people[root].established for root in item.owners)
            and (signed_in or not item.owners.isdisjoint(absorbed))
        ]
        decision.known = [item for item in decision.known if item not in decision.promoted]
    return decision


def _must_be_left(item: Item, people: dict[int, Person], given: Person | None) -> bool:
    # A shared device: its identifier must not tie whoever uses it next to this person.
    if item.identifier.type != ANONYMOUS:
        return False
    others = item.owners - {given.root_pk} if given else item.owners
    return not item.rows or any(people[root].established for root in others)


def _choose_survivor(people: Sequence[Person]) -> Person | None:
    return min(people, key=lambda one: (not one.established, one.created_at, one.root_pk), default=None)


def _has_claim(owner: Person, item: Item) -> bool:
    """Tell whether ``owner`` keeps its identifier against proof.

    Pre-hijacking: somebody writes in first under the victim's e-mail address, unverified, and waits for the victim's
    data to join. Whoever proves the address gets it, without anything of that user.
    """
    return owner.established or owner.verified or any(row.verified_at is not None for row in item.rows)


def _conflict(
    items: Sequence[Item], given: Person | None, people: dict[int, Person], on_conflict: str, *, apart: bool
) -> IdentifierConflictError:
    conflicts = [
        {"identifier": item.shown, "type": item.identifier.type, "muxi_user_id": people[root].public_id}
        for item in items
        for root in sorted(item.owners)
        if given is None or root != given.root_pk
    ]
    names = ", ".join(f"{one['identifier']} belongs to {one['muxi_user_id']}" for one in conflicts)
    if apart:
        mend = "somebody took these users apart, so only merge_users(primary, secondary) joins them again"
    elif on_conflict == "absorb":
        mend = 'on_conflict="merge" joins any users'
    else:
        mend = 'on_conflict="absorb" joins users that only first contact has made, "merge" joins any'
    return IdentifierConflictError(f"Nothing was linked: {names}; {mend}.", conflicts=conflicts)
