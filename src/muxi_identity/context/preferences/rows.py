"""Preferences inside a transaction: one row for a member, an identifier and a key; folded when read."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, ScalarSelect, Select, and_, delete, func, literal_column, select

from muxi_identity.arguments import MAX_KEY, check_text, write_json
from muxi_identity.context.person import members_of
from muxi_identity.context.redaction import find_secret_in
from muxi_identity.context.synopsis.rows import raise_revision, raise_revisions
from muxi_identity.errors import InvalidRequestError, SecretRefusedError, TooLargeError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import PreferenceRecord, iso
from muxi_identity.storage.tables import identifiers, preferences
from muxi_identity.storage.upserts import upsert

MAX_VALUE = 8_000  # characters of JSON
MAX_PREFERENCES = 1_000  # of one member
_OWN_KEY = (
    preferences.c.formation_id,
    preferences.c.user_pk,
    # A constant, as the index has it: a parameter would not be known for the same.
    func.coalesce(preferences.c.identifier_pk, literal_column("0")),
    preferences.c.key,
)
_REPLACED = ("value", "shareable", "updated_at")


def preference_key(key: object) -> str:
    """Return a preference's key in its normal form: trimmed, NFC, its case kept.

    Raises:
        TooLargeError: It is too long.
        InvalidRequestError: It is no text, blank or not printable.
    """
    form = unicodedata.normalize("NFC", check_text("key", key, MAX_KEY).strip())
    if not form.isprintable() or len(form) > MAX_KEY:
        raise InvalidRequestError(f"key must be a printable text of 1 to {MAX_KEY} characters.")
    return form


def write_preference(key: object, value: object) -> tuple[str, str]:
    """Return the key in its normal form and the value as JSON, checked: what :func:`set_preferences` will take.

    Raises:
        SecretRefusedError: Key or value looks like a secret.
        TooLargeError: One of them is too long, or the value too deep.
        InvalidRequestError: The key is no printable text, or JSON has no such value.
    """
    form = preference_key(key)
    written = write_json("value", value, MAX_VALUE)
    what = find_secret_in({form: value})
    if what is not None:
        raise SecretRefusedError(
            f"The preference looks as if it held {what}; nothing was kept. Keep it as a credential: "
            "set_credential(user_id, service, credential)."
        )
    return form, written


def set_preferences(tx: Transaction, hit: Hit, values: Mapping[str, Any], shareable: bool = False) -> None:
    """Set preferences under the caller's member and identifier: in as many statements, however many they are.

    What another identifier of the person set stays where it is; as long as this is newer, it is what is read.

    Raises:
        SecretRefusedError: One of them looks like a secret.
        TooLargeError: One is too long, or the member would have too many.
        InvalidRequestError: A key is no printable text, or JSON has no such value.
    """
    written = dict(write_preference(key, value) for key, value in values.items())
    if not written:
        return
    raise_revision(tx, hit)  # who else writes under the member waits here: what is counted below stays true
    times = _times(tx, hit, list(written))
    rows = [
        {
            "formation_id": tx.formation_id,
            "pk": pk,
            "user_pk": hit.member_pk,
            "identifier_pk": hit.identifier_pk,
            "key": key,
            "value": value,
            "shareable": shareable,
            "created_at": tx.now,
            "updated_at": times.get(key, tx.now),
        }
        for pk, (key, value) in zip(tx.new_keys(len(written)), sorted(written.items()), strict=True)
    ]
    tx.connection.execute(upsert(tx.database.dialect, preferences, _OWN_KEY, _REPLACED), rows)
    mine = and_(preferences.c.formation_id == tx.formation_id, preferences.c.user_pk == hit.member_pk)
    if tx.connection.execute(select(func.count()).select_from(preferences).where(mine)).scalar_one() > MAX_PREFERENCES:
        raise TooLargeError(
            f"There would be more than {MAX_PREFERENCES} preferences; nothing was set. Delete some, or put what "
            "belongs together into one as an object.",
            limit=MAX_PREFERENCES,
        )


def _times(tx: Transaction, hit: Hit, keys: Sequence[str]) -> dict[str, int]:
    """Return when those of ``keys`` are set that the person has already from now or later: just after that.

    What is set last is what is read, also where the clocks of two machines disagree or one was put back.
    """
    newest = func.max(preferences.c.updated_at)
    statement = (
        select(preferences.c.key, newest)
        .where(
            preferences.c.formation_id == tx.formation_id,
            preferences.c.user_pk.in_(members_of(tx, hit)),
            preferences.c.key.in_(keys),
            preferences.c.updated_at >= tx.now,
        )
        .group_by(preferences.c.key)
    )
    return {key: at + 1 for key, at in tx.connection.execute(statement)}


def folded_preferences(
    formation_id: str | ColumnElement[str], members: Select[int] | ScalarSelect[int], *, shareable_only: bool = False
) -> Select[Any]:
    """Return the statement for a person's preferences: one row for each key, the newest of all members.

    Its columns are key, value (JSON), shareable, channel, created_at and updated_at; its order is the database's own.
    ``shareable_only`` leaves out what others must not read *after* folding: where the newest is private, no older one
    stands in for it.
    """
    newest_first = (preferences.c.updated_at.desc(), preferences.c.pk.desc())
    place = func.row_number().over(partition_by=preferences.c.key, order_by=newest_first)
    ranked = (
        select(preferences, place.label("place"))
        .where(preferences.c.formation_id == formation_id, preferences.c.user_pk.in_(members))
        .subquery()
    )
    # The identifier's row also tells the channel when it was unlinked: it stays as a tombstone.
    through = and_(identifiers.c.formation_id == ranked.c.formation_id, identifiers.c.pk == ranked.c.identifier_pk)
    statement = (
        select(
            ranked.c.key,
            ranked.c.value,
            ranked.c.shareable,
            identifiers.c.type.label("channel"),
            ranked.c.created_at,
            ranked.c.updated_at,
        )
        .select_from(ranked.outerjoin(identifiers, through))
        .where(ranked.c.place == 1)
    )
    return statement.where(ranked.c.shareable) if shareable_only else statement


def read_preferences(tx: Transaction, hit: Hit, key: str | None = None) -> list[PreferenceRecord]:
    """Return the person's preferences by key, or the one of ``key``."""
    statement = folded_preferences(tx.formation_id, members_of(tx, hit))
    if key is not None:
        statement = statement.where(statement.selected_columns.key == key)
    records = [preference_record(row) for row in tx.connection.execute(statement)]
    # Sorted here: databases order texts by rules of their own.
    return sorted(records, key=lambda record: record["key"])


def preference_record(row: Row[Any]) -> PreferenceRecord:
    """Return a row of :func:`folded_preferences` as it is shown."""
    return {
        "key": row.key,
        "value": json.loads(row.value),
        "shareable": bool(row.shareable),
        "channel": row.channel,
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
    }


def delete_preferences(tx: Transaction, hit: Hit, key: str) -> int:
    """Delete what the person has set under ``key``, in all members, and return how many rows went."""
    raise_revisions(tx, hit)
    gone = tx.connection.execute(
        delete(preferences).where(
            preferences.c.formation_id == tx.formation_id,
            preferences.c.user_pk.in_(members_of(tx, hit)),
            preferences.c.key == key,
        )
    ).rowcount
    tx.erased |= gone > 0
    return gone
