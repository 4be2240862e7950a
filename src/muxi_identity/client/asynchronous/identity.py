"""Who an identifier means, and what a person is known by."""

from __future__ import annotations

from typing import Literal, overload

from muxi_identity.client.asynchronous.base import AsyncCalls
from muxi_identity.client.operations import Given, checked_flag
from muxi_identity.models import IdentifierRecord, ResolvedUser, UnlinkResult, UserRecord


class AsyncIdentityCalls(AsyncCalls):
    """Calls about one person's identifiers."""

    async def resolve_user(self, identifier: Given, create_user: bool = False) -> ResolvedUser:
        """Return who an identifier means, and make a user for an unknown one only if ``create_user``.

        Race-free: however many calls meet an unknown identifier at once, one makes the user and all get it. A
        cached answer comes without awaiting.

        Raises:
            UserNotFoundError: Nobody has it, and ``create_user`` is false; or it is a secret, which must be linked
                before it is used.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> made = await formation.resolve_user("new@email.com", create_user=True)
        >>> made["created"], (await formation.resolve_user("New@Email.com"))["created"]
        (True, False)
        """
        cached = self._cached(self._given(identifier))
        if cached is not None:
            return cached
        formation = await self._formation()
        return await formation.resolve(
            formation.parse(self._given(identifier)),
            create=checked_flag("create_user", create_user),
            caller=self._caller("resolve_user"),
        )

    async def find_user(self, identifier: Given) -> ResolvedUser | None:
        """Return who an identifier means, None where nobody does. Writes nothing.

        Raises:
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> await formation.find_user("nobody@email.com") is None
        True
        """
        cached = self._cached(self._given(identifier))
        if cached is not None:
            return cached
        formation = await self._formation()
        return await formation.find(formation.parse(self._given(identifier)))

    async def get_user(self, user_id: Given) -> UserRecord:
        """Return the record of a person, by public id or any identifier.

        The id of a user that was merged away answers with its root, named in ``merged_into``.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> made = await formation.create_user("usr_alice")
        >>> (await formation.get_user("usr_alice"))["established"]
        True
        """
        formation = await self._formation()
        return await formation.get_user(formation.parse(self._given(user_id)))

    @overload
    async def get_user_identifiers(self, user_id: Given, *, detailed: Literal[False] = False) -> list[str]: ...

    @overload
    async def get_user_identifiers(self, user_id: Given, *, detailed: Literal[True]) -> list[IdentifierRecord]: ...

    @overload
    async def get_user_identifiers(self, user_id: Given, *, detailed: bool) -> list[str] | list[IdentifierRecord]: ...

    async def get_user_identifiers(
        self, user_id: Given, *, detailed: bool = False
    ) -> list[str] | list[IdentifierRecord]:
        """Return a person's identifiers as they were spelt when they were linked, in linking order.

        Secrets are shown by a hint. ``detailed`` brings records with type, scope, proof, expiry and times.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> linked = await formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> await formation.get_user_identifiers(("U98765ABC", "slack"))
        ['alice@email.com', 'U98765ABC']
        """
        formation = await self._formation()
        records = await formation.identifiers_of(formation.parse(self._given(user_id)))
        return records if detailed else [record["identifier"] for record in records]

    async def unlink_user_identifier(
        self, identifier: Given, *, force: bool = False, source: str | None = None, reason: str | None = None
    ) -> UnlinkResult:
        """Unlink an identifier from whoever has it. What was recorded through it stays with the person.

        A secret that was unlinked is revoked for ever.

        Raises:
            IdentifierNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and stands for several identifiers: pass the type.
            LastIdentifierError: It is the person's last one; ``force=True`` unlinks it all the same.

        >>> linked = await formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> (await formation.unlink_user_identifier("alice@email.com"))["identifier"]
        'alice@email.com'
        """
        formation = await self._formation()
        return await formation.unlink(
            self._given(identifier), force=checked_flag("force", force), caller=self._caller(source, reason)
        )
