"""Who an identifier means, and what a person is known by.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from typing import Literal, overload

from muxi_identity.client.asynchronous.identity import AsyncIdentityCalls
from muxi_identity.client.blocking import BlockingCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import IdentifierRecord, ResolvedUser, UnlinkResult, UserRecord


class IdentityCalls(BlockingCalls):
    """Calls about one person's identifiers."""

    _async: AsyncIdentityCalls

    def resolve_user(self, identifier: Given, create_user: bool = False) -> ResolvedUser:
        """Return who an identifier means, and make a user for an unknown one only if ``create_user``.

        Race-free: however many calls meet an unknown identifier at once, one makes the user and all get it. A
        cached answer comes without another thread.

        Raises:
            UserNotFoundError: Nobody has it, and ``create_user`` is false; or it is a secret, which must be linked
                before it is used.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> made = formation.resolve_user("new@email.com", create_user=True)
        >>> made["created"], formation.resolve_user("New@Email.com")["created"]
        (True, False)
        """
        cached = self._async._cached(self._async._given(identifier))
        if cached is not None:
            return cached
        return self._run(self._async.resolve_user(identifier, create_user))

    def find_user(self, identifier: Given) -> ResolvedUser | None:
        """Return who an identifier means, None where nobody does. Writes nothing.

        Raises:
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> formation.find_user("nobody@email.com") is None
        True
        """
        cached = self._async._cached(self._async._given(identifier))
        if cached is not None:
            return cached
        return self._run(self._async.find_user(identifier))

    def get_user(self, user_id: Given) -> UserRecord:
        """Return the record of a person, by public id or any identifier.

        The id of a user that was merged away answers with its root, named in ``merged_into``.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> made = formation.create_user("usr_alice")
        >>> formation.get_user("usr_alice")["established"]
        True
        """
        return self._run(self._async.get_user(user_id))

    @overload
    def get_user_identifiers(self, user_id: Given, *, detailed: Literal[False] = False) -> list[str]: ...

    @overload
    def get_user_identifiers(self, user_id: Given, *, detailed: Literal[True]) -> list[IdentifierRecord]: ...

    @overload
    def get_user_identifiers(self, user_id: Given, *, detailed: bool) -> list[str] | list[IdentifierRecord]: ...

    def get_user_identifiers(self, user_id: Given, *, detailed: bool = False) -> list[str] | list[IdentifierRecord]:
        """Return a person's identifiers as they were spelt when they were linked, in linking order.

        Secrets are shown by a hint. ``detailed`` brings records with type, scope, proof, expiry and times.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> linked = formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> formation.get_user_identifiers(("U98765ABC", "slack"))
        ['alice@email.com', 'U98765ABC']
        """
        return self._run(self._async.get_user_identifiers(user_id, detailed=detailed))

    def unlink_user_identifier(
        self, identifier: Given, *, force: bool = False, source: str | None = None, reason: str | None = None
    ) -> UnlinkResult:
        """Unlink an identifier from whoever has it. What was recorded through it stays with the person.

        A secret that was unlinked is revoked for ever.

        Raises:
            IdentifierNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and stands for several identifiers: pass the type.
            LastIdentifierError: It is the person's last one; ``force=True`` unlinks it all the same.

        >>> linked = formation.associate_user_identifiers(["alice@email.com", ("U98765ABC", "slack")])
        >>> formation.unlink_user_identifier("alice@email.com")["identifier"]
        'alice@email.com'
        """
        return self._run(self._async.unlink_user_identifier(identifier, force=force, source=source, reason=reason))
