"""Preferences: values by key that follow the person."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from fastapi import Path

from muxi_identity.errors import IdentityChangedError, PreferenceNotFoundError, SecretRefusedError
from muxi_identity.models import DeletedPreference, PreferenceRecord
from muxi_identity.server.call import Access
from muxi_identity.server.operations import Calling, Routes
from muxi_identity.server.routes.shapes import NAMING, Body, Flag, Json, UserInPath, or_me

routes = Routes("Preferences", "Values by key that follow the person.")

KeyInPath = Annotated[str, Path(max_length=1024, examples=["language"])]

_LANGUAGE: dict[str, Any] = {
    "key": "language",
    "value": "de",
    "shareable": False,
    "channel": "slack",
    "created_at": "2026-01-01T00:00:00.000000Z",
    "updated_at": "2026-01-01T00:00:00.000000Z",
}
_FINDING = (*NAMING, PreferenceNotFoundError)


class PreferenceList(TypedDict):
    """All preferences of a person: the values by key, and the whole records."""

    preferences: dict[str, Any]
    records: list[PreferenceRecord]
    count: int


class PreferenceBody(Body):
    """The value, of any JSON type."""

    value: Json
    shareable: Flag = False


@routes.add(
    "GET",
    "/users/{user_id:user}/preferences",
    access=Access.USER,
    data=PreferenceList,
    user=True,
    raises=NAMING,
    example={"preferences": {"language": "de"}, "records": [_LANGUAGE], "count": 1},
)
async def get_preferences(call: Calling, user_id: UserInPath) -> PreferenceList:
    """List a person's preferences; where two channels set the same key, the newest one counts."""
    records: list[PreferenceRecord] = await call.client.get_preferences(await call.user(or_me(user_id)), detailed=True)
    values = {record["key"]: record["value"] for record in records}
    return {"preferences": values, "records": records, "count": len(records)}


@routes.add(
    "GET",
    "/users/{user_id:user}/preferences/{key:segment}",
    access=Access.USER,
    data=PreferenceRecord,
    user=True,
    raises=_FINDING,
    example=_LANGUAGE,
)
async def get_preference(call: Calling, user_id: UserInPath, key: KeyInPath) -> PreferenceRecord:
    """Read one preference of a person."""
    return await call.client.get_preference(await call.user(or_me(user_id)), key)


@routes.add(
    "PUT",
    "/users/{user_id:user}/preferences/{key:segment}",
    access=Access.USER,
    data=PreferenceRecord,
    user=True,
    raises=(*NAMING, SecretRefusedError, IdentityChangedError),
    body={"value": "de"},
    example=_LANGUAGE,
)
async def set_preference(call: Calling, user_id: UserInPath, key: KeyInPath, body: PreferenceBody) -> PreferenceRecord:
    """Set a preference, for all channels of the person."""
    return await call.client.set_preference(await call.user(or_me(user_id)), key, body.value, shareable=body.shareable)


@routes.add(
    "DELETE",
    "/users/{user_id:user}/preferences/{key:segment}",
    access=Access.USER,
    data=DeletedPreference,
    user=True,
    raises=(*_FINDING, IdentityChangedError),
    example={"deleted": True, "key": "language"},
)
async def delete_preference(call: Calling, user_id: UserInPath, key: KeyInPath) -> DeletedPreference:
    """Delete a preference, in all channels."""
    return await call.client.delete_preference(await call.user(or_me(user_id)), key)
