"""First contact: somebody writes in under an identifier that nobody has."""

from __future__ import annotations

from muxi_identity.identifiers import Identifier
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.matching import choose, revoked
from muxi_identity.identity.people import new_user
from muxi_identity.identity.slots import insert_identifiers, new_identifier
from muxi_identity.identity.transaction import Member, Transaction
from muxi_identity.storage.rows import BucketRow


def first_contact(tx: Transaction, identifier: Identifier) -> tuple[Hit, bool] | None:
    """Return whoever has ``identifier``, or make a user for it; the flag says which.

    None where it is a secret that was revoked: such a one never makes a user. Of transactions that race for one
    identifier, one makes the user and the others, run again, find it.

    Raises:
        AmbiguousIdentifierError: It is untyped and several people have it.
        RaceLost: Somebody was quicker.
    """
    bucket = tx.bucket(identifier.fold)
    rows = tx.bucket_rows([bucket])[bucket]
    choice = choose(rows, identifier, tx.now)
    if choice is not None:
        return _hit(choice.row), False
    if revoked(rows, identifier, tx.now):
        return None
    person = new_user(tx, established=False)
    owner = Member(person.root_pk, person.root_pk)
    insert_identifiers(tx, [new_identifier(identifier, bucket, tx.now, verified=False)], owner, person.public_id)
    made = choose(tx.bucket_rows([bucket])[bucket], identifier, tx.now)
    assert made is not None
    return _hit(made.row), True


def _hit(row: BucketRow) -> Hit:
    assert row.user_pk is not None
    assert row.root_pk is not None
    assert row.public_id is not None
    return Hit(row.pk, row.user_pk, row.root_pk, row.public_id)
