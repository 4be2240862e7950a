"""Everything about a person, in one archive."""

from __future__ import annotations

from typing import Any, TypedDict


class UserArchive(TypedDict):
    """Everything that is kept of a person, as plain JSON.

    ``format`` is ``"muxi-identity/person"``; ``version`` rises when a key changes its meaning or goes. Times are ISO
    8601 in UTC. Everywhere below, ``user`` is the public id of the user that something was recorded under (before a
    merge each had their own), and ``identifier`` the place in ``identifiers``, counted from 0, of the one that it was
    recorded through, None for none. Keys are shown by their hint, credentials by their preview.

    ``person`` is the record of ``get_user``; ``users`` are the users that make up the person; ``sessions`` hold their
    ``messages`` and ``tasks`` their ``runs``; ``history`` is what was done to the person, oldest first.
    """

    format: str
    version: int
    exported_at: str
    formation_id: str
    person: dict[str, Any]
    users: list[dict[str, Any]]
    identifiers: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    memories: list[dict[str, Any]]
    working_memory: list[dict[str, Any]]
    preferences: list[dict[str, Any]]
    credentials: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    synopses: list[dict[str, Any]]
    link_codes: list[dict[str, Any]]
    merges: list[dict[str, Any]]
    history: list[dict[str, Any]]
