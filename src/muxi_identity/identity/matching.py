"""Which row of a bucket an identifier means. Pure.

A typed look-up is exact; an untyped one is a guess that is answered only where it can mean one person. In a link, an
untyped and a typed identifier of the same spelling are the same identifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from muxi_identity.errors import AmbiguousIdentifierError
from muxi_identity.identifiers import Identifier, same_value
from muxi_identity.identity.cache import Hit
from muxi_identity.storage.rows import BucketRow


class Choice(NamedTuple):
    """The row that an identifier means. ``certain`` is false where rows of several members of one person matched:
    such an answer must not be cached, since an unmerge would make it ambiguous."""

    row: BucketRow
    certain: bool


def choose(rows: Sequence[BucketRow], identifier: Identifier, now: int) -> Choice | None:
    """Return what a look-up of ``identifier`` finds among the rows of its bucket, None where it is unknown.

    Raises:
        AmbiguousIdentifierError: Several people have it.
    """
    if len(rows) == 1 and _is_plainly(rows[0], identifier):
        return Choice(rows[0], certain=True)  # nearly always: what follows says the same of it, and takes its time
    live = [row for row in rows if row.live(now)]
    found = _matching(live, identifier)
    if not found:
        return None
    if len({row.root_pk for row in found}) > 1:
        raise _ambiguous(identifier, found, "several people have it")
    return Choice(found[0], certain=len({row.user_pk for row in found}) == 1)


def _is_plainly(row: BucketRow, identifier: Identifier) -> bool:
    return (
        row.value == identifier.value
        and row.type == identifier.type
        and row.scope == identifier.scope
        and row.unlinked_at is None
        and row.expires_at is None
    )


def choose_row(rows: Sequence[BucketRow], identifier: Identifier, now: int) -> BucketRow | None:
    """Return the one row that ``identifier`` means, None where it is unknown: for what changes that row.

    Raises:
        AmbiguousIdentifierError: It means several, of several people or of one.
    """
    found = _matching([row for row in rows if row.live(now)], identifier)
    if len(found) > 1:
        raise _ambiguous(identifier, found, "it stands for several identifiers")
    return found[0] if found else None


def _matching(live: Sequence[BucketRow], identifier: Identifier) -> list[BucketRow]:
    if identifier.exact:
        return [row for row in live if _is_exactly(identifier, row, any_scope=False)]
    if identifier.guessed:
        untyped = [row for row in live if row.type is None and row.value == identifier.value]
        return untyped or [row for row in live if row.type is not None and _is_spelling_of(identifier, row)]
    found = [row for row in live if _is_exactly(identifier, row, any_scope=identifier.scope is None)]
    # Without a scope, whoever was linked without one comes first: another workspace must not lock them out.
    return [row for row in found if row.scope == identifier.scope] or found


def hit_of(row: BucketRow) -> Hit:
    """Return what a live row says: identifier, member and root."""
    assert row.user_pk is not None
    assert row.root_pk is not None
    assert row.public_id is not None
    return Hit(row.pk, row.user_pk, row.root_pk, row.public_id)


def same_identifier(rows: Sequence[BucketRow], identifier: Identifier, now: int) -> list[BucketRow]:
    """Return the live rows that a *link* of ``identifier`` takes for it, the one to be kept first.

    Raises:
        AmbiguousIdentifierError: It is untyped, and several people have its spelling under types.
    """
    live = [row for row in rows if row.live(now)]
    if identifier.guessed:
        found = _matching(live, identifier)
        if len({row.root_pk for row in found}) > 1:
            raise _ambiguous(identifier, found, "several people have it")
        return found
    exact = [row for row in live if _is_exactly(identifier, row, any_scope=False)]
    untyped = [row for row in live if row.type is None and _would_be(identifier, row)]
    return exact + untyped


def is_barred(rows: Iterable[BucketRow]) -> bool:
    """Tell whether nobody may have an identifier anew whose bucket holds ``rows`` and that none of them matches.

    So it is where one of them is a secret, live or a tombstone: one that was revoked or has expired stays unknown for
    ever, under whatever type it comes back, and no key is ever stored in clear because it came under a wrong type.
    """
    return any(row.secret for row in rows)


def would_shadow(rows: Iterable[BucketRow], identifier: Identifier, now: int) -> bool:
    """Tell whether an exact identifier that nobody has must make no first contact: its row, with less of a type or a
    scope than one that is there, would come before that one for whoever means it by this spelling."""
    if not identifier.exact:
        return False
    loose = identifier._replace(exact=False, guessed=identifier.type is None)
    return bool(_matching([row for row in rows if row.live(now)], loose))


def _is_exactly(identifier: Identifier, row: BucketRow, *, any_scope: bool) -> bool:
    if row.type != identifier.type or not (any_scope or row.scope == identifier.scope):
        return False
    return row.secret or row.value == identifier.value


def _is_spelling_of(identifier: Identifier, row: BucketRow) -> bool:
    # Of a secret only the bucket is kept, and only the very same spelling leads to it.
    return row.secret or same_value(identifier.spelling, row.type, row.value)


def _would_be(identifier: Identifier, row: BucketRow) -> bool:
    return identifier.secret or same_value(row.spelling, identifier.type, identifier.value)


def _ambiguous(identifier: Identifier, rows: Sequence[BucketRow], why: str) -> AmbiguousIdentifierError:
    kinds = sorted({f"{row.type}/{row.scope}" if row.scope else str(row.type) for row in rows})
    which = "scope" if not identifier.guessed else "type"
    shown = next((row.spelling for row in rows if row.secret), identifier.shown)  # a key that was passed bare
    return AmbiguousIdentifierError(
        f"{shown!r} cannot be told: {why} ({', '.join(kinds)}). Pass the {which} with it.",
        identifier=shown,
        types=kinds,
    )
