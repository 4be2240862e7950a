"""Credentials: shown by a preview, handed out by name."""

from __future__ import annotations

from muxi_identity.client.asynchronous.base import AsyncCalls
from muxi_identity.client.operations import Given
from muxi_identity.context.credentials.concealed import CredentialValue, conceal
from muxi_identity.models import CredentialRecord, DeletedCredential
from muxi_identity.secret import Secret


class AsyncCredentialCalls(AsyncCalls):
    """Credentials: shown by a preview, handed out by name."""

    async def set_credential(
        self, user_id: Given, service: str, credential: CredentialValue, *, name: str = "default"
    ) -> CredentialRecord:
        """Keep a credential of a person, encrypted, for use through any of their identifiers.

        ``credential`` is a text, a Secret or a JSON object (a dict: tokens of an OAuth grant), of 64 kB at most;
        ``service`` and ``name`` are names of a-z, 0-9, ``_``, ``.`` and ``-``, and say which it is. What was kept for
        the same service and name is replaced. What is set later wins, through whichever identifier; after an unmerge
        each side has what was set through its own. An identifier that nobody has makes first contact.

        Nothing of it is ever in a prompt, a log, an export or an error; ``preview`` shows enough to recognise it.

        Raises:
            UserNotFoundError: A public id that does not exist, or a secret that is not, or no longer, linked.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            SecretRefusedError: The service or the name looks like a secret.
            TooLargeError: It is too long, or there would be more than 200; ``error.limit`` says how many.
            InvalidRequestError: Service or name is none, or the credential is empty, no text and no JSON object.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was kept.

        >>> kept = await formation.set_credential("user_123", "github", "ghp_1234567890abcdef1234567890abcdef1234")
        >>> kept["preview"]
        'ghp_...1234'
        """
        credential = conceal(credential)
        formation = await self._formation()
        return await formation.credentials.set(
            formation.parse(self._given(user_id)),
            service,
            credential,
            name=name,
            caller=self._caller("set_credential"),
        )

    async def list_credentials(self, user_id: Given, *, service: str | None = None) -> list[CredentialRecord]:
        """Return a person's credentials, or those for one service, by service and name; previews only.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: ``service`` can be none.

        >>> kept = await formation.set_credential("user_123", "notion", "secret-of-four-words", name="work")
        >>> [(each["service"], each["name"]) for each in await formation.list_credentials("user_123")]
        [('notion', 'work')]
        """
        formation = await self._formation()
        return await formation.credentials.all(formation.parse(self._given(user_id)), service)

    async def get_credential(self, credential_id: str, user_id: Given) -> CredentialRecord:
        """Return one credential of a person; its preview only.

        Where another one was set later for the same service and name, through another identifier, that one is
        returned: it is what counts.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            CredentialNotFoundError: The person has no such credential.

        >>> kept = await formation.set_credential("user_123", "notion", "secret-of-four-words")
        >>> (await formation.get_credential(kept["credential_id"], "user_123"))["service"]
        'notion'
        """
        formation = await self._formation()
        return await formation.credentials.get(formation.parse(self._given(user_id)), credential_id)

    async def get_credential_secret(self, user_id: Given, service: str, name: str = "default") -> Secret:
        """Return the secret of a credential, for code of yours that signs in with it.

        It shows as ``***``; ``reveal()`` gives the text (of a JSON object its JSON). Not for a prompt, and not for
        what a browser gets.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            CredentialNotFoundError: The person has no such credential.
            CredentialUnreadableError: The key that it was encrypted with is not configured (``error.key_id``
                names it), or it was changed in the database. Nothing is lost.

        >>> kept = await formation.set_credential("user_123", "notion", "secret-of-four-words")
        >>> secret = await formation.get_credential_secret("user_123", "notion")
        >>> print(secret)
        ***
        >>> secret.reveal()
        'secret-of-four-words'
        """
        formation = await self._formation()
        return await formation.credentials.secret(formation.parse(self._given(user_id)), service, name)

    async def delete_credential(self, credential_id: str, user_id: Given) -> DeletedCredential:
        """Delete a credential of a person, and with it all others that were set for its service and name.

        Which were set through other identifiers does not matter. An unmerge does not bring them back.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            CredentialNotFoundError: The person has no such credential.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was deleted.

        >>> kept = await formation.set_credential("user_123", "notion", "secret-of-four-words")
        >>> (await formation.delete_credential(kept["credential_id"], "user_123"))["deleted"]
        True
        >>> await formation.list_credentials("user_123")
        []
        """
        formation = await self._formation()
        return await formation.credentials.delete(
            formation.parse(self._given(user_id)), credential_id, self._caller("delete_credential")
        )
