"""Unlinking: an identifier leaves its person, and what was recorded through it stays."""

from __future__ import annotations

from muxi_identity.errors import IdentifierNotFoundError, LastIdentifierError
from muxi_identity.identifiers import Identifier
from muxi_identity.identity.linking import retire
from muxi_identity.identity.matching import choose_row, hit_of
from muxi_identity.identity.slots import count_live
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import UnlinkResult
from muxi_identity.storage.errors import RaceLost


def unlink(tx: Transaction, identifier: Identifier, *, force: bool) -> UnlinkResult:
    """Unlink ``identifier`` from whoever has it, leaving a tombstone.

    Raises:
        IdentifierNotFoundError: Nobody has it.
        AmbiguousIdentifierError: It stands for several identifiers, of several people or of one.
        LastIdentifierError: The person has no other and ``force`` is false.
        RaceLost: What was read changed before it was locked.
    """
    bucket = tx.bucket(identifier.fold)
    rows = tx.bucket_rows([bucket])[bucket]
    row = choose_row(rows, identifier, tx.now)
    if row is None:
        raise IdentifierNotFoundError("That identifier is not linked to anybody in this formation.")
    owner = hit_of(row)
    person = tx.lock_people([owner.root_pk])[owner.root_pk]
    if tx.bucket_rows([bucket])[bucket] != rows:
        raise RaceLost
    shown = row.spelling if row.secret else identifier.shown
    if not force and sum(count_live(tx, person.member_pks).values()) == 1:
        raise LastIdentifierError(
            f"{shown} is the last identifier of {owner.public_id}, who could then be reached by public id alone; "
            "pass force=True to unlink it all the same.",
            user_id=owner.public_id,
        )
    retire(tx, [row])
    tx.touch([owner.root_pk])
    return {
        "identifier": shown,
        "muxi_user_id": owner.public_id,
        "message": f"{shown} is no longer linked to {owner.public_id}.",
    }
