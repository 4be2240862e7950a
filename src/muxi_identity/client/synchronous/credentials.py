"""Credentials: shown by a preview, handed out by name.

Made by scripts/generate_sync.py from the module of the same name in client/asynchronous.
"""

from __future__ import annotations

from muxi_identity.client.asynchronous.credentials import AsyncCredentialCalls
from muxi_identity.client.blocking import BlockingCalls
from muxi_identity.client.operations import Given
from muxi_identity.context.credentials.concealed import CredentialValue, conceal
from muxi_identity.models import CredentialRecord, DeletedCredential
from muxi_identity.secret import Secret


class CredentialCalls(BlockingCalls):
    """Credentials: shown by a preview, handed out by name."""

    _async: AsyncCredentialCalls

    def set_credential(
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

        >>> kept = formation.set_credential("user_123", "github", "ghp_1234567890abcdef1234567890abcdef1234")
        >>> kept["preview"]
        'ghp_...1234'
        """
        credential = conceal(credential)
        return self._run(self._async.set_credential(user_id, service, credential, name=name))

    def list_credentials(self, user_id: Given, *, service: str | None = None) -> list[CredentialRecord]:
        """Return a person's credentials, or those for one service, by service and name; previews only.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            InvalidRequestError: ``service`` can be none.

        >>> kept = formation.set_credential("user_123", "notion", "secret-of-four-words", name="work")
        >>> [(each["service"], each["name"]) for each in formation.list_credentials("user_123")]
        [('notion', 'work')]
        """
        return self._run(self._async.list_credentials(user_id, service=service))

    def get_credential(self, credential_id: str, user_id: Given) -> CredentialRecord:
        """Return one credential of a person; its preview only.

        Where another one was set later for the same service and name, through another identifier, that one is
        returned: it is what counts.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            CredentialNotFoundError: The person has no such credential.

        >>> kept = formation.set_credential("user_123", "notion", "secret-of-four-words")
        >>> formation.get_credential(kept["credential_id"], "user_123")["service"]
        'notion'
        """
        return self._run(self._async.get_credential(credential_id, user_id))

    def get_credential_secret(self, user_id: Given, service: str, name: str = "default") -> Secret:
        """Return the secret of a credential, for code of yours that signs in with it.

        It shows as ``***``; ``reveal()`` gives the text (of a JSON object its JSON). Not for a prompt, and not for
        what a browser gets.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            CredentialNotFoundError: The person has no such credential.
            CredentialUnreadableError: The key that it was encrypted with is not configured (``error.key_id``
                names it), or it was changed in the database. Nothing is lost.

        >>> kept = formation.set_credential("user_123", "notion", "secret-of-four-words")
        >>> secret = formation.get_credential_secret("user_123", "notion")
        >>> print(secret)
        ***
        >>> secret.reveal()
        'secret-of-four-words'
        """
        return self._run(self._async.get_credential_secret(user_id, service, name))

    def delete_credential(self, credential_id: str, user_id: Given) -> DeletedCredential:
        """Delete a credential of a person, and with it all others that were set for its service and name.

        Which were set through other identifiers does not matter. An unmerge does not bring them back.

        Raises:
            UserNotFoundError: Nobody has it.
            AmbiguousIdentifierError: It has no type and several people are known by it: pass the type.
            CredentialNotFoundError: The person has no such credential.
            IdentityChangedError: The identifier went to somebody else meanwhile; nothing was deleted.

        >>> kept = formation.set_credential("user_123", "notion", "secret-of-four-words")
        >>> formation.delete_credential(kept["credential_id"], "user_123")["deleted"]
        True
        >>> formation.list_credentials("user_123")
        []
        """
        return self._run(self._async.delete_credential(credential_id, user_id))
