"""Preferences: values by key that follow the person.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from typing import Any, Literal, overload

from muxi_identity.client.asynchronous.preferences import AsyncPreferenceCalls
from muxi_identity.client.blocking import BlockingCalls
from muxi_identity.client.operations import Given
from muxi_identity.models import DeletedPreference, PreferenceRecord


class PreferenceCalls(BlockingCalls):
    """Preferences: values by key that follow the person."""

    _async: AsyncPreferenceCalls

    def set_preference(self, user_id: Given, key: str, value: Any, *, shareable: bool = False) -> PreferenceRecord:
        """Set a preference of a person, to be read by any of their identifiers.

        ``value`` is what JSON has (a text, a number, true, false, None, a list, a dict with texts as keys; 8,000
        characters of JSON at most) and comes back with its type. ``shareable`` says that others may read it: in a
        conversation with a shared audience nothing else is used. What is set later wins, through whichever identifier;
        after an unmerge each side has what was set through its own. An identifier that nobody has makes first contact.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            SecretRefusedError: It looks like a key or a password: keep it with set_credential.
            TooLargeError: Key or value is too long, or there would be more than 1,000; ``error.limit`` says how many.
            InvalidRequestError: The key is no printable text, or JSON has no such value.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was set.

        >>> kept = formation.set_preference("user_123", "language", "de")
        >>> formation.get_preferences("user_123")["language"]
        'de'
        """
        return self._run(self._async.set_preference(user_id, key, value, shareable=shareable))

    @overload
    def get_preferences(self, user_id: Given, *, detailed: Literal[False] = False) -> dict[str, Any]: ...

    @overload
    def get_preferences(self, user_id: Given, *, detailed: Literal[True]) -> list[PreferenceRecord]: ...

    @overload
    def get_preferences(self, user_id: Given, *, detailed: bool) -> dict[str, Any] | list[PreferenceRecord]: ...

    def get_preferences(self, user_id: Given, *, detailed: bool = False) -> dict[str, Any] | list[PreferenceRecord]:
        """Return a person's preferences: values by key, as they were last set through any identifier.

        ``detailed`` brings records, with the time and the channel (the identifier's type) that they were set through.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.

        >>> kept = formation.set_preference(("U98765ABC", "slack"), "digest", {"daily": True})
        >>> formation.get_preferences(("U98765ABC", "slack"))
        {'digest': {'daily': True}}
        >>> formation.get_preferences(("U98765ABC", "slack"), detailed=True)[0]["channel"]
        'slack'
        """
        return self._run(self._async.get_preferences(user_id, detailed=detailed))

    def get_preference(self, user_id: Given, key: str) -> PreferenceRecord:
        """Return one preference of a person, as it was last set through any identifier.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            PreferenceNotFoundError: The person has set no such preference.
            InvalidRequestError: The key is no printable text.

        >>> kept = formation.set_preference("user_123", "font size", 14)
        >>> formation.get_preference("user_123", "font size")["value"]
        14
        """
        return self._run(self._async.get_preference(user_id, key))

    def delete_preference(self, user_id: Given, key: str) -> DeletedPreference:
        """Delete a preference of a person, through whichever of their identifiers it was set.

        An unmerge does not bring it back.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            PreferenceNotFoundError: The person has set no such preference.
            InvalidRequestError: The key is no printable text.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was deleted.

        >>> kept = formation.set_preference("user_123", "language", "de")
        >>> formation.delete_preference("user_123", "language")["deleted"]
        True
        >>> formation.get_preferences("user_123")
        {}
        """
        return self._run(self._async.delete_preference(user_id, key))
