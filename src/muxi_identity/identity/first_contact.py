"""First contact: somebody writes in under an identifier that nobody has."""

from __future__ import annotations

from muxi_identity.identifiers import Identifier
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.matching import choose, hit_of, is_barred, would_shadow
from muxi_identity.identity.people import new_user
from muxi_identity.identity.slots import insert_identifiers, new_identifier
from muxi_identity.identity.transaction import Member, Transaction


def first_contact(tx: Transaction, identifier: Identifier) -> tuple[Hit, bool] | None:
    """Return whoever has ``identifier``, or make a user for it; the flag says which.

    None where it is a secret that was revoked, or would take somebody else's spelling: such a one never makes a user.
    Of transactions that race for one identifier, one makes the user and the others, run again, find it.

    Raises:
        AmbiguousIdentifierError: It is untyped and several people have it.
        RaceLost: Somebody was quicker.
    """
    bucket = tx.bucket(identifier.fold)
    rows = tx.bucket_rows([bucket])[bucket]
    choice = choose(rows, identifier, tx.now)
    if choice is not None:
        return hit_of(choice.row), False
    if is_barred(rows) or would_shadow(rows, identifier, tx.now):
        return None
    # Proof is on purpose: whoever vouches for the identifier makes more than a first contact.
    person = new_user(tx, established=identifier.verified)
    owner = Member(person.root_pk, person.root_pk)
    insert_identifiers(tx, [new_identifier(identifier, bucket, tx.now, verified=False)], owner, person.public_id)
    made = choose(tx.bucket_rows([bucket])[bucket], identifier, tx.now)
    assert made is not None
    return hit_of(made.row), True
