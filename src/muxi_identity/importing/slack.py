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
    if is_page(page):
        yield from page["members"]
    else:
        yield value


def is_page(value: Any) -> bool:
    """Tell whether a value is a page of members, and none of ours."""
    return isinstance(value, Mapping) and "identifiers" not in value and isinstance(value.get("members"), list)


def is_member(row: Any) -> bool:
    """Tell whether a row is a member of a workspace, and none of ours."""
    return isinstance(row, Mapping) and "identifiers" not in row and isinstance(row.get("id"), str) and "profile" in row


def entry_of(line: int, row: Any, *, scoped: bool, raw: bytes | None = None, begins: int | None = None) -> Entry:
    """Return the entry of a decoded row, of ours or of Slack's. ``scoped``: Slack's ids carry their workspace."""
    entry = _entry_of(line, row, scoped, _text_of(row) if raw is None else raw)
    entry.begins = begins
    return entry


def _text_of(row: Any) -> bytes:
    """Return a row as a line of JSON, for people where it can be."""
    text = json.dumps(row, ensure_ascii=False, sort_keys=True, default=str)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: as such it can be written, and read again, by its number alone
        return json.dumps(row, sort_keys=True, default=str).encode("ascii")


def _entry_of(line: int, row: Any, scoped: bool, raw: bytes) -> Entry:
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
