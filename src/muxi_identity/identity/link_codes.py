"""Link codes: a person joins their own channels, with proof of both.

A code is asked for in one channel and typed in another. Who can do both has both: the two identifiers are verified,
and their people become one. A code is single use, short-lived, kept as a keyed hash, and void as soon as the
identifier that asked for it is not that member's any more, or somebody took the two people apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.sql import ColumnElement

from muxi_identity.errors import InvalidRequestError, LinkCodeError
from muxi_identity.identity.attempts import check_attempts, count_failure
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.codes import new_code, plain_code, shown
from muxi_identity.identity.deciding import ANONYMOUS
from muxi_identity.identity.history import Event, record
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.merging import merge
from muxi_identity.identity.resolving import Resolver
from muxi_identity.identity.running import ATTEMPTS, Caller, Runner, identity_changed
from muxi_identity.identity.separations import separated_at
from muxi_identity.identity.slots import check_limits, count_live
from muxi_identity.identity.transaction import Person, Transaction
from muxi_identity.models import IdentifierHint, LinkCode, LinkRedemption, iso
from muxi_identity.storage.errors import GuardRefused, RaceLost
from muxi_identity.storage.tables import identifiers, link_codes, users

T = TypeVar("T")
SECONDS = 600
SOURCE = "link_code"
_MOST_HINTS = 20


class Side(NamedTuple):
    """One of the two channels: the identifier, the member that it belongs to, and the root of that."""

    identifier_pk: int
    member_pk: int
    root_pk: int
    public_id: str
    type: str | None
    bucket: bytes


class Found(NamedTuple):
    """A code that can be redeemed, with both sides locked."""

    pk: int
    expires_at: int
    asking: Side
    redeeming: Side
    people: dict[int, Person]

    @property
    def already_one(self) -> bool:
        """Whether both are the same person."""
        return self.asking.root_pk == self.redeeming.root_pk


class LinkCodes:
    """The link codes of one formation."""

    def __init__(self, runner: Runner, resolver: Resolver) -> None:
        self._runner = runner
        self._resolver = resolver

    async def create(self, reference: Reference, caller: Caller) -> LinkCode:
        """Make a code for whoever ``reference`` means, in place of the one that was open.

        Raises:
            UserNotFoundError: It is a public id that does not exist, or a secret that is not linked.
            AmbiguousIdentifierError: Untyped, and several people have it.
            InvalidRequestError: It is a public id, or anonymous.
        """
        return await self.with_identifier(reference, ask, caller)

    async def redeem(self, reference: Reference, code: object, *, confirm: bool, caller: Caller) -> LinkRedemption:
        """Show what ``code`` joins with whoever ``reference`` means; with ``confirm`` join them.

        Raises:
            LinkCodeError: The code joins nothing.
            LinkCodeLimitError: Too many wrong ones were typed.
            IdentifierLimitError: The person would have too many identifiers.
            InvalidRequestError: The code is no text; or it is a public id, or anonymous, who redeems it.
        """
        if not isinstance(code, str):
            raise InvalidRequestError("code must be a text, as create_link_code gave it.")

        def work(tx: Transaction, hit: Hit) -> LinkRedemption | None:
            found = find_code(tx, hit, code)
            if found is None:
                return None
            return join(tx, found) if confirm else preview(tx, found)

        redeemed = await self.with_identifier(reference, work, caller)
        if redeemed is None:  # only now: that a wrong one was tried is to stay counted
            raise no_such_code()
        return redeemed

    async def with_identifier(self, reference: Reference, work: Callable[[Transaction, Hit], T], caller: Caller) -> T:
        """Run ``work`` in a writing transaction with whoever ``reference`` means, from first contact on.

        ``work`` raises GuardRefused where that is not so any more, and is run again with whoever it means by then.

        Raises:
            IdentityChangedError: It went from one to another again and again.
        """
        fresh = False
        for _ in range(ATTEMPTS):
            answer, _created = await self._resolver.resolve(reference, create=True, caller=caller, fresh=fresh)
            hit = answer.hit
            assert hit is not None
            try:
                return await self._runner.guarded_change(
                    lambda tx, hit=hit: work(tx, hit),  # type: ignore[misc]
                    caller._replace(source=SOURCE),
                )
            except GuardRefused:
                fresh = True
        raise identity_changed()


def no_such_code() -> LinkCodeError:
    """Return the error for a code that joins nothing, whatever the reason."""
    return LinkCodeError("That link code is not valid, or not any more; ask for a new one in the other channel.")


def ask(tx: Transaction, hit: Hit) -> LinkCode:
    """Make a code for the caller's identifier, in place of the one that was open.

    Raises:
        GuardRefused: The identifier is not, or no longer, the member's.
        InvalidRequestError: There is none, or it is anonymous.
        RaceLost: It was asked for twice at the same time.
    """
    side = _side(tx, _named(hit))
    tx.lock_people([side.root_pk])
    if _side(tx, _named(hit)) != side:
        raise RaceLost
    tx.connection.execute(
        delete(link_codes).where(
            link_codes.c.formation_id == tx.formation_id,
            link_codes.c.user_pk == side.member_pk,
            link_codes.c.identifier_pk == side.identifier_pk,
        )
    )
    code = new_code()
    expires_at = tx.now + SECONDS * 1_000_000
    (pk,) = tx.new_keys(1)
    tx.connection.execute(
        insert(link_codes).values(
            formation_id=tx.formation_id,
            pk=pk,
            user_pk=side.member_pk,
            identifier_pk=side.identifier_pk,
            code_hash=_hash(tx, code),
            asked_as=side.public_id,
            created_at=tx.now,
            expires_at=expires_at,
        )
    )
    return {"code": code, "expires_at": iso(expires_at)}


def find_code(tx: Transaction, hit: Hit, typed: str) -> Found | None:
    """Return the code that the caller typed, both people locked; None, and one more failure counted, where it joins
    nothing.

    Raises:
        GuardRefused: The identifier is not, or no longer, the member's.
        InvalidRequestError: There is none, or it is anonymous.
        LinkCodeLimitError: Too many wrong ones were typed.
        RaceLost: What was read changed before it was locked.
    """
    digest = _hash(tx, typed)
    found = _locked(tx, hit, link_codes.c.code_hash == digest, checked=True)
    if found is None:
        count_failure(tx, _named(hit).pk)
    return found


def find_pending(tx: Transaction, hit: Hit, message_pk: int) -> Found | None:
    """Return the code whose preview the caller was shown in this message, both people locked; None where there is
    none, or not any more.

    Raises:
        GuardRefused: The identifier is not, or no longer, the member's.
        RaceLost: What was read changed before it was locked.
    """
    which = (
        (link_codes.c.pending_identifier_pk == hit.identifier_pk)
        & (link_codes.c.pending_message_pk == message_pk)
        & (link_codes.c.pending_until > tx.now)
    )
    if _code(tx, which)[0] is None:
        return None  # nearly always: somebody said yes to something else
    return _locked(tx, hit, which, checked=False)


def set_pending(tx: Transaction, found: Found, message_pk: int) -> None:
    """Remember that whoever redeems the code was asked for a yes in this message."""
    tx.connection.execute(
        update(link_codes)
        .where(link_codes.c.formation_id == tx.formation_id, link_codes.c.pk == found.pk)
        .values(
            pending_identifier_pk=found.redeeming.identifier_pk,
            pending_message_pk=message_pk,
            pending_until=tx.now + SECONDS * 1_000_000,
        )
    )


def revoke(tx: Transaction, found: Found) -> None:
    """Let a code join nothing any more."""
    tx.connection.execute(
        delete(link_codes).where(link_codes.c.formation_id == tx.formation_id, link_codes.c.pk == found.pk)
    )


def preview(tx: Transaction, found: Found) -> LinkRedemption:
    """Return what a code would join. Nothing is written."""
    return {
        "joined": False,
        "already_one": found.already_one,
        "yours": _hints(tx, found.people[found.redeeming.root_pk]),
        "theirs": _hints(tx, found.people[found.asking.root_pk]),
        "expires_at": iso(found.expires_at),
        "muxi_user_id": None,
        "merge_id": None,
    }


def join(tx: Transaction, found: Found) -> LinkRedemption:
    """Join the people of a code, and let it join nobody else.

    The established one stays, else the older one. Both identifiers are verified, since whoever did this has both.

    Raises:
        IdentifierLimitError: The person would have too many identifiers.
    """
    result = preview(tx, found)
    sides = sorted(found.people.values(), key=lambda one: (not one.established, one.created_at, one.root_pk))
    if len(sides) == 2:
        held = count_live(tx, [pk for person in sides for pk in person.member_pks])
        check_limits(tx.rules.max_per_user, {kind: tx.rules.rule(kind).max_per_user for kind in held}, held)
    revoke(tx, found)
    primary, merge_id = sides[0], None
    if len(sides) == 2:
        merge_id = merge(tx, primary, sides[1], mode=SOURCE)
    for side in (found.asking, found.redeeming):
        _verify(tx, side, primary)
    tx.touch([primary.root_pk], establish=primary.root_pk)
    result["joined"], result["muxi_user_id"], result["merge_id"] = True, primary.public_id, merge_id
    return result


def _verify(tx: Transaction, side: Side, person: Person) -> None:
    verified = tx.connection.execute(
        update(identifiers)
        .where(
            identifiers.c.formation_id == tx.formation_id,
            identifiers.c.pk == side.identifier_pk,
            identifiers.c.verified_at.is_(None),
        )
        .values(verified_at=tx.now, source=SOURCE)
    )
    if verified.rowcount:
        tx.fence.buckets([side.bucket])
        record(tx, Event.IDENTIFIER_UPDATE, person.public_id, identifier_pk=side.identifier_pk)


class _Named(NamedTuple):
    pk: int
    member_pk: int


def _named(hit: Hit) -> _Named:
    if hit.identifier_pk is None:
        raise InvalidRequestError(
            "A link code proves that somebody has an identifier: name the identifier, not the public id."
        )
    return _Named(hit.identifier_pk, hit.member_pk)


def _locked(tx: Transaction, hit: Hit, which: ColumnElement[bool], *, checked: bool) -> Found | None:
    """Return the code that ``which`` is true of, if it can be redeemed, with both people locked.

    Whoever changes one of the two identifiers or people waits until the transaction ends, and so does whoever redeems
    the same code: of two, the second finds it gone. ``checked``: the code's time and the caller's attempts are.
    """
    redeeming = _side(tx, _named(hit))
    code, asking = _code(tx, which)
    people = tx.lock_people({redeeming.root_pk} if asking is None else {redeeming.root_pk, asking.root_pk})
    if _side(tx, _named(hit)) != redeeming or _code(tx, which) != (code, asking):
        raise RaceLost
    if checked:
        check_attempts(tx, redeeming.identifier_pk)
    if code is None or asking is None or asking.identifier_pk == redeeming.identifier_pk:
        return None
    if checked and code.expires_at <= tx.now:
        return None
    if asking.root_pk != redeeming.root_pk:
        apart = separated_at(tx, people[asking.root_pk], people[redeeming.root_pk])
        if apart is not None and apart >= code.created_at:
            return None  # somebody took them apart since: whoever still wants to be one asks anew
    return Found(code.pk, code.expires_at, asking, redeeming, people)


def _code(tx: Transaction, which: ColumnElement[bool]) -> tuple[Any, Side | None]:
    """Return the row of a code, and the side that asked for it; the side is None where the code is void."""
    code = tx.connection.execute(
        select(
            link_codes.c.pk,
            link_codes.c.user_pk,
            link_codes.c.identifier_pk,
            link_codes.c.asked_as,
            link_codes.c.created_at,
            link_codes.c.expires_at,
        ).where(link_codes.c.formation_id == tx.formation_id, which)
    ).one_or_none()
    if code is None:
        return None, None
    try:
        side = _side(tx, _Named(code.identifier_pk, code.user_pk))
    except (GuardRefused, InvalidRequestError):
        return code, None
    return code, side if side.public_id == code.asked_as else None


def _side(tx: Transaction, named: _Named) -> Side:
    """Read one side as it is now.

    Raises:
        GuardRefused: The identifier is not, or no longer, the member's.
        InvalidRequestError: It is anonymous.
    """
    row = tx.connection.execute(
        select(users.c.root_pk, users.c.public_id, identifiers.c.type, identifiers.c.bucket)
        .join(
            identifiers,
            (identifiers.c.formation_id == users.c.formation_id) & (identifiers.c.user_pk == users.c.pk),
        )
        .where(
            tx.users_where(users.c.pk == named.member_pk, identifiers.c.pk == named.pk),
            identifiers.c.unlinked_at.is_(None),
            or_(identifiers.c.expires_at.is_(None), identifiers.c.expires_at > tx.now),
        )
    ).one_or_none()
    if row is None:
        raise GuardRefused
    if row.type == ANONYMOUS:
        # A shared device: whoever uses it next would be this person.
        raise InvalidRequestError("An anonymous identifier proves nothing: sign in first, then link.")
    return Side(named.pk, named.member_pk, row.root_pk, row.public_id, row.type, row.bucket)


def _hints(tx: Transaction, person: Person) -> list[IdentifierHint]:
    statement = (
        select(identifiers.c.type, identifiers.c.spelling, identifiers.c.secret)
        .where(
            identifiers.c.formation_id == tx.formation_id,
            identifiers.c.user_pk.in_(person.member_pks),
            identifiers.c.unlinked_at.is_(None),
            or_(identifiers.c.expires_at.is_(None), identifiers.c.expires_at > tx.now),
        )
        .order_by(identifiers.c.linked_at, identifiers.c.pk)
        .limit(_MOST_HINTS)
    )
    return [
        {"type": row.type, "hint": shown(row.spelling, row.type, secret=row.secret)}
        for row in tx.connection.execute(statement)
    ]


def _hash(tx: Transaction, typed: str) -> bytes:
    # Looked up by a keyed hash, a code tells nothing by the time that it takes: what is compared is not what was typed.
    # What can be no code is looked for all the same, and counted as a wrong one.
    return tx.bucket.fingerprint(f"link code {plain_code(typed) or 'none'}")
