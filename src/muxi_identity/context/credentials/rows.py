"""Credentials inside a transaction: one row for a member, an identifier, a service and a name; folded when read."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, insert, select, tuple_, update

from muxi_identity.context.credentials.concealed import Concealed
from muxi_identity.context.credentials.vault import Place, Vault
from muxi_identity.context.person import members_of
from muxi_identity.errors import TooLargeError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import CredentialRecord, CredentialService, iso
from muxi_identity.storage.tables import credentials, users

MAX_CREDENTIALS = 200  # of one member
MAX_SERVICES = 500  # that a formation's list shows


def put_credential(
    tx: Transaction, hit: Hit, vault: Vault, service: str, name: str, credential: Concealed
) -> CredentialRecord:
    """Keep a credential under the caller's member and identifier. One of theirs that is there keeps its id.

    Raises:
        TooLargeError: The member would have too many.
    """
    mine = and_(credentials.c.formation_id == tx.formation_id, credentials.c.user_pk == hit.member_pk)
    own = and_(
        mine,
        func.coalesce(credentials.c.identifier_pk, 0) == (hit.identifier_pk or 0),
        credentials.c.service == service,
        credentials.c.name == name,
    )
    known = tx.connection.execute(
        select(credentials.c.credential_id, credentials.c.created_at).where(own)
    ).one_or_none()
    updated_at = _after_all(tx, hit, service, name)
    place = Place(f"cred_{secrets.token_hex(10)}" if known is None else known.credential_id, service, name)
    values: dict[str, Any] = {
        "ciphertext": vault.seal(place, credential),
        "key_id": vault.key_id,
        "preview": credential.preview,
        "updated_at": updated_at,
    }
    if known is not None:
        tx.erased = True  # the one before it: it may have been revoked because others know it
        tx.connection.execute(update(credentials).where(own).values(values))
    else:
        if (
            tx.connection.execute(select(func.count()).select_from(credentials).where(mine)).scalar_one()
            >= MAX_CREDENTIALS
        ):
            raise TooLargeError(
                f"There would be more than {MAX_CREDENTIALS} credentials; nothing was kept. Delete some first.",
                limit=MAX_CREDENTIALS,
            )
        (pk,) = tx.new_keys(1)
        tx.connection.execute(
            insert(credentials).values(
                formation_id=tx.formation_id,
                pk=pk,
                user_pk=hit.member_pk,
                identifier_pk=hit.identifier_pk,
                credential_id=place.credential_id,
                service=service,
                name=name,
                created_at=tx.now,
                **values,
            )
        )
    return {
        "credential_id": place.credential_id,
        "service": service,
        "name": name,
        "preview": credential.preview,
        "created_at": iso(tx.now if known is None else known.created_at),
        "updated_at": iso(updated_at),
    }


def _after_all(tx: Transaction, hit: Hit, service: str, name: str) -> int:
    """Return the time of a credential that is set now, which lies after all that the person has of that name.

    What is set last is what is handed out, also where the clocks of two machines disagree or one was put back: the one
    before it may have been revoked.
    """
    same = and_(_theirs(tx, hit), credentials.c.service == service, credentials.c.name == name)
    last = tx.connection.execute(select(func.max(credentials.c.updated_at)).where(same)).scalar()
    return tx.now if last is None else max(tx.now, int(last) + 1)


def folded_credentials(tx: Transaction, hit: Hit, *conditions: ColumnElement[bool]) -> Select[Any]:
    """Return the statement for a person's credentials: of each service and name the newest of all members.

    ``conditions`` must hold for a service and name as a whole.
    """
    newest_first = (credentials.c.updated_at.desc(), credentials.c.pk.desc())
    place = func.row_number().over(partition_by=(credentials.c.service, credentials.c.name), order_by=newest_first)
    ranked = select(credentials, place.label("place")).where(_theirs(tx, hit), *conditions).subquery()
    return select(ranked).where(ranked.c.place == 1)


def list_credentials(tx: Transaction, hit: Hit, service: str | None) -> list[CredentialRecord]:
    """Return the person's credentials by service and name, without their secrets."""
    conditions = [] if service is None else [credentials.c.service == service]
    records = [_record(row) for row in tx.connection.execute(folded_credentials(tx, hit, *conditions))]
    return sorted(records, key=lambda record: (record["service"], record["name"]))


def find_credential(tx: Transaction, hit: Hit, credential_id: str) -> CredentialRecord | None:
    """Return what counts now of the service and name of ``credential_id``; None where the person has it not."""
    named = select(credentials.c.service, credentials.c.name).where(
        _theirs(tx, hit), credentials.c.credential_id == credential_id
    )
    same = tuple_(credentials.c.service, credentials.c.name).in_(named)
    row = tx.connection.execute(folded_credentials(tx, hit, same)).one_or_none()
    return None if row is None else _record(row)


def find_sealed(tx: Transaction, hit: Hit, service: str, name: str) -> tuple[Place, str, bytes] | None:
    """Return the place, the key's name and the ciphertext of a credential; None where the person has none."""
    same = and_(credentials.c.service == service, credentials.c.name == name)
    row = tx.connection.execute(folded_credentials(tx, hit, same)).one_or_none()
    return None if row is None else (Place(row.credential_id, service, name), row.key_id, bytes(row.ciphertext))


def delete_credentials(tx: Transaction, hit: Hit, credential_id: str) -> int:
    """Delete all that the person has of the service and name of ``credential_id``; return how many rows went."""
    found = tx.connection.execute(
        select(credentials.c.service, credentials.c.name).where(
            _theirs(tx, hit), credentials.c.credential_id == credential_id
        )
    ).one_or_none()
    if found is None:
        return 0
    tx.erased = True
    same = and_(credentials.c.service == found.service, credentials.c.name == found.name)
    return tx.connection.execute(delete(credentials).where(_theirs(tx, hit), same)).rowcount


def list_services(tx: Transaction) -> list[CredentialService]:
    """Return the services that people of the formation have credentials for, those with the most first."""
    person = and_(users.c.formation_id == credentials.c.formation_id, users.c.pk == credentials.c.user_pk)
    theirs = (
        select(credentials.c.service, credentials.c.name, users.c.root_pk)
        .join(users, person)
        .where(credentials.c.formation_id == tx.formation_id)
        .distinct()
        .subquery()
    )
    number = func.count()
    statement = (
        select(theirs.c.service, number.label("number"))
        .group_by(theirs.c.service)
        .order_by(number.desc(), theirs.c.service)
        .limit(MAX_SERVICES)
    )
    return [{"service": row.service, "count": row.number} for row in tx.connection.execute(statement)]


def _theirs(tx: Transaction, hit: Hit) -> ColumnElement[bool]:
    return and_(credentials.c.formation_id == tx.formation_id, credentials.c.user_pk.in_(members_of(tx, hit)))


def _record(row: Row[Any]) -> CredentialRecord:
    return {
        "credential_id": row.credential_id,
        "service": row.service,
        "name": row.name,
        "preview": row.preview,
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
    }
