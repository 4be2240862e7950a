"""Splitting: identifiers that were linked by mistake leave for a new user, with what was recorded through them."""

from __future__ import annotations

from collections.abc import Sequence

from muxi_identity.errors import IdentifierConflictError, IdentifierNotFoundError, LastIdentifierError
from muxi_identity.identifiers import Identifier
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.history import Event, record
from muxi_identity.identity.matching import choose_row
from muxi_identity.identity.moving import drop_synopses, move_identifiers
from muxi_identity.identity.naming import people_named
from muxi_identity.identity.people import new_user
from muxi_identity.identity.previewing import count_rows
from muxi_identity.identity.separations import separate
from muxi_identity.identity.slots import count_live
from muxi_identity.identity.transaction import Person, Transaction
from muxi_identity.models import IdentifierName, SplitResult
from muxi_identity.storage.rows import BucketRow


def split_user(tx: Transaction, hit: Hit, identifiers: Sequence[Identifier], *, dry_run: bool) -> SplitResult:
    """Give ``identifiers`` of a person to a new user, with every row recorded through them, or only count that.

    What was recorded through the person's public id stays, and so does what came through other identifiers. The new
    user is established, and the two are remembered as not the same person.

    Raises:
        UserNotFoundError: ``hit`` means nobody any more.
        IdentifierNotFoundError: Nobody has one of the identifiers.
        IdentifierConflictError: Some are another person's, each named with its owner.
        AmbiguousIdentifierError: One stands for several identifiers.
        LastIdentifierError: They are all that the person has: there is nobody to split them from.
        RaceLost: The person changed while the lock was waited for.
    """
    (member,), people = people_named(tx, [hit], lock=not dry_run)
    person = people[member.root_pk]
    chosen = _choose(tx, person, identifiers)
    if len(chosen) == sum(count_live(tx, person.member_pks).values()):
        raise LastIdentifierError(
            f"These are all identifiers of {person.public_id}, who would be left without any; leave one, or undo the "
            "merge that brought them.",
            user_id=person.public_id,
        )
    result: SplitResult = {
        "muxi_user_id": person.public_id,
        "new_user_id": None,
        "identifiers": [_name_of(row) for row in chosen],
        "rows": {},
        "dry_run": dry_run,
    }
    pks = [row.pk for row in chosen]
    if dry_run:
        result["rows"] = count_rows(tx, "identifier_pk", pks)
        return result
    new = new_user(tx, established=True)
    tx.fence.buckets(row.bucket for row in chosen)
    result["new_user_id"] = new.public_id
    result["rows"] = move_identifiers(tx, pks, new.root_pk)
    drop_synopses(tx, person.member_pks, person.root_pk)
    separate(tx, [(row.user_pk, new.root_pk) for row in chosen if row.user_pk is not None])
    tx.touch([person.root_pk])
    record(tx, Event.USER_SPLIT, person.public_id, other_user_id=new.public_id)
    for pk in pks:
        record(tx, Event.IDENTIFIER_MOVE, new.public_id, other_user_id=person.public_id, identifier_pk=pk)
    return result


def _choose(tx: Transaction, person: Person, identifiers: Sequence[Identifier]) -> list[BucketRow]:
    """Return the rows of ``identifiers``, each once; those of a locked person do not change any more."""
    buckets = [tx.bucket(identifier.fold) for identifier in identifiers]
    rows = tx.bucket_rows(buckets)
    chosen: dict[int, BucketRow] = {}
    conflicts: list[dict[str, str | None]] = []
    for identifier, bucket in zip(identifiers, buckets, strict=True):
        row = choose_row(rows[bucket], identifier, tx.now)
        if row is None:
            # The value is not repeated: passed bare, it may be a key.
            raise IdentifierNotFoundError(
                "One of the identifiers is not linked to anybody in this formation; one that was unlinked has left "
                "its rows with the person for good."
            )
        if row.root_pk != person.root_pk:
            conflicts.append({"identifier": row.spelling, "type": row.type, "muxi_user_id": row.public_id})
        chosen[row.pk] = row
    if conflicts:
        names = ", ".join(f"{one['identifier']} belongs to {one['muxi_user_id']}" for one in conflicts)
        raise IdentifierConflictError(f"Nothing was split: {names}, not to {person.public_id}.", conflicts=conflicts)
    return list(chosen.values())


def _name_of(row: BucketRow) -> IdentifierName:
    return {"identifier": row.spelling, "type": row.type}
