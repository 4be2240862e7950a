"""The preferences of the people of one formation."""

from __future__ import annotations

from muxi_identity.arguments import check_flag
from muxi_identity.context.access import Access
from muxi_identity.context.preferences.rows import (
    delete_preferences,
    preference_key,
    read_preferences,
    set_preferences,
    write_preference,
)
from muxi_identity.errors import PreferenceNotFoundError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import Caller
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import DeletedPreference, PreferenceRecord


class Preferences:
    """The preferences of the people of one formation.

    All operations raise AmbiguousIdentifierError where the reference is untyped and several people have it.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def set(
        self, reference: Reference, key: object, value: object, *, shareable: bool, caller: Caller
    ) -> PreferenceRecord:
        """Set one preference and return it. An unknown identifier makes first contact.

        Raises:
            UserNotFoundError: A public id or a secret that nobody has.
            SecretRefusedError: Key or value looks like a secret.
            TooLargeError: One of them is too long, or there are too many.
            InvalidRequestError: The key is no printable text, or JSON has no such value.
        """
        check_flag("shareable", shareable)
        form, _ = write_preference(key, value)  # before anybody is made for it

        def work(tx: Transaction, hit: Hit) -> PreferenceRecord:
            set_preferences(tx, hit, {form: value}, shareable)
            (record,) = read_preferences(tx, hit, form)
            return record

        return await self._access.write(reference, work, caller)

    async def all(self, reference: Reference) -> list[PreferenceRecord]:
        """Return the person's preferences by key, each as it was last set.

        Raises:
            UserNotFoundError: Nobody has it.
        """
        return await self._access.read(reference, read_preferences)

    async def get(self, reference: Reference, key: object) -> PreferenceRecord:
        """Return one preference, as it was last set.

        Raises:
            UserNotFoundError: Nobody has it.
            PreferenceNotFoundError: The person has set no such preference.
            InvalidRequestError: The key can be none.
        """
        form = preference_key(key)
        found = await self._access.read(reference, lambda tx, hit: read_preferences(tx, hit, form))
        if not found:
            raise _not_found(form)
        return found[0]

    async def delete(self, reference: Reference, key: object, caller: Caller) -> DeletedPreference:
        """Delete one preference, through whichever identifier it was set.

        Raises:
            UserNotFoundError: Nobody has it.
            PreferenceNotFoundError: The person has set no such preference.
            InvalidRequestError: The key can be none.
        """
        form = preference_key(key)

        def work(tx: Transaction, hit: Hit) -> DeletedPreference:
            if not delete_preferences(tx, hit, form):
                raise _not_found(form)
            return {"deleted": True, "key": form}

        return await self._access.write(reference, work, caller, create=False)


def _not_found(key: str) -> PreferenceNotFoundError:
    return PreferenceNotFoundError("That person has set no preference of this key.", key=key)
