"""A person in a few sentences: deterministic, bounded, and on one line whatever people say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxi_identity.context.memories.facts import Fact
from muxi_identity.context.synopsis.rules import MAX_SYNOPSIS, describe


def test_the_whole_of_it() -> None:
    facts = [
        Fact("budget", "My budget is $5,000", "$5,000"),
        Fact("like: hiking", "I like hiking with my dog", "hiking with my dog"),
        Fact("work at", "I work at Acme", "Acme"),
        Fact("live in", "I live in Berlin", "Berlin"),
        Fact("name", "My name is Alice", "Alice"),
    ]
    assert describe(facts, ["Met at the fair"], {"tone": "brief", "language": "de", "digest": True}) == (
        "Name: Alice. Lives in Berlin. Works at Acme. Prefers: digest = true; language = de; tone = brief. "
        "Budget: $5,000. Likes hiking with their dog. Note: Met at the fair."
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("I am a teacher", "Is a teacher."),
        ("I have two cats", "Has two cats."),
        ("I do not like olives", "Does not like olives."),
        ("I watch birds", "Watches birds."),
        ("I study Greek", "Studies Greek."),
        ("I play chess", "Plays chess."),
        ("I moved to Rome", "Moved to Rome."),
        ("I can swim", "Can swim."),
        ("I grew up in Lyon", "Said: I grew up in Lyon."),
        ("I like my job", "Likes their job."),
        ("i like tea!", "Likes tea!"),
        ("Me: whatever", "K: v."),
    ],
)
def test_in_the_third_person(content: str, sentence: str) -> None:
    assert describe([Fact("k", content, "v")], [], {}) == sentence


def test_nothing_is_nothing() -> None:
    assert describe([], [], {}) == ""
    assert describe([Fact("k", "c", None)], [" "], {}) == ""


def test_what_does_not_fit_is_left_out_and_the_name_stays() -> None:
    facts = [Fact(f"attribute {n}", f"My attribute {n} is", "v" * 100) for n in range(50)]
    text = describe([*facts, Fact("name", "My name is Alice", "Alice")], ["n" * 500] * 9, {"k" * 100: "v" * 5000})
    assert text.startswith("Name: Alice. ")
    assert MAX_SYNOPSIS - 160 < len(text) <= MAX_SYNOPSIS
    assert "\u2026" in text


texts = st.text(max_size=300)


@given(
    st.lists(st.builds(Fact, texts, texts, st.none() | texts), max_size=8),
    st.lists(texts, max_size=8),
    st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=3), max_size=5),
)
def test_one_bounded_line_whatever_is_said(facts: list[Fact], notes: list[str], preferences: dict[str, object]) -> None:
    text = describe(facts, notes, preferences)
    assert text == describe(facts, notes, preferences)
    assert len(text) <= MAX_SYNOPSIS
    assert len(text.splitlines()) <= 1
    assert "\x1b" not in text
