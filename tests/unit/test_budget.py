"""What of a context a prompt has room for: never too much, and left out in the order that is written down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxi_identity.context.sessions.message import Message
from muxi_identity.conversation.budget import MESSAGE_TOKENS, Fitted, estimate_tokens, fit
from muxi_identity.errors import TooLargeError
from muxi_identity.models import UserContext

LISTS = ("working_memory", "tasks", "credentials", "memories")


def render(context: UserContext) -> str:
    """Everything that a context holds, and nothing that grows when something is taken out."""
    return "".join(f"{name}:{json.dumps(value)}\n" for name, value in context.items() if value)


def cost(fitted: Fitted) -> int:
    return estimate_tokens(render(fitted.context)) + sum(
        MESSAGE_TOKENS + estimate_tokens(each.content) for each in fitted.messages
    )


def context_of(**parts: Any) -> UserContext:
    empty: dict[str, Any] = {
        "synopsis": "", "preferences": {}, "memories": [], "working_memory": [], "credentials": [], "tasks": [],
        "session_context": {},
    }  # fmt: skip
    return UserContext(empty | parts)


TEXTS = st.text(alphabet="ab é漢🙂", min_size=1, max_size=30)
CONTEXTS = st.builds(
    context_of,
    synopsis=TEXTS,
    preferences=st.dictionaries(TEXTS, TEXTS, max_size=4),
    session_context=st.dictionaries(TEXTS, TEXTS, max_size=2),
    **{name: st.lists(TEXTS, max_size=4) for name in LISTS},
)
MESSAGES = st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), TEXTS), max_size=8)


@settings(max_examples=300, deadline=None)
@given(CONTEXTS, MESSAGES, st.integers(0, 400))
def test_it_is_never_over_the_budget_and_drops_in_order(
    context: UserContext, messages: list[Message], budget: int
) -> None:
    before = json.dumps(context)
    try:
        fitted = fit(context, messages, budget=budget, render=render)
    except TooLargeError:
        assert budget < 1  # everything here can be left out, and nothing costs nothing
        return
    kept = fitted.context

    assert cost(fitted) <= budget
    assert json.dumps(context) == before
    gone: list[bool] = []
    for name in LISTS:
        assert kept[name] == context[name][: len(kept[name])]  # the last ones went
        gone.append(len(kept[name]) < len(context[name]))
    assert list(fitted.messages) == messages[len(messages) - len(fitted.messages) :]  # the oldest went
    gone.append(len(fitted.messages) < len(messages))
    gone += [kept[name] != context[name] for name in ("session_context", "synopsis", "preferences")]
    assert kept["preferences"].items() <= context["preferences"].items()
    # Whatever comes before something that went, went altogether.
    left = [*(bool(kept[name]) for name in LISTS), bool(fitted.messages), bool(kept["session_context"])]
    left.append(bool(kept["synopsis"]))
    for at, went in enumerate(gone):
        if went:
            assert not any(left[:at])


@settings(max_examples=100, deadline=None)
@given(CONTEXTS, MESSAGES, st.integers(1, 400))
def test_it_leaves_out_no_more_than_it_must(context: UserContext, messages: list[Message], budget: int) -> None:
    fitted = fit(context, messages, budget=budget, render=render)
    if fitted.dropped:
        more = fit(context, messages, budget=cost(fitted), render=render)
        assert more.dropped == fitted.dropped
        whole = Fitted(context, messages, 0)
        assert cost(whole) > budget


def test_a_question_goes_together_with_its_answer() -> None:
    messages = [
        Message("user", "a" * 30), Message("assistant", "b" * 30), Message("user", "c" * 30), Message("user", "d" * 30),
        Message("assistant", "e" * 30),
    ]  # fmt: skip
    left = {
        tuple(each.content[0] for each in fit(context_of(), messages, budget=budget, render=render).messages)
        for budget in range(200)
    }
    assert left == {tuple("abcde"), tuple("cde"), ()}


def test_an_answer_without_its_question_goes_first() -> None:
    messages = [Message("assistant", "a" * 30), Message("user", "b" * 30)]
    assert [each.content[0] for each in fit(context_of(), messages, budget=15, render=render).messages] == ["b"]


def test_the_largest_preference_goes_first() -> None:
    context = context_of(preferences={"language": "de", "style": "x" * 100, "units": "metric"})
    fitted = fit(context, [], budget=30, render=render)
    assert fitted.context["preferences"] == {"language": "de", "units": "metric"}


def test_what_is_never_left_out_must_fit() -> None:
    with pytest.raises(TooLargeError) as raised:
        fit(context_of(), [], budget=9, render=lambda context: "x" * 30)
    assert raised.value.limit == 9
    with pytest.raises(TooLargeError) as raised:
        fit(context_of(), [], budget=-5, render=render)
    assert raised.value.limit == 0


def test_another_way_of_counting_is_used() -> None:
    context = context_of(memories=["one two three", "four five six"])
    fitted = fit(context, [], budget=3, render=lambda kept: " ".join(kept["memories"]), count=lambda t: len(t.split()))
    assert fitted.context["memories"] == ["one two three"]


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_estimate_grows_with_the_text(one: str, other: str) -> None:
    assert estimate_tokens(one + other) >= max(estimate_tokens(one), estimate_tokens(other))
    assert estimate_tokens(one + other) <= estimate_tokens(one) + estimate_tokens(other)


def test_the_estimate_is_what_is_written_down() -> None:
    assert [estimate_tokens(text) for text in ("", "a", "abc", "abcd", "漢字", "🙂", "\ud800")] == [0, 1, 1, 2, 2, 2, 1]
