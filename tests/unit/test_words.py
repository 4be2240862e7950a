"""What a search goes by: the words of a text, the same for both databases."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxi_identity.words import MAX_QUERY_WORDS, MAX_WORD, STOP_WORDS, query_words, searchable, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("My budget is $5,000", ["budget", "5000"]),
        ("1,2,3 and 12,345,678 and 1,23", ["1", "2", "3", "12345678", "1", "23"]),
        ("What's Alice's plan? I'd say: don't", ["alice", "plan", "say"]),
        ("What\u2019s Alice\u2019s plan?", ["alice", "plan"]),
        ("Café, CAFE\u0301 and cafe", ["cafe", "cafe", "cafe"]),
        ("Straße, Łódź, Ærø, İstanbul, ığdır", ["strasse", "lodz", "aero", "istanbul", "igdir"]),
        ("ﬁne Ⅳ ½", ["fine", "iv", "1", "2"]),
        ("alice@acme.com", ["alice", "acme", "com"]),
        ("well-known_thing/path—dash", ["well", "known", "thing", "path", "dash"]),
        ("東京タワー near Tokyo", ["東", "京", "タ", "ワ", "ー", "near", "tokyo"]),
        ("Привет, мир", ["привет", "мир"]),
        ("हिन्दी", ["हिन्दी"]),
        ("서울 여행", ["서울", "여행"]),
        ("🙂 party 🎉!", ["party"]),
        ("the who and what", []),
        ('"a" OR NEAR(b, 3) words:* -x ^y \\ \x00', ["near", "b", "3", "words", "x", "y"]),
        ("x" * 200, ["x" * MAX_WORD]),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text) == [unicodedata.normalize("NFC", word) for word in found]


@given(st.text())
def test_a_word_is_nothing_but_letters_digits_and_marks(text: str) -> None:
    for word in words(text):
        assert word not in STOP_WORDS
        assert 0 < len(word) <= MAX_WORD
        assert all(unicodedata.category(character)[0] in "LNM" for character in word)


@given(st.text(alphabet=st.characters(max_codepoint=0x24F)))
def test_case_does_not_count(text: str) -> None:
    assert words(text.upper().lower()) == words(text.lower())


@given(st.text())
def test_what_is_kept_finds_itself(text: str) -> None:
    kept = searchable(text)
    assert words(kept) == kept.split()


def test_what_others_repeat_counts_once() -> None:
    assert searchable("My budget is $5,000 budget", "$5,000", "budget limit") == "budget 5000 budget limit"
    assert searchable("a cat", None, "cat cat dog") == "cat dog"


def test_a_query_is_bounded() -> None:
    assert query_words("go go gone " * 10) == ["go", "gone"]
    assert query_words(" ".join(f"w{number}" for number in range(100))) == [f"w{n}" for n in range(MAX_QUERY_WORDS)]
    assert query_words(" " * 10_000 + "late") == []
