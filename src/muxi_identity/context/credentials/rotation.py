"""Re-encryption of a formation's credentials with its newest key, in batches and while others write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, select, update

from muxi_identity.context.credentials.vault import Place, Vault
from muxi_identity.errors import CredentialUnreadableError
from muxi_identity.identity.running import Caller, Runner
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import CredentialRotation
from muxi_identity.storage.tables import credentials

BATCH = 50  # rows, of 64 kB at most


@dataclass(slots=True)
class _Batch:
    rotated: int = 0
    unreadable: int = 0
    missing: set[str] = field(default_factory=set)
    last_pk: int | None = None


async def rotate(runner: Runner, vault: Vault, caller: Caller) -> CredentialRotation:
    """Encrypt with the vault's newest key what was encrypted with another one.

    One transaction for each batch: what is done stays done where a later batch fails, and a second call goes on from
    there. What cannot be read is left as it is.

    Raises:
        StorageUnavailableError: The database does not answer.
    """
    kept = await runner.read(lambda tx: _count(tx, credentials.c.key_id == vault.key_id))
    total = _Batch(last_pk=0)
    while total.last_pk is not None:
        after = total.last_pk
        batch = await runner.change(lambda tx, after=after: _rotate_batch(tx, vault, after), caller)  # type: ignore[misc]
        total.rotated += batch.rotated
        total.unreadable += batch.unreadable
        total.missing |= batch.missing
        total.last_pk = batch.last_pk
    return {
        "rotated": total.rotated,
        "kept": kept,
        "unreadable": total.unreadable,
        "key_id": vault.key_id,
        "missing_key_ids": sorted(total.missing),
    }


def _count(tx: Transaction, condition: ColumnElement[bool]) -> int:
    statement = select(func.count()).select_from(credentials)
    return tx.connection.execute(statement.where(credentials.c.formation_id == tx.formation_id, condition)).scalar_one()


def _rotate_batch(tx: Transaction, vault: Vault, after: int) -> _Batch:
    rows = tx.connection.execute(
        select(credentials)
        .where(
            credentials.c.formation_id == tx.formation_id,
            credentials.c.pk > after,
            credentials.c.key_id != vault.key_id,
        )
        .order_by(credentials.c.pk)
        .limit(BATCH)
    ).all()
    batch = _Batch(last_pk=rows[-1].pk if len(rows) == BATCH else None)
    for row in rows:
        try:
            batch.rotated += _rotate_row(tx, vault, row)
        except CredentialUnreadableError:
            batch.unreadable += 1
            if not vault.has(row.key_id):
                batch.missing.add(row.key_id)
    tx.erased = batch.rotated > 0  # a key that is given up may be known to others
    return batch


def _rotate_row(tx: Transaction, vault: Vault, row: Row[Any]) -> int:
    place = Place(row.credential_id, row.service, row.name)
    sealed = vault.seal(place, vault.open(place, row.key_id, bytes(row.ciphertext)))
    # Only what was read is replaced: somebody who sets or deletes it meanwhile is not overwritten. Its time stays,
    # since the newest is what counts of two.
    as_read = and_(
        credentials.c.formation_id == tx.formation_id,
        credentials.c.pk == row.pk,
        credentials.c.ciphertext == row.ciphertext,
    )
    return tx.connection.execute(
        update(credentials).where(as_read).values(ciphertext=sealed, key_id=vault.key_id)
    ).rowcount
