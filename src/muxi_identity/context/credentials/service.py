"""The credentials of the people of one formation."""

from __future__ import annotations

import re

from muxi_identity.arguments import check_text
from muxi_identity.config import FormationConfig
from muxi_identity.context.access import Access
from muxi_identity.context.credentials import rows
from muxi_identity.context.credentials.concealed import Concealed
from muxi_identity.context.credentials.rotation import rotate
from muxi_identity.context.credentials.vault import Vault
from muxi_identity.context.redaction import find_secret
from muxi_identity.errors import CredentialNotFoundError, InvalidRequestError, SecretRefusedError
from muxi_identity.identity.cache import Hit
from muxi_identity.identity.lookup import Reference
from muxi_identity.identity.running import Caller
from muxi_identity.identity.transaction import Transaction
from muxi_identity.models import CredentialRecord, CredentialRotation, CredentialService, DeletedCredential
from muxi_identity.secret import Secret

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_MAX_NAME = 64
_MAX_ID = 64


class Credentials:
    """The credentials of the people of one formation.

    ``secret`` is the formation's secret key. A key derived from it encrypts where no credential keys are configured,
    and still opens what it encrypted where they are.

    All operations on a person raise AmbiguousIdentifierError where the reference is untyped and several people have it.
    """

    def __init__(self, access: Access, config: FormationConfig, secret: str) -> None:
        self._access = access
        self._vault = Vault([*config.credential_keys, Secret(secret)], config.id)

    async def set(
        self, reference: Reference, service: object, credential: Concealed, *, name: object, caller: Caller
    ) -> CredentialRecord:
        """Encrypt a credential and keep it. An unknown identifier makes first contact.

        Raises:
            UserNotFoundError: A public id or a secret that nobody has.
            SecretRefusedError: Service or name looks like a secret: they are shown.
            TooLargeError: The credential is too long, or there are too many.
            InvalidRequestError: Service or name is none, or the credential is empty or no text and no JSON object.
        """
        service, name = checked_name("service", service), checked_name("name", name)
        if credential.problem is not None:
            raise credential.problem
        return await self._access.write(
            reference, lambda tx, hit: rows.put_credential(tx, hit, self._vault, service, name, credential), caller
        )

    async def all(self, reference: Reference, service: object = None) -> list[CredentialRecord]:
        """Return the person's credentials, or those for one service, without their secrets.

        Raises:
            UserNotFoundError: Nobody has it.
            InvalidRequestError: ``service`` can be none.
        """
        wanted = None if service is None else checked_name("service", service)
        return await self._access.read(reference, lambda tx, hit: rows.list_credentials(tx, hit, wanted))

    async def get(self, reference: Reference, credential_id: object) -> CredentialRecord:
        """Return what counts now of the service and name of ``credential_id``, without the secret.

        Raises:
            UserNotFoundError: Nobody has it.
            CredentialNotFoundError: The person has no such credential.
        """
        wanted = _checked_id(credential_id)
        found = await self._access.read(reference, lambda tx, hit: rows.find_credential(tx, hit, wanted))
        if found is None:
            raise _not_found()
        return found

    async def secret(self, reference: Reference, service: object, name: object) -> Secret:
        """Return the secret of a credential, for code that needs it. Never to be shown to a model.

        Raises:
            UserNotFoundError: Nobody has it.
            CredentialNotFoundError: The person has no such credential.
            CredentialUnreadableError: The key that it was encrypted with is missing, or it was tampered with.
        """
        service, name = checked_name("service", service), checked_name("name", name)
        found = await self._access.read(reference, lambda tx, hit: rows.find_sealed(tx, hit, service, name))
        if found is None:
            raise CredentialNotFoundError(
                f"That person has no credential {service}/{name}; keep one with set_credential.",
                service=service,
                name=name,
            )
        return self._vault.open(*found)

    def secret_in(self, tx: Transaction, hit: Hit, service: object, name: object) -> Secret | None:
        """Do as :meth:`secret` inside a transaction; None where the person has no such credential.

        Raises:
            CredentialUnreadableError: The key that it was encrypted with is missing, or it was tampered with.
            InvalidRequestError: Service or name can be none.
        """
        found = rows.find_sealed(tx, hit, checked_name("service", service), checked_name("name", name))
        return None if found is None else self._vault.open(*found)

    async def delete(self, reference: Reference, credential_id: object, caller: Caller) -> DeletedCredential:
        """Delete a credential, and all others of its service and name, in all members.

        Raises:
            UserNotFoundError: Nobody has it.
            CredentialNotFoundError: The person has no such credential.
        """
        wanted = _checked_id(credential_id)

        def work(tx: Transaction, hit: Hit) -> DeletedCredential:
            if not rows.delete_credentials(tx, hit, wanted):
                raise _not_found()
            return {"deleted": True, "credential_id": wanted}

        return await self._access.write(reference, work, caller, create=False)

    async def services(self) -> list[CredentialService]:
        """Return the services that people of the formation have credentials for."""
        return await self._access.runner.read(rows.list_services)

    async def rotate(self, caller: Caller) -> CredentialRotation:
        """Encrypt everybody's credentials with the newest key; see :func:`rotation.rotate`."""
        return await rotate(self._access.runner, self._vault, caller)


def checked_name(what: str, given: object) -> str:
    """Return the name of a service or of a credential in lower case.

    Raises:
        SecretRefusedError: It looks like a secret.
        InvalidRequestError: It is no name.
    """
    problem = f"{what} must be a name of 1 to {_MAX_NAME} of a-z, 0-9, '_', '.' and '-', the first a letter or a digit."
    if not isinstance(given, str) or len(given) > 4 * _MAX_NAME:
        raise InvalidRequestError(problem)
    text = str.__str__(given).strip()
    found = find_secret(text)
    if found is not None:
        raise SecretRefusedError(
            f"{what} looks like {found}, and is kept in clear: pass the secret as the credential, not as the {what}."
        )
    # ASCII before lower(): the Kelvin sign lowers to "k".
    form = text.lower() if text.isascii() else ""
    if not _NAME.fullmatch(form):
        raise InvalidRequestError(problem)
    return form


def _checked_id(credential_id: object) -> str:
    # Not quoted in an error: somebody may have passed the secret itself.
    return check_text("credential_id", credential_id, _MAX_ID)


def _not_found() -> CredentialNotFoundError:
    return CredentialNotFoundError("That person has no credential of this id.")
