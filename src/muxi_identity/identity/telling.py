"""Events of the history as sentences that somebody can read out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from muxi_identity.models import ExplainedStep, iso

# {user}: whom it happened to; {other}: the second user; {identifier}: as the caller named it.
_SENTENCES: Final = {
    "user:create": "{user} was created",
    "user:merge": "{other} was merged into {user}",
    "user:unmerge": "the merge of {other} into {user} was undone",
    "user:split": "{other} was split off {user}",
    "identifier:link": "{identifier} was linked to {user}",
    "identifier:unlink": "{identifier} was unlinked from {user}",
    "identifier:move": "{identifier} was split off {other} and given to {user}",
    "identifier:replace": "{identifier} took the place of another identifier of {user}",
}


def step(row: Any, identifier: str | None, *, user: str | None = None) -> ExplainedStep:
    """Return one event of the history as a step; ``identifier`` is what the caller calls the one it is about.

    ``user`` is named in the sentence in place of the event's own.
    """
    sentence = _SENTENCES[row.event].format(user=user or row.user_id, other=row.other_user_id, identifier=identifier)
    return {
        "event": row.event,
        "at": iso(row.at),
        "muxi_user_id": row.user_id,
        "other_user_id": row.other_user_id,
        "identifier": identifier,
        "merge_id": row.merge_id,
        "actor": row.actor,
        "source": row.source,
        "reason": row.reason,
        "text": f"{sentence}{_by_whom(row)}.",
    }


def _by_whom(row: Any) -> str:
    text = f" by {row.actor}"
    if row.source:
        text += f", from {row.source}"
    return f"{text}, because: {row.reason}" if row.reason else text


def tell(shown: Sequence[str], roots: Sequence[str | None], were_same: bool, steps: Sequence[ExplainedStep]) -> str:
    """Return the whole explanation of two identifiers as a text."""
    if roots[0] is not None and roots[0] == roots[1]:
        head = f"{shown[0]} and {shown[1]} are one person, {roots[0]}."
    else:
        head = f"{_whose(shown[0], roots[0])}, and {_whose(shown[1], roots[1])}: they are not one person. "
        head += "They were once, and are no more." if were_same else "Nothing ever made them one."
    return "\n".join([head, *(f"- {_when(each['at'])}: {each['text']}" for each in steps)])


def _whose(shown: str, root: str | None) -> str:
    if root is None:
        return f"{shown} belongs to nobody any more"
    return f"{shown} belongs to {root}" if shown != root else f"{shown} is a person"


def _when(at: str) -> str:
    return f"{at[:10]} {at[11:19]} UTC"
