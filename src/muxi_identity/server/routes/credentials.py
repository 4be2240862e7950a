"""Credentials: kept encrypted, shown by a preview, never given out here."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from fastapi import Path, Query
from pydantic import WithJsonSchema

from muxi_identity.context.credentials.concealed import MAX_BYTES
from muxi_identity.errors import (
    CredentialNotFoundError,
    CredentialUnreadableError,
    IdentityChangedError,
)
from muxi_identity.models import CredentialRecord, CredentialRotation, CredentialService, DeletedCredential
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import NAMING, Name, OpenBody, UserInBody

routes = Routes("Credentials", "What a person lets the assistant use elsewhere. Encrypted; never answered.")

CredentialInPath = Annotated[str, Path(max_length=256, examples=["cred_7c6b5a49382716f5e4d3"])]
_FINDING = (*NAMING, CredentialNotFoundError)


class Credential(TypedDict):
    """A credential without its secret; ``id`` is ``credential_id`` again."""

    id: str
    credential_id: str
    service: str
    name: str
    preview: str
    created_at: str
    updated_at: str


class CredentialList(TypedDict):
    """A person's credentials."""

    credentials: list[Credential]
    count: int


class ServiceList(TypedDict):
    """The services that people of the formation have credentials for."""

    services: list[CredentialService]
    count: int


class CredentialBody(OpenBody):
    """The secret, a text or an object of texts, and what it is for."""

    service: Name
    credential: Annotated[
        Any,
        WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_BYTES}, {"type": "object"}]}),
    ]
    name: Name = "default"
    user_id: UserInBody = None


_EXAMPLE = {
    "id": "cred_7c6b5a49382716f5e4d3",
    "credential_id": "cred_7c6b5a49382716f5e4d3",
    "service": "github",
    "name": "default",
    "preview": "ghp_...f3a9",
    "created_at": "2026-01-01T00:00:00.000000Z",
    "updated_at": "2026-01-01T00:00:00.000000Z",
}


@routes.add(
    "GET",
    "/credentials",
    access=Access.USER,
    data=CredentialList,
    user=True,
    raises=NAMING,
    example={"credentials": [_EXAMPLE], "count": 1},
)
async def list_credentials(
    call: Calling, service: Annotated[str | None, Query(description="Of this service alone.")] = None
) -> CredentialList:
    """List a person's credentials by preview."""
    found = await call.client.list_credentials(await call.user(), service=service)
    return {"credentials": [_with_id(each) for each in found], "count": len(found)}


@routes.add(
    "GET",
    "/credentials/services",
    access=Access.ADMIN,
    data=ServiceList,
    example={"services": [{"service": "github", "count": 12}], "count": 1},
)
async def list_credential_services(call: Calling) -> ServiceList:
    """List the services that people of the formation have credentials for, and how many."""
    services = await call.client.list_credential_services()
    return {"services": services, "count": len(services)}


@routes.add(
    "POST",
    "/credentials/rotate",
    access=Access.ADMIN,
    data=CredentialRotation,
    repetition="harmless",
    example={"rotated": 12, "kept": 3, "unreadable": 0, "key_id": "3f2a9c1b", "missing_key_ids": []},
)
async def rotate_credentials(call: Calling) -> CredentialRotation:
    """Encrypt all credentials of the formation with the newest key."""
    return await call.client.rotate_credentials()


@routes.add(
    "POST",
    "/credentials",
    access=Access.USER,
    data=Credential,
    user=True,
    status=201,
    repetition="harmless",
    raises=(*NAMING, IdentityChangedError),
    body={"service": "github", "credential": "ghp_0123456789abcdef"},
    example=_EXAMPLE,
)
async def create_credential(call: Calling, body: CredentialBody) -> Credential:
    """Keep a credential, in place of the one of the same service and name. It is encrypted and never answered."""
    return _with_id(
        await call.client.set_credential(await call.user(body.user_id), body.service, body.credential, name=body.name)
    )


@routes.add(
    "GET",
    "/credentials/{credential_id:credential}",
    access=Access.USER,
    data=Credential,
    user=True,
    raises=(*_FINDING, CredentialUnreadableError),
    example=_EXAMPLE,
)
async def get_credential(call: Calling, credential_id: CredentialInPath) -> Credential:
    """Read one credential's record, without its secret."""
    return _with_id(await call.client.get_credential(credential_id, await call.user()))


@routes.add(
    "DELETE",
    "/credentials/{credential_id:credential}",
    access=Access.USER,
    data=DeletedCredential,
    user=True,
    raises=(*_FINDING, IdentityChangedError),
    example={"deleted": True, "credential_id": "cred_7c6b5a49382716f5e4d3"},
)
async def delete_credential(call: Calling, credential_id: CredentialInPath) -> DeletedCredential:
    """Delete a credential, in all channels."""
    return await call.client.delete_credential(credential_id, await call.user())


def _with_id(record: CredentialRecord) -> Credential:
    return {"id": record["credential_id"], **record}
