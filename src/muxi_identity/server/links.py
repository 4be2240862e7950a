"""What an answer leads to: which calls take what it holds. The OpenAPI document has them as links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_USER = {"header.X-Muxi-User-ID": "$request.header.X-Muxi-User-ID"}
"""Whose it is: a memory or a session is read under the identifier that it was written under."""


class Link(NamedTuple):
    """``to`` are the calls that take ``given``: expressions for the values of parameters."""

    to: tuple[str, ...]
    given: Mapping[str, str]

    def described(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield a link to each of the calls, with its name."""
        for name in self.to:
            yield name, {"operationId": name, "parameters": dict(self.given)}


_PERSON = "$response.body#/data/muxi_user_id"
_OF_A_PERSON = (
    Link(("get_user", "get_user_history", "export_user"), {"path.user_id": _PERSON}),
    Link(
        (
            *("get_user_context", "record_turn", "get_synopsis", "get_preferences", "set_preference"),
            *("get_working_memory", "add_working_memory", "clear_working_memory"),
        ),
        {"path.user_id": "me", "header.X-Muxi-User-ID": _PERSON},
    ),
    Link(
        (
            *("chat", "list_sessions", "restore_session", "list_memories", "add_memory", "search_memories"),
            *("list_credentials", "create_credential", "list_jobs", "create_job"),
        ),
        {"header.X-Muxi-User-ID": _PERSON},
    ),
    Link(("get_user_identifiers",), {"path.identifier": _PERSON}),
)
_MEMORIES = Link(
    ("get_memory", "update_memory", "delete_memory"), {"path.memory_id": "$response.body#/data/id", **_USER}
)
_SESSIONS = Link(
    ("get_session", "get_session_messages", "set_session_context", "clear_session_buffer"),
    {"path.session_id": "$response.body#/data/session_id", **_USER},
)

LINKS: Mapping[str, tuple[Link, ...]] = {
    "resolve_user": _OF_A_PERSON,
    "link_user_identifiers": _OF_A_PERSON,
    "create_user": (*_OF_A_PERSON, Link(("delete_user",), {"path.user_id": _PERSON})),
    "split_user": (Link(("get_user", "get_user_history"), {"path.user_id": "$response.body#/data/new_user_id"}),),
    "merge_users": (Link(("unmerge_users",), {"path.merge_id": "$response.body#/data/merge_id"}),),
    "chat": (_SESSIONS,),
    "record_turn": (_SESSIONS,),
    "restore_session": (_SESSIONS,),
    "add_memory": (_MEMORIES,),
    "set_preference": (
        Link(
            ("get_preference", "delete_preference"),
            {"path.user_id": "me", "path.key": "$request.path.key", **_USER},
        ),
    ),
    "create_credential": (
        Link(("get_credential", "delete_credential"), {"path.credential_id": "$response.body#/data/id", **_USER}),
    ),
    "create_job": (
        Link(
            ("get_job", "update_job", "pause_job", "resume_job", "list_job_runs", "delete_job"),
            {"path.job_id": "$response.body#/data/id"},
        ),
    ),
}
"""By the names of the operations."""
