"""Resolving: who an identifier means, and first contact where it means nobody yet."""

from __future__ import annotations

from muxi_identity.errors import UserNotFoundError
from muxi_identity.identifiers import Identifier, PublicId
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.first_contact import first_contact
from muxi_identity.identity.lookup import Answer, Lookup, Reference, plain_key
from muxi_identity.identity.matching import choose, is_barred
from muxi_identity.identity.people import new_public_id
from muxi_identity.identity.running import Caller, Runner
from muxi_identity.identity.slots import new_identifier
from muxi_identity.storage.errors import RaceLost
from muxi_identity.storage.rows import BucketRow, Change, NewPerson


class Resolver:
    """Resolves the references of one formation."""

    def __init__(self, runner: Runner, lookup: Lookup) -> None:
        self._runner = runner
        self._lookup = lookup

    async def existing(self, reference: Reference) -> Hit:
        """Return who ``reference`` means by the database itself.

        Raises:
            UserNotFoundError: Nobody.
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        answer = await self._lookup.find(reference, fresh=True)
        if answer.hit is None:
            raise unknown(reference)
        return answer.hit

    async def pin(self, identifier: Identifier) -> Identifier:
        """Return the very identifier that ``identifier`` means now, and never another one of its spelling: with the
        type and the scope of its row. One that nobody has stays as first contact would make it, and may make it still.

        Raises:
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        bucket = self._runner.bucket(identifier.fold)
        rows = await self._runner.read(lambda tx: tx.bucket_rows([bucket])[bucket])
        choice = choose(rows, identifier, self._runner.clock.now())
        pinned = identifier._replace(guessed=False, exact=True)
        if choice is None:
            return pinned._replace(secret=identifier.secret or is_barred(rows))
        row = choice.row
        return pinned._replace(type=row.type, scope=row.scope, value=row.value, secret=row.secret, known=True)

    async def resolve(
        self, reference: Reference, *, create: bool, caller: Caller, fresh: bool = False
    ) -> tuple[Answer, bool]:
        """Return who ``reference`` means, and whether this call made the user. ``fresh`` goes around the cache.

        Raises:
            UserNotFoundError: Unknown, and not to be created; or a secret, which never makes first contact.
            AmbiguousIdentifierError: Untyped, and several people have it.
        """
        if isinstance(reference, PublicId) or not create or reference.secret or reference.known:
            answer = await self._lookup.find(reference, fresh=fresh)
            if answer.hit is None:
                raise unknown(reference)
            return answer, False
        made: str | None = None

        async def meet(bucket: bytes) -> list[BucketRow] | None:
            nonlocal made
            person, change = self._newcomer(reference, bucket, caller)
            made = person.public_id
            try:
                return await self._runner.database.find_or_create(self._runner.formation_id, person, change)
            except RaceLost:
                return None

        plain = not (fresh or reference.expires_at or reference.verified or self._runner.tells_of_newcomers)
        answer = await self._lookup.find(reference, fresh=fresh, meet=meet if plain else None)
        if answer.hit is not None:
            return answer, answer.hit.public_id == made
        if answer.barred:
            raise unknown(reference)
        return await self._first_contact(reference, caller)

    def _newcomer(self, identifier: Identifier, bucket: bytes, caller: Caller) -> tuple[NewPerson, Change]:
        change = self._runner.change_by(caller)
        new = new_identifier(identifier, bucket, change.at, False)
        return NewPerson(new_public_id(), established=identifier.verified, identifiers=[new]), change

    async def _first_contact(self, identifier: Identifier, caller: Caller) -> tuple[Answer, bool]:
        bucket = self._runner.bucket(identifier.fold)
        person, change = self._newcomer(identifier, bucket, caller)
        token = self._runner.cache.bucket_tokens.take(bucket)
        generation = self._runner.cache.member_tokens.generation
        try:
            made = None
            if not self._runner.tells_of_newcomers:
                made = await self._runner.database.create_person(self._runner.formation_id, person, change)
        except RaceLost:
            made = None
        if made is not None:
            hit = Hit(made.identifier_pks[0], made.user_pk, made.user_pk, person.public_id)
            expires_at = person.identifiers[0].expires_at
            seconds = None if expires_at is None else (expires_at - change.at) / 1e6
            self._runner.cache.put(plain_key(identifier), hit, token, generation, seconds=seconds)
            return Answer(hit, identifier.shown), True
        # The bucket is in use, or was until a moment ago: the ordinary transaction decides.
        found = await self._runner.change(lambda tx: first_contact(tx, identifier), caller)
        if found is None:
            raise unknown(identifier)
        return Answer(found[0], identifier.shown), found[1]


def unknown(reference: Reference) -> UserNotFoundError:
    """Return the error for a reference that means nobody."""
    if isinstance(reference, PublicId):
        return UserNotFoundError(f"There is no user {reference.user_id} in this formation.", user_id=reference.user_id)
    # The value is not repeated: passed bare, it may be a key that nobody linked yet.
    kind = "That identifier" if reference.type is None else f"That {reference.type} identifier"
    if reference.secret:
        mend = "a secret must be linked before it is used, and one that was revoked or has expired stays so"
    elif reference.known:
        mend = "it was when the token was made, and was unlinked or linked under a type since: ask for another token"
    else:
        mend = "link it first, or let first contact create a user (create_user=True, chat)"
    return UserNotFoundError(f"{kind} is not linked to anybody in this formation; {mend}.")
