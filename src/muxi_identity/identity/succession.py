"""Succession: one identifier takes the place of another, which means nobody from then on.

The new one is a row of its own. Under the old one's key a stale cache elsewhere could let a stranger in, who was given
the old phone number since: the guard would not notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row, select

from muxi_identity.errors import (
    IdentifierConflictError,
    IdentifierNotFoundError,
    InvalidIdentifierError,
    InvalidRequestError,
)
from muxi_identity.identifiers import Identifier, parse_identifier, same_value
from muxi_identity.identity.deciding import Item
from muxi_identity.identity.history import Event, record
from muxi_identity.identity.linking import forget_clear_text, refresh, retire
from muxi_identity.identity.matching import choose_row, hit_of, is_barred, same_identifier
from muxi_identity.identity.moving import hand_on_rows
from muxi_identity.identity.slots import check_limits, count_live, insert_identifiers, new_identifier
from muxi_identity.identity.transaction import Member, Person, Transaction
from muxi_identity.models import ReplaceResult
from muxi_identity.storage.errors import RaceLost
from muxi_identity.storage.rows import BucketRow
from muxi_identity.storage.tables import history
from muxi_identity.storage.tables import identifiers as table


class Replaced(NamedTuple):
    """What a succession did, and the new identifier as it was parsed under the old one's type."""

    result: ReplaceResult
    new: Identifier


def replace_identifier(tx: Transaction, old: Identifier, given: object, *, secrets: bool, verified: bool) -> Replaced:
    """Let the identifier that ``given`` stands for take the place of ``old``.

    Bare, it has the type and the scope of the old one. What was recorded through the old one is the new one's: its
    sessions go on. Where the person has the new one already, the old one is only retired. ``secrets`` says that both
    must be secrets, or that neither may be.

    Raises:
        IdentifierNotFoundError: Nobody has the old one.
        AmbiguousIdentifierError: The old one stands for several identifiers.
        IdentifierConflictError: The new one is another person's.
        IdentifierLimitError: The person would have too many of the new one's type.
        InvalidIdentifierError: The new one can be nobody's, or is a secret that was revoked.
        InvalidRequestError: Both are the same, or one is a secret where none may be, or the other way round.
        RaceLost: Something of it changed while the lock was waited for.
    """
    row = _find(tx, old)
    if row is None:
        return _earlier(tx, old, given)
    owner = hit_of(row)
    person = tx.lock_people([owner.root_pk])[owner.root_pk]
    if _find(tx, old) != row:
        raise RaceLost
    new = parse_identifier(given, tx.rules, type=row.type, scope=row.scope)
    _check_secrecy(row, new, secrets)
    bucket = tx.bucket(new.fold)
    rows = tx.bucket_rows([bucket])[bucket]
    same = same_identifier(rows, new, tx.now)
    _check_new(row, new, same, rows, person)
    if same:
        new_pk = same[0].pk
        refresh(tx, Item(0, new, bucket, same), person, verified)
        retire(tx, [row])
    else:
        _check_limits(tx, row, new, person)
        retire(tx, [row])
        made = new_identifier(new, bucket, tx.now, verified)
        if made.metadata is None:
            made = made._replace(metadata=_metadata_of(tx, row.pk))
        member = Member(owner.member_pk, owner.root_pk)
        (new_pk,) = insert_identifiers(tx, [made], member, person.public_id)
        hand_on_rows(tx, row.pk, new_pk)
    forget_clear_text(tx, [new] if new.secret else [])
    tx.touch([person.root_pk], establish=person.root_pk)
    record(tx, Event.IDENTIFIER_REPLACE, person.public_id, identifier_pk=new_pk, other_identifier_pk=row.pk)
    return Replaced(_result(person.public_id, row, new), new)


def _find(tx: Transaction, old: Identifier) -> BucketRow | None:
    bucket = tx.bucket(old.fold)
    return choose_row(tx.bucket_rows([bucket])[bucket], old, tx.now)


