"""Who an identifier means, and what a person is known by."""

from __future__ import annotations

from typing import Literal, overload

from muxi_identity.client.asynchronous.base import AsyncCalls
from muxi_identity.client.operations import Given, checked_flag
from muxi_identity.models import IdentifierRecord, LinkCode, LinkRedemption, ResolvedUser, UnlinkResult, UserRecord


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

    async def create_link_code(self, user_id: Given) -> LinkCode:
        """Make a code that joins this identifier's person with whoever types it in another channel.

        Good once, for ten minutes, and until the identifier asks for another one. Give it only to whoever wrote in
        under this identifier. In a chat, ``/link`` asks for one.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: A public id or an anonymous identifier, which prove nothing.

        >>> asked = await formation.create_link_code(("U98765ABC", "slack"))
        >>> len(asked["code"])
        9
        """
        formation = await self._formation()
        return await formation.link_codes.create(formation.parse(self._given(user_id)), self._caller("link_code"))

    async def redeem_link_code(self, code: str, user_id: Given, *, confirm: bool = False) -> LinkRedemption:
        """Show what a code joins with this identifier's person; with ``confirm``, join the two.

        Show the person the preview first, and confirm when they said yes: somebody else may have talked them into
        typing the code. The two people are merged (``merge_id``), and both identifiers are verified. Case, spaces
        and hyphens of the code do not count.

        Raises:
            LinkCodeError: The code is unknown, used, expired or void, or was asked for under this very identifier.
            LinkCodeLimitError: Five wrong ones in ten minutes; ``retry_after`` says for how long none is taken.
            IdentifierLimitError: The person would have too many identifiers.
            AmbiguousIdentifierError: The identifier has no type and several people are known by it: pass the type.
            InvalidRequestError: A public id or an anonymous identifier, which prove nothing.

        >>> asked = await formation.create_link_code(("U98765ABC", "slack"))
        >>> shown = await formation.redeem_link_code(asked["code"], "alice@email.com")
        >>> shown["theirs"]
        [{'type': 'slack', 'hint': 'U9...C'}]
        >>> (await formation.redeem_link_code(asked["code"], "alice@email.com", confirm=True))["joined"]
        True
        """
        formation = await self._formation()
        return await formation.link_codes.redeem(
            formation.parse(self._given(user_id)),
            code,
            confirm=checked_flag("confirm", confirm),
            caller=self._caller("link_code"),
        )
