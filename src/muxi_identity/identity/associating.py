"""Associating: the ways of a link. In one statement where nobody has any of the identifiers, else as a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from muxi_identity.arguments import check_idempotency_key
from muxi_identity.errors import InvalidRequestError
from muxi_identity.identifiers import Identifier, IdentifierRules, hint, parse_identifier, parse_reference
from muxi_identity.identity.deciding import ANONYMOUS, Item, OnConflict
from muxi_identity.identity.idempotency import earlier_answer, fingerprint, keep_answer
from muxi_identity.identity.linking import Linked, distinct_items, link
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.people import new_public_id
from muxi_identity.identity.resolving import Resolver
from muxi_identity.identity.running import Caller, Runner
from muxi_identity.identity.slots import new_identifier
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import LinkResult
from muxi_identity.storage.errors import RaceLost
from muxi_identity.storage.rows import NewPerson

MAX_IDENTIFIERS = 1_000  # in one call


class Associator:
    """Links identifiers in one formation."""

    def __init__(self, runner: Runner, resolver: Resolver) -> None:
        self._runner = runner
        self._resolver = resolver

    async def associate(
        self,
        given: Sequence[object],
        user_id: object,
        *,
        on_conflict: OnConflict,
        verified: bool,
        idempotency_key: str | None,
        caller: Caller,
    ) -> LinkResult:
        """Link identifiers to one person; see :func:`muxi_identity.identity.linking.link`.

        Raises:
            IdentifierConflictError: Some belong to other users, and ``on_conflict`` does not settle it.
            IdentifierLimitError: The person would have too many.
            UserNotFoundError: ``user_id`` names nobody.
            AmbiguousIdentifierError: One is untyped, and several people have it.
            InvalidRequestError: An argument has the wrong shape.
        """
        identifiers = parse_identifiers(given, self._runner.rules)
        user = None if user_id is None else parse_reference(user_id, self._runner.rules)
        if idempotency_key is None:
            target = await self.target(user)
            linked = await self._link_unknown(identifiers, target, verified, caller)
            if linked is None:
                linked = await self._runner.change(
                    lambda tx: link(tx, identifiers, target, on_conflict, verified), caller
                )
        else:
            linked = await self._link_once(
                identifiers, user, on_conflict, verified, check_idempotency_key(idempotency_key), caller
            )
        for each in identifiers:
            if each.secret:
                self._runner.cache.forget(each.fold)  # it may have written in bare, when nobody knew it for a secret
        return _link_result(identifiers, linked)

    async def target(self, user: Reference | None) -> str | None:
        """Return the public id of the member that new rows of ``user`` go under.

        Raises:
            UserNotFoundError: It is an identifier that nobody has.
            AmbiguousIdentifierError: It is untyped, and several people have it.
        """
        if isinstance(user, Identifier):
            # New rows go under the member that the identifier belongs to, so that an unmerge leaves them with it.
            hit = await self._resolver.existing(user)
            return await self._runner.read(lambda tx: tx.public_id_of(hit.member_pk)) or hit.public_id
        return None if user is None else user.user_id

    async def _link_unknown(
        self, identifiers: Sequence[Identifier], target: str | None, verified: bool, caller: Caller
    ) -> Linked | None:
        """Link in one statement where nobody has any of the identifiers; None where that is not so.

        It writes no outbox: where somebody is to be told of it, the ordinary transaction does it.
        """
        if self._runner.tells_of_newcomers:
            return None
        change = self._runner.change_by(caller)
        buckets = [self._runner.bucket(identifier.fold) for identifier in identifiers]
        items = plain_items(identifiers, buckets, self._runner.rules)
        if items is None:
            return None
        new = [new_identifier(item.identifier, item.bucket, change.at, verified) for item in items]
        linked = Linked(target or new_public_id(), new=[item.position for item in items])
        person = NewPerson(linked.user_id, established=True, identifiers=new)
        limit, held, caps = self._runner.rules.max_per_user, *_count_types(items, self._runner.rules)
        try:
            if target is None:
                created = await self._runner.database.create_person(self._runner.formation_id, person, change)
                linked.created = True
                return None if created is None else linked
            room = [(kind, cap - held[kind]) for kind, cap in caps.items() if kind is not None and cap is not None]
            extended = await self._runner.database.extend_person(
                self._runner.formation_id, person, change, limit=limit, caps=room
            )
        except RaceLost:
            return None
        if extended is None:
            return None
        linked.user_id = extended[1]
        return linked

    async def _link_once(
        self,
        identifiers: list[Identifier],
        user: Reference | None,
        on_conflict: OnConflict,
        verified: bool,
        key: str,
        caller: Caller,
    ) -> Linked:
        request = fingerprint(self._runner.bucket, identifiers, user, on_conflict, verified)
        if isinstance(user, Identifier):
            # Before it is looked up: after what the first call did, it may mean somebody else, or nobody.
            done = await self._runner.read(lambda tx: earlier_answer(tx, key, request))
            if done is not None:
                return Linked(**done)
        target = await self.target(user)

        def work(tx: Transaction) -> Linked:
            done = earlier_answer(tx, key, request)
            if done is not None:
                return Linked(**done)
            linked = link(tx, identifiers, target, on_conflict, verified)
            keep_answer(tx, key, request, asdict(linked))
            return linked

        return await self._runner.change(work, caller)


def plain_items(
    identifiers: Sequence[Identifier], buckets: Sequence[bytes], rules: IdentifierRules
) -> list[Item] | None:
    """Return what a new person with these identifiers has, if nobody has any of them; ``buckets`` are theirs.

    None where linking them takes the ordinary way, whoever has them: two that are spelt alike, anonymous ones, and
    too many (unless the person has them already).
    """
    items = distinct_items(identifiers, buckets)
    if len({item.bucket for item in items}) != len(items) or any(item.identifier.type == ANONYMOUS for item in items):
        return None
    held, caps = _count_types(items, rules)
    if len(items) > rules.max_per_user or any(cap is not None and held[kind] > cap for kind, cap in caps.items()):
        return None
    return items


def _count_types(
    items: Sequence[Item], rules: IdentifierRules
) -> tuple[dict[str | None, int], dict[str | None, int | None]]:
    """Return how many there are of each type, and how many a person may have of it."""
    held: dict[str | None, int] = {}
    for item in items:
        kind = item.identifier.type
        held[kind] = held.get(kind, 0) + 1
    return held, {kind: rules.rule(kind).max_per_user for kind in held}


def parse_identifiers(given: object, rules: IdentifierRules) -> list[Identifier]:
    """Parse the identifiers of one call.

    Raises:
        InvalidRequestError: They are no list, none, or too many.
        InvalidIdentifierError: One of them can be nobody's.
    """
    if isinstance(given, str | bytes | bytearray | memoryview) or not isinstance(given, Sequence) or not given:
        raise InvalidRequestError(
            "identifiers must be a list with at least one identifier; each is 'value', ('value', 'type') or "
            "{'identifier': 'value', 'type': 'type'}."
        )
    if len(given) > MAX_IDENTIFIERS:
        raise InvalidRequestError(f"One call takes at most {MAX_IDENTIFIERS} identifiers, not {len(given)}.")
    return [parse_identifier(each, rules) for each in given]


def _link_result(identifiers: Sequence[Identifier], linked: Linked) -> LinkResult:
    # A key that was passed bare is known for a secret by its row, or by standing there typed as well: it is shown by
    # its hint all the same.
    secret = {identifiers[position].fold for position in linked.secrets}
    secret.update(each.fold for each in identifiers if each.secret)
    shown = [hint(each.fold) if each.fold in secret else each.shown for each in identifiers]
    return {
        "muxi_user_id": linked.user_id,
        "created": linked.created,
        "identifiers": [{"identifier": name, "type": each.type} for name, each in zip(shown, identifiers, strict=True)],
        "new_identifiers": [shown[position] for position in linked.new],
        "existing_identifiers": [shown[position] for position in linked.existing],
        "skipped": [shown[position] for position in linked.skipped],
        "merge_ids": list(linked.merge_ids),
    }