def _check_secrecy(row: BucketRow, new: Identifier, secrets: bool) -> None:
    if secrets and not (row.secret and new.secret):
        raise InvalidRequestError("rotate_identifier is for secrets; replace_identifier replaces other identifiers.")
    if not secrets and (row.secret or new.secret):
        raise InvalidRequestError("replace_identifier is not for secrets; rotate_identifier replaces one by another.")


def _check_new(
    row: BucketRow, new: Identifier, same: Sequence[BucketRow], rows: Sequence[BucketRow], person: Person
) -> None:
    if any(each.pk == row.pk for each in same):
        raise InvalidRequestError("The old and the new one are the same identifier; nothing is to replace.")
    others = [each for each in same if each.root_pk != person.root_pk]
    if others:
        conflicts = [{"identifier": new.shown, "type": new.type, "muxi_user_id": each.public_id} for each in others]
        raise IdentifierConflictError(
            f"Nothing was replaced: {new.shown} belongs to {others[0].public_id}; where that is the same person, "
            "merge_users(primary, secondary) joins the two.",
            conflicts=conflicts,
        )
    if not same and is_barred(rows):
        raise InvalidIdentifierError(
            "The new one is a key of another type, or one that was revoked or has expired and stays so: issue another.",
            reason="revoked",
        )


def _check_limits(tx: Transaction, row: BucketRow, new: Identifier, person: Person) -> None:
    if new.type == row.type:
        return  # one goes and one comes, also where the formation's limits were lowered since
    held = count_live(tx, person.member_pks)
    held[row.type] = held.get(row.type, 0) - 1
    held[new.type] = held.get(new.type, 0) + 1
    check_limits(sum(held.values()), {new.type: tx.rules.rule(new.type).max_per_user}, held)


def _metadata_of(tx: Transaction, pk: int) -> str | None:
    return tx.connection.execute(
        select(table.c.metadata).where(table.c.formation_id == tx.formation_id, table.c.pk == pk)
    ).scalar()


def _earlier(tx: Transaction, old: Identifier, given: object) -> Replaced:
    """Answer a call that was sent again: the old one is retired, and the new one has its place.

    Raises:
        IdentifierNotFoundError: It was never so.
    """
    tombstones = tx.connection.execute(
        select(table).where(
            table.c.formation_id == tx.formation_id,
            table.c.bucket == tx.bucket(old.fold),
            table.c.unlinked_at.is_not(None),
        )
    ).all()
    for tombstone in tombstones:
        if _was(tombstone, old):
            new = parse_identifier(given, tx.rules, type=tombstone.type, scope=tombstone.scope)
            bucket = tx.bucket(new.fold)
            row = choose_row(tx.bucket_rows([bucket])[bucket], new, tx.now)
            if row is not None and row.public_id is not None and _replaced(tx, tombstone.pk, row.pk):
                result = _result(row.public_id, tombstone, new)
                result["already_replaced"] = True
                return Replaced(result, new)
    raise IdentifierNotFoundError("The old identifier is not linked to anybody in this formation.")


def _was(tombstone: Row[Any], old: Identifier) -> bool:
    if not old.guessed and (tombstone.type != old.type or old.scope not in (None, tombstone.scope)):
        return False
    return bool(tombstone.secret) or same_value(old.spelling, tombstone.type, tombstone.value)


def _replaced(tx: Transaction, old_pk: int, new_pk: int) -> bool:
    statement = select(history.c.pk).where(
        history.c.formation_id == tx.formation_id,
        history.c.identifier_pk == new_pk,
        history.c.other_identifier_pk == old_pk,
        history.c.event == Event.IDENTIFIER_REPLACE.value,
    )
    return tx.connection.execute(statement.limit(1)).scalar() is not None


def _result(user_id: str, old: BucketRow | Row[Any], new: Identifier) -> ReplaceResult:
    return {
        "muxi_user_id": user_id,
        "old": {"identifier": old.spelling, "type": old.type},
        "new": {"identifier": new.shown, "type": new.type},
        "already_replaced": False,
    }
