"""Codes that join two channels of one person."""

from __future__ import annotations

from typing import TypedDict


class LinkCode(TypedDict):
    """A code to be typed in another channel before it expires."""

    code: str
    expires_at: str


class IdentifierHint(TypedDict):
    """An identifier, shown just enough to be recognised by whoever it belongs to."""

    type: str | None
    hint: str


class LinkRedemption(TypedDict):
    """What a link code joins, or has joined.

    ``joined`` is false in a preview. ``already_one``: both were the same person before. ``yours`` are hints of what
    the person of the redeeming identifier is known by, ``theirs`` of whoever asked for the code, at most 20 each.
    ``muxi_user_id`` and ``merge_id`` are set once they are joined; the latter is None where nothing had to be merged.
    """

    joined: bool
    already_one: bool
    yours: list[IdentifierHint]
    theirs: list[IdentifierHint]
    expires_at: str
    muxi_user_id: str | None
    merge_id: str | None
