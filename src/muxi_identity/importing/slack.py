"""The shape of Slack's users.list: pages of members, or members alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from muxi_identity.importing.entries import Entry

_SLACKBOT = "USLACKBOT"


def members_of(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the members of a page, or what is none by itself."""
    page = getattr(value, "data", value)  # the response of Slack's own library
    members = page.get("members") if isinstance(page, Mapping) and "identifiers" not in page else None
    if isinstance(members, list):
        yield from members
    else:
        yield value


def is_member(row: Any) -> bool:
    """Tell whether a row is a member of a workspace, and none of ours."""
    return isinstance(row, Mapping) and "identifiers" not in row and isinstance(row.get("id"), str) and "profile" in row


def entry_of(line: int, row: Any, *, scoped: bool, raw: bytes | None = None) -> Entry:
    """Return the entry of a decoded row, of ours or of Slack's. ``scoped``: Slack's ids carry their workspace."""
    if raw is None:
        raw = json.dumps(row, ensure_ascii=False, sort_keys=True, default=str).encode("utf-8", "surrogatepass")
    if not isinstance(row, Mapping):
        return Entry(line, raw, fault='Each row is a mapping: {"identifiers": ["alice@email.com", ...]}.')
    if not is_member(row):
        return Entry(line, raw, row)
    skip = _why_not(row)
    if skip is not None:
        return Entry(line, raw, skip=skip)
    return Entry(line, raw, _row(row, scoped))


def _why_not(member: Mapping[str, Any]) -> str | None:
    if member["id"] == _SLACKBOT:
        return "slackbot"
    if member.get("is_bot") or member.get("is_workflow_bot"):
        return "bot"
    return "deleted" if member.get("deleted") else None


def _row(member: Mapping[str, Any], scoped: bool) -> Mapping[str, Any]:
    team = member.get("team_id") if scoped else None
    slack = {"identifier": member["id"], "type": "slack", **({"scope": team} if team else {})}
    profile = member.get("profile")
    email = profile.get("email") if isinstance(profile, Mapping) else None
    return {"identifiers": [*([(email, "email")] if email else []), slack]}
