"""What of a person's context a prompt has room for: how tokens are counted, and what is left out first. Pure.

Tokens are estimated, since every model counts otherwise and most can only be asked over the network: one token for
every three bytes of UTF-8, rounded up. English prose has four to five bytes a token, so that the estimate is too high
there by about half; for Chinese and Japanese it is one token a character. It is too low for what looks like noise, such
as keys and hashes. Give a :data:`TokenCounter` of your own to count exactly.

Where not everything fits, this is left out, one by one in this order, until the rest does:

1. items of working memory, the oldest first;
2. scheduled tasks, the last ones first;
3. names of credentials;
4. memories, the least relevant first;
5. messages of the session, the oldest first, a question together with its answer;
6. the session's own keys and values, all at once;
7. the synopsis;
8. preferences, the largest first.

Instructions and the message to be answered are never left out: where they alone are too long, that is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

from muxi_identity.context.sessions.message import Message
from muxi_identity.errors import TooLargeError
from muxi_identity.models import UserContext

TokenCounter: TypeAlias = Callable[[str], int]
"""Tells how many tokens a text is."""

# What a message costs beside its text: its role and its borders.
MESSAGE_TOKENS = 4
_BYTES_A_TOKEN = 3


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text is; see this module for how far to trust it."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a prompt has room for. ``dropped`` is how many items were left out."""

    context: UserContext
    messages: Sequence[Message]
    dropped: int


def fit(
    context: UserContext,
    messages: Sequence[Message],
    *,
    budget: int,
    fixed: int = 0,
    render: Callable[[UserContext], str],
    count: TokenCounter = estimate_tokens,
) -> Fitted:
    """Leave out as little as possible of ``context`` and ``messages`` that the rest is at most ``budget`` tokens.

    ``fixed`` of them go to what is never left out, the message to be answered. ``render`` makes the text that a context
    will be. Deterministic.

    Raises:
        TooLargeError: What is never left out takes more than there is; ``limit`` is the budget.
    """
    turns = _turns(messages)
    drops = list(_drops(context, len(turns)))
    # What the session costs when its first turns are gone.
    costs = [sum(MESSAGE_TOKENS + count(each.content) for each in turn) for turn in turns]
    left = [*reversed(list(accumulate(reversed(costs)))), 0]

    def after(number: int) -> tuple[UserContext, int]:
        kept = UserContext(context)
        gone = 0
        for name, at in drops[:number]:
            if name == _TURN:
                gone += 1
            elif name == _PREFERENCE:
                kept["preferences"] = {key: value for key, value in kept["preferences"].items() if key != at}
            elif isinstance(at, int):
                kept[name] = kept[name][:at]
            else:
                kept[name] = type(kept[name])()
        return kept, gone

    def costs_after(number: int) -> int:
        kept, gone = after(number)
        return fixed + count(render(kept)) + left[gone]

    if costs_after(len(drops)) > budget:
        raise TooLargeError(
            "The message and the instructions are longer than the model's context; shorten the message, or raise "
            "llm.context_tokens where the model takes more.",
            limit=max(budget, 0),
        )
    # The fewest drops that are enough: the cost only falls with each.
    low, high = 0, len(drops)
    while low < high:
        middle = (low + high) // 2
        if costs_after(middle) <= budget:
            high = middle
        else:
            low = middle + 1
    kept, gone = after(low)
    return Fitted(kept, [each for turn in turns[gone:] for each in turn], low)


_TURN = "turn"
_PREFERENCE = "preference"


def _drops(context: UserContext, turns: int) -> Iterator[tuple[str, Any]]:
    """Yield what is left out, in order: the name of a list and how many of it stay, or what goes as a whole."""
    for name in ("working_memory", "tasks", "credentials", "memories"):  # each has the last one to go at its end
        yield from ((name, stay) for stay in range(len(context.get(name) or ()) - 1, -1, -1))
    yield from ((_TURN, None) for _ in range(turns))
    yield from ((name, None) for name in ("session_context", "synopsis") if context.get(name))
    preferences: dict[str, Any] = context.get("preferences") or {}
    sizes = {key: len(repr(value)) + len(key) for key, value in preferences.items()}
    yield from ((_PREFERENCE, key) for key in sorted(sizes, key=lambda key: (-sizes[key], key)))


def _turns(messages: Sequence[Message]) -> list[list[Message]]:
    """Cut a session where its user speaks after somebody else."""
    turns: list[list[Message]] = []
    for message in messages:
        begins = message.role == "user" and not (turns and turns[-1][-1].role == "user")
        if begins or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns
