"""Linking: several identifiers, one person, one transaction.

:func:`link` says the order of the steps. Everything is read, locked and read again, then decided (:class:`Decision`),
and only then written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select, update

from muxi_identity.errors import (
    InvalidIdentifierError,
    UserNotFoundError,
)
from muxi_identity.identifiers import Identifier, same_value
from muxi_identity.identity.deciding import Decision, Item, OnConflict, decide
from muxi_identity.identity.history import Event, record
from muxi_identity.identity.matching import is_barred, same_identifier
from muxi_identity.identity.merging import merge
from muxi_identity.identity.people import new_user
from muxi_identity.identity.separations import separated_pairs
from muxi_identity.identity.slots import check_limits, count_live, insert_identifiers, new_identifier
from muxi_identity.identity.transaction import Member, Person, Transaction
from muxi_identity.models import microseconds
from muxi_identity.storage.errors import RaceLost
from muxi_identity.storage.rows import BucketRow
from muxi_identity.storage.tables import identifiers as table


@dataclass(slots=True)
class Linked:
    """What a link did. ``new``, ``existing``, ``skipped`` and ``secrets`` are positions in the request."""

    user_id: str
    created: bool = False
    new: list[int] = field(default_factory=list)
    existing: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    secrets: list[int] = field(default_factory=list)
    merge_ids: list[str] = field(default_factory=list)


def link(
    tx: Transaction, identifiers: Sequence[Identifier], user_id: str | None, on_conflict: OnConflict, verified: bool
) -> Linked:
    """Link ``identifiers`` to one person.

    ======================================  ====================================================
    ``user_id`` given                       all are linked to it; one that is another's conflicts
    None, and none is known                 a new user has them all
    None, known ones are one person's       the rest are linked to that person
    None, known ones are several people's   they conflict
    ======================================  ====================================================

    Raises:
        IdentifierConflictError: With every conflict at once, where ``on_conflict`` does not settle it.
        IdentifierLimitError: The person would have too many.
        UserNotFoundError: ``user_id`` names nobody.
        RaceLost: What was read changed before it was locked.
    """
    items = distinct_items(identifiers, [tx.bucket(identifier.fold) for identifier in identifiers])
    rows = _read(tx, items)
    given = _given_member(tx, user_id)
    roots = {root for item in items for root in item.owners}
    people = tx.lock_people(roots | {given.root_pk} if given else roots)
    if _read(tx, items) != rows or _given_member(tx, user_id) != given:
        raise RaceLost
    _refuse_barred(items, rows)

    apart = separated_pairs(tx, people.values())
    decision = decide(items, people, people[given.root_pk] if given else None, tx.match, on_conflict, verified, apart)
    survivor = decision.survivor
    _check_limits(tx, decision)

    created = survivor is None
    if survivor is None:
        survivor = new_user(tx, established=True)
    owner = given or decision.member_of(survivor)
    merge_ids = [merge(tx, survivor, person, mode=on_conflict) for person in decision.absorbed]
    refreshed = [refresh(tx, item, survivor, verified) for item in decision.known]
    _retire(tx, [row for item in [*decision.taken, *decision.promoted] for row in item.rows])
    forget_clear_text(tx, [item.identifier for item in items if item.identifier.secret])
    fresh = [*decision.unknown, *decision.taken]
    fresh.sort(key=lambda item: item.position)
    insert_identifiers(
        tx,
        [new_identifier(item.identifier, item.bucket, tx.now, verified) for item in fresh],
        owner,
        survivor.public_id,
    )
    if created or fresh or merge_ids or decision.promoted or any(refreshed) or not survivor.established:
        tx.touch([survivor.root_pk], establish=survivor.root_pk)
    return Linked(
        user_id=survivor.public_id,
        created=created,
        new=_positions(fresh),
        existing=_positions([*decision.known, *decision.promoted]),
        skipped=_positions(decision.left),
        secrets=_positions(item for item in items if any(row.secret for row in item.rows)),
        merge_ids=merge_ids,
    )


def distinct_items(identifiers: Sequence[Identifier], buckets: Sequence[bytes]) -> list[Item]:
    """Return one item for each identifier, in order, without what the request says twice.

    Of a typed and an untyped spelling of the same, the typed one stays.
    """
    every = [Item(*each) for each in zip(range(len(identifiers)), identifiers, buckets, strict=True)]
    kept: list[Item] = []
    for item in sorted(every, key=lambda item: item.identifier.guessed):
        if not any(other.bucket == item.bucket and _same(other.identifier, item.identifier) for other in kept):
            kept.append(item)
    return sorted(kept, key=lambda item: item.position)


def _same(kept: Identifier, other: Identifier) -> bool:
    if other.guessed and not kept.guessed:
        return kept.secret or same_value(other.spelling, kept.type, kept.value)
    return (kept.type, kept.scope, kept.value) == (other.type, other.scope, other.value)


def _positions(items: Iterable[Item]) -> list[int]:
    return sorted(item.position for item in items)


def _read(tx: Transaction, items: Sequence[Item]) -> dict[bytes, list[BucketRow]]:
    rows = tx.bucket_rows(item.bucket for item in items)
    claimed: set[int] = set()
    for item in items:
        # Somebody wrote in as bare "12345", and is linked as Telegram's and as GitHub's 12345: the row can become one
        # of them, not both.
        same = same_identifier(rows[item.bucket], item.identifier, tx.now)
        item.rows = [row for row in same if row.pk not in claimed]
        claimed.update(row.pk for row in item.rows)
    return rows


def _given_member(tx: Transaction, user_id: str | None) -> Member | None:
    if user_id is None:
        return None
    member = tx.find_member(user_id)
    if member is None:
        raise UserNotFoundError(
            f"There is no user {user_id} in this formation; create_user(user_id={user_id!r}) makes one.",
            user_id=user_id,
        )
    return member


def _refuse_barred(items: Sequence[Item], rows: dict[bytes, list[BucketRow]]) -> None:
    for item in items:
        if not item.rows and is_barred(rows[item.bucket]):
            raise InvalidIdentifierError(
                "That is a key of another type, or one that was revoked or has expired and stays so: issue a new one "
                "and link that.",
                reason="revoked",
            )


def _check_limits(tx: Transaction, decision: Decision) -> None:
    fresh = [*decision.unknown, *decision.taken]
    gains_type = [item for item in decision.known if _gains_type(item)]
    if not fresh and not decision.absorbed and not gains_type:
        return
    people = [*decision.absorbed, *([decision.survivor] if decision.survivor else [])]
    held = count_live(tx, [pk for person in people for pk in person.member_pks])
    roots = {person.root_pk for person in people}
    for row in (row for item in [*decision.taken, *decision.promoted] for row in item.rows):
        held[row.type] = held.get(row.type, 0) - (row.root_pk in roots)
    held[None] = held.get(None, 0) - len(gains_type)
    for item in [*fresh, *gains_type]:
        held[item.identifier.type] = held.get(item.identifier.type, 0) + 1
    check_limits(tx.rules.max_per_user, {kind: tx.rules.rule(kind).max_per_user for kind in held}, held)


def _gains_type(item: Item) -> bool:
    return item.rows[0].type is None and item.identifier.type is not None


def _gains_expiry(item: Item) -> bool:
    expires_at = item.identifier.expires_at
    return expires_at is not None and microseconds(expires_at) != item.rows[0].expires_at


def _gains_proof(item: Item, verified: bool) -> bool:
    return (verified or item.identifier.verified) and item.rows[0].verified_at is None


def adds_nothing(item: Item, verified: bool) -> bool:
    """Tell whether a link surely adds nothing to a known identifier: then :func:`refresh` would do nothing."""
    gains = _gains_type(item) or _gains_expiry(item) or _gains_proof(item, verified)
    return not gains and item.identifier.metadata is None


def refresh(tx: Transaction, item: Item, survivor: Person, verified: bool) -> bool:
    """Give a known identifier what the link adds: a type, proof, another expiry. Tell whether there was anything."""
    row, new = item.rows[0], item.identifier
    values: dict[str, object] = {}
    if _gains_type(item):
        # It takes a new slot, as a new row does: a first contact under the type may just be inserting one.
        (slot,) = tx.take_slots([row.bucket])
        values.update(type=new.type, scope=new.scope, value=new.value, secret=new.secret, slot=slot)
        if new.secret:
            values["spelling"] = new.spelling  # the hint: what was kept in clear as an ordinary identifier goes
            tx.erased = True
    if _gains_expiry(item):
        values["expires_at"] = new_identifier(new, row.bucket, tx.now, verified).expires_at
    if new.metadata is not None:
        metadata = json.dumps(new.metadata, sort_keys=True)
        kept = select(table.c.metadata).where(table.c.formation_id == tx.formation_id, table.c.pk == row.pk)
        if metadata != tx.connection.execute(kept).scalar():
            values["metadata"] = metadata
    if _gains_proof(item, verified):
        values["verified_at"] = tx.now
        values["source"] = func.coalesce(tx.change.source, table.c.source)
    if not values:
        return False
    if values.keys() != {"metadata"}:  # which nobody is found by: synchronising it often tells nobody
        tx.fence.buckets([row.bucket])
    tx.connection.execute(
        update(table).where(table.c.formation_id == tx.formation_id, table.c.pk == row.pk).values(**values)
    )
    record(tx, Event.IDENTIFIER_UPDATE, survivor.public_id, identifier_pk=row.pk)
    return True


def _retire(tx: Transaction, rows: Sequence[BucketRow]) -> None:
    retire(tx, rows)
    tx.touch(sorted({row.root_pk for row in rows if row.root_pk is not None}))


def forget_clear_text(tx: Transaction, secrets: Sequence[Identifier]) -> None:
    """Take the clear text off what is left of identifiers that are known for secrets now.

    A key wrote in bare, and was unlinked, expired or taken over before it was linked as a key: its old rows hold it.
    """
    for secret in secrets:
        left = tx.connection.execute(
            update(table)
            .where(
                table.c.formation_id == tx.formation_id,
                table.c.bucket == tx.bucket(secret.fold),
                table.c.value != "",
                table.c.type.is_(None) | table.c.unlinked_at.is_not(None) | (table.c.expires_at <= tx.now),
            )
            .values(spelling=secret.spelling, value="")
        )
        tx.erased |= left.rowcount > 0


def retire(tx: Transaction, rows: Sequence[BucketRow]) -> None:
    """Tombstone rows: the identifier means nobody any more; what was recorded through it stays where it is."""
    if not rows:
        return
    tx.fence.buckets(row.bucket for row in rows)
    tx.connection.execute(
        update(table)
        .where(table.c.formation_id == tx.formation_id, table.c.pk.in_([row.pk for row in rows]))
        .values(unlinked_at=tx.now)
    )
    for row in rows:
        assert row.public_id is not None
        record(tx, Event.IDENTIFIER_UNLINK, row.public_id, identifier_pk=row.pk)
