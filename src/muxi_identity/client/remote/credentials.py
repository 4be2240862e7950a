"""Credentials: kept and shown by a preview. A secret never leaves the server."""

from __future__ import annotations

from typing import Any, Protocol, TypedDict

from muxi_identity.arguments import check_text
from muxi_identity.client.remote.asking import Ask, CallerLike, segment
from muxi_identity.client.remote.naming import Named
from muxi_identity.client.remote.transport import Transport
from muxi_identity.errors import EmbeddedOnlyError, InvalidRequestError
from muxi_identity.models import CredentialRecord, CredentialRotation, CredentialService, DeletedCredential
from muxi_identity.secret import Secret

MAX_ID = 64


class Handed(Protocol):
    """A credential that was handed over. ``problem`` is the error to raise where it cannot be kept."""

    @property
    def problem(self) -> InvalidRequestError | None:
        """What is wrong with it."""

    def reveal(self) -> str:
        """Return it in clear."""


class _Credentials(TypedDict):
    credentials: list[CredentialRecord]


class _Services(TypedDict):
    services: list[CredentialService]


class RemoteCredentials:
    """The credentials of the people of a served formation."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def set(
        self, reference: Named, service: object, credential: Handed, *, name: object, caller: CallerLike
    ) -> CredentialRecord:
        """Keep a credential."""
        if credential.problem is not None:
            raise credential.problem
        body = {"service": _plain(service), "name": _plain(name), "credential": credential}
        ask = Ask("POST", "/credentials", user=reference, body=body, keyed=True)
        return await self._transport.call(ask, CredentialRecord)

    async def all(self, reference: Named, service: object = None) -> list[CredentialRecord]:
        """Return the person's credentials, or those for one service."""
        # What is no text can be no name, which the server says of an empty one as well.
        query = {} if service is None else {"service": service if isinstance(service, str) else ""}
        ask = Ask("GET", "/credentials", user=reference, query=query)
        return (await self._transport.call(ask, _Credentials))["credentials"]

    async def get(self, reference: Named, credential_id: object) -> CredentialRecord:
        """Return one credential."""
        return await self._transport.call(Ask("GET", _path(credential_id), user=reference), CredentialRecord)

    async def secret(self, reference: Named, service: object, name: object) -> Secret:
        """Refuse to fetch a secret.

        Raises:
            EmbeddedOnlyError: Always.
        """
        raise EmbeddedOnlyError(
            "A credential's secret never leaves the server. Code that signs in with it runs there: in a process that "
            "has the formation open, get_credential_secret gives it."
        )

    async def delete(self, reference: Named, credential_id: object, caller: CallerLike) -> DeletedCredential:
        """Delete a credential."""
        ask = Ask("DELETE", _path(credential_id), user=reference, keyed=True)
        return await self._transport.call(ask, DeletedCredential)

    async def services(self) -> list[CredentialService]:
        """Return the services that people of the formation have credentials for."""
        ask = Ask("GET", "/credentials/services", admin=True)
        return (await self._transport.call(ask, _Services))["services"]

    async def rotate(self, caller: CallerLike) -> CredentialRotation:
        """Encrypt everybody's credentials with the newest key."""
        ask = Ask("POST", "/credentials/rotate", admin=True, keyed=True, patience=600.0)
        return await self._transport.call(ask, CredentialRotation)


def _path(credential_id: object) -> str:
    # Not quoted in an error: somebody may have passed the secret itself.
    return f"/credentials/{segment(check_text('credential_id', credential_id, MAX_ID))}"


def _plain(given: object) -> Any:
    return given if isinstance(given, str) else None
